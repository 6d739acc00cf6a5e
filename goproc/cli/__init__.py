"""The ``goproc`` command. Each command is a file beside this one; nothing of the runtime is imported."""

from __future__ import annotations

import sys

from goproc._proc.sigint_early import LINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE = """\
usage: goproc COMMAND ...

Go's concurrency for Python, on all cores.

commands:
  run SCRIPT [ARG...]   run a Python program on several processes
                        (`goproc run --help` lists its options)
  dump PID              show all goroutines of a running program

options:
  --version             print the version and stop
  -h, --help            print this and stop

example:
  goproc run script.py --procs 8
"""


class UsageError(Exception):
    """The command line is wrong. Its text is the one line the user sees; the exit status is 2."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (sys.argv's when left out) and return the exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        return _main(words)
    except UsageError as error:
        command = f"goproc {words[0]}" if words[:1] in (["run"], ["dump"]) else "goproc"
        print(f"{command}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(LINE)
        return 130


def _main(words: list[str]) -> int:
    if not words:
        raise UsageError("no command; the usual one is `goproc run SCRIPT`, see `goproc --help`")
    command = words[0]
    if command in ("-h", "--help", "help"):
        print(USAGE, end="")
        return 0
    if command in ("-V", "--version"):
        print(_version())
        return 0
    if command == "run":
        from goproc.cli import run

        return run.main(words[1:])
    if command == "dump":
        from goproc.cli import dump

        return dump.main(words[1:])
    if command.startswith("-"):
        raise UsageError(f"unknown option {command!r}; options of the program stand after `goproc run`")
    if command.endswith(".py"):
        raise UsageError(f"unknown command {command!r}; did you mean `goproc run {command}`?")
    raise UsageError(f"unknown command {command!r}; see `goproc --help`")


def _version() -> str:
    from goproc import __version__

    return f"goproc {__version__} (Python {sys.version.split()[0]})"
