"""The types of the plan and of the order that the host sends to the zygote: see launch.py.

No process loads this file: only type checkers do.
"""

from __future__ import annotations

from typing import Any, TypedDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from goproc._proc.interpreter import Settings


class Plan(TypedDict):
    """The zygote's start arguments: plain values, because marshal carries them."""

    path: list[str]  # sys.path
    beside: str | None  # for _isolation.follow()
    argv: list[str]  # sys.argv
    flags: list[str]  # interpreter_flags()
    preload: list[str]  # modules to import first; those that fail are skipped
    # The words of the script's command line, or none. The zygote imports ahead the modules that this script
    # imports.
    program: list[str]
    # If not empty, the zygote makes these imports ahead and does not read the script.
    statements: list[tuple[str, tuple[str, ...]]]
    # The socket that brings the names of the modules which the host imports (follow.py), or -1.
    follow: int
    early: bool  # True if the order to fork may be far away


class Surroundings(TypedDict):
    """The state of the host that its workers must have, as if the host had just started the zygote."""

    environ: dict[str, str]
    umask: int
    ignored: list[int]  # numbers of signals
    flags: list[str]
    origins: dict[str, str | None]  # the file of each top-level module of the host


class Config(TypedDict):
    """The host's order to the zygote and every worker. The values are plain, because marshal carries them."""

    procs: int  # the number of processes, the host included
    pinning: list[int | None]  # the CPU of each proc
    host_pid: int
    path: list[str]  # sys.path
    beside: str  # for _isolation.follow()
    argv: list[str]  # sys.argv
    # File, doc, package and spec's name of the module __main__.
    main: dict[str, str | None]
    interpreter: Settings | None
    recursion_limit: int
    codecs: list[tuple[str, str] | None]  # (encoding, errors) of stdout and stderr
    preload: list[str]  # modules to import before the first fork; those that fail are skipped
    entry: str  # module:function, the life of a worker; called with (proc, config, memfd)
    zygote_pid: int  # filled in by the zygote
    keeper_pid: int  # filled in by the zygote: its parent, or 0 if that is the host
    # The number of the zygote: 1, and one more for each that takes the place of a dead one.
    zygote: int
    ends_with_keeper: bool  # True: the death of the keeper ends the program
    adopted: list[int]  # pids of the workers of dead zygotes
    crashes: int  # filled in by the zygote: the file of _crashes.py, or -1
    authkey: bytes  # multiprocessing's, if the host has loaded that
    surroundings: Surroundings
    extra: dict[str, Any]  # for the runtime's own use
