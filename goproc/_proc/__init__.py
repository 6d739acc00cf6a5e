"""The processes of a program: the host, the zygote, the workers, and how each of them begins and ends."""
