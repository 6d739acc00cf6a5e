"""The letters between the host and the zygote, on the control socket: see zygote.py.

Every host imports this file, so only a builtin module stands at the top.
"""

from __future__ import annotations

import struct

# MEMORY and STACK come before DIED. MEMORY: the most KiB that the worker had resident. STACK: lines of text behind the
# record.
STARTED, DIED, FORK_FAILED, MEMORY, STACK, WOKEN = 1, 2, 3, 4, 5, 6
RECORD = struct.Struct("<IIii")
QUIT = b"Q"
INTERRUPTED = b"I"
ORDER = b"G"
FORK = b"F"
WAKE = b"W"
FOLLOW = b"M"
# What comes with the order to fork, beside the standard streams, which have their numbers
FOLDER, CONTINUE, END = 3, 4, 5
LIMIT = 2.0  # seconds from SIGTERM on for a worker that runs its exit handlers

# The names of a worker that runs its exit handlers, that ends its programs, and that has done both. At most 15 bytes
LEAVES = b"goproc-%d ends"
STOPS = b"goproc-%d stop"
LEFT = b"goproc-%d left"
