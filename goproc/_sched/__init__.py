"""The scheduler of one process, and what it needs. It touches the core only: its clients are told to it."""
