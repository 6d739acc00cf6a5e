"""The scheduler of one process. It uses the core only, and gets the functions of its clients from them."""
