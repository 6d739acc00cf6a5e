"""The protocol model: what the C core does to shared memory, step by step, in every order and with deaths at every step."""
