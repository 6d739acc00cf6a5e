"""``goproc run``: run a Python program on several processes.

The options become environment variables, and then this process becomes the Python that runs the script. So
sys.argv, sys.path, ``-m``, tracebacks and the exit status are Python's own, and ``python script.py`` with the
same variables is the same run.
"""

from __future__ import annotations

import os
import sys

from goproc import _setup
from goproc._proc.topology import default_procs, parse_memory, parse_on_death, parse_procs
from goproc._record import Record
from goproc.cli import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping, Sequence
    from typing import NoReturn


class Command(Record):
    """A command line taken apart."""

    settings: dict[str, str]  # environment variables
    python: list[str]  # the words after Python's own options
    help: bool


USAGE = """\
usage: goproc run [OPTION...] SCRIPT    [OPTION...] [ARG...]
       goproc run [OPTION...] -m MODULE [OPTION...] [ARG...]
       goproc run [OPTION...] -         [OPTION...] [ARG...]

Run a Python file, a module (-m) or standard input (-) on several processes.

Options stand before the script or right after it. They end at the first word
that is not one of them, or at `--`; everything from there on is the script's.

options:
  --procs N          how many workers run goroutines (0 to 255; default: the
                     CPUs this process may use); 0: the script's own process
                     runs them, for a debugger
  --no-pin           let the workers move between CPUs
  --memory SIZE      limit of the shared memory, such as 512M or 4G
  --init MODULE:FUNC call a function in each process before its first goroutine
  --gpus auto|0,1    give each worker one GPU, in turn (CUDA_VISIBLE_DEVICES)
  --per-gpu N        at most N workers on each GPU
  --on-death POLICY  when a worker dies its goroutines fail with WorkerDied;
                     then restart (the default): it is replaced, continue: it
                     is not, exit: the program ends at once with a report
  --quiet-deaths     no line on stderr for a worker that died
  -h, --help         print this and stop

The environment variables GOPROC_PROCS, GOPROC_PIN (0 or 1), GOPROC_MEMORY,
GOPROC_ON_DEATH, GOPROC_QUIET_DEATHS (0 or 1), GOPROC_INIT, GOPROC_GPUS and
GOPROC_PER_GPU do the same for a plain `python script.py`.
"""

_VALUED = ("--procs", "--memory", "--on-death", "--init", "--gpus", "--per-gpu")
_FLAGS = {"--no-pin": ("GOPROC_PIN", "0"), "--quiet-deaths": ("GOPROC_QUIET_DEATHS", "1")}
_OPTIONS = (*_VALUED, *_FLAGS)


def main(words: Sequence[str]) -> int:
    """Run the command line after ``goproc run``. Does not return unless it only prints something.

    Raises:
        UsageError: the command line or a GOPROC_* variable is wrong, or there is no such script.
    """
    command = split(words)
    if command.help:
        print(USAGE, end="")
        return 0
    check_environment(os.environ, command.settings)
    check_script(command.python)
    execute(command, os.environ)


def split(words: Sequence[str]) -> Command:
    """Split the command line: goproc's options, the program, and the program's arguments.

    Raises:
        UsageError: an option is unknown, lacks its value or has a bad one; there is no program.
    """
    rest = list(words)
    settings: dict[str, str] = {}
    while _take_option(rest, settings):
        pass
    if rest and rest[0] in ("-h", "--help"):
        return Command(settings, [], True)
    ended = bool(rest) and rest[0] == "--"
    if ended:
        del rest[0]
    if not rest:
        raise UsageError("no script; usage: goproc run [OPTION...] SCRIPT [ARG...]")
    first = rest.pop(0)
    if ended and first.startswith("-") and first != "-":
        program = [os.path.join(os.curdir, first)]  # a file of that name; Python would take it for an option
    elif first == "-m":
        if not rest:
            raise UsageError("-m needs the name of a module")
        program = ["-m", rest.pop(0)]
    elif first.startswith("-m") and not ended:
        program = ["-m", first[2:]]
    elif first == "-c":
        raise UsageError("-c is not supported; put the program in a file, or pipe it into `goproc run -`")
    elif first.startswith("-") and first != "-":
        raise UsageError(_unknown(first))
    elif first == "":
        raise UsageError("the name of the script is empty")
    else:
        program = [first]
    if not ended:
        while _take_option(rest, settings):
            pass
        if rest and rest[0] == "--":
            del rest[0]
    return Command(settings, program + rest, False)


def _take_option(rest: list[str], settings: dict[str, str]) -> bool:
    """Take one of our options off the front of ``rest``; False if none is there."""
    name, equals, value = rest[0].partition("=") if rest else ("", "", "")
    if name not in _OPTIONS:
        return False
    if name in _FLAGS:
        if equals:
            raise UsageError(f"{name} takes no value")
        variable, text = _FLAGS[name]
        settings[variable] = text
        del rest[0]
        return True
    if not equals:
        if len(rest) < 2:
            raise UsageError(f"{name} needs a value, such as {name} {_EXAMPLES[name]}")
        value = rest[1]
    variable, text = _check(name, value, name)
    settings[variable] = text
    del rest[: 1 if equals else 2]
    return True


_EXAMPLES = {
    "--procs": "8",
    "--memory": "4G",
    "--on-death": "restart",
    "--init": "mymodule:setup",
    "--gpus": "auto",
    "--per-gpu": "2",
}


def _check(option: str, value: str, source: str) -> tuple[str, str]:
    """Return the environment variable of ``option`` and its text for ``value``."""
    try:
        if option == "--procs":
            return "GOPROC_PROCS", str(parse_procs(value, source))
        if option == "--memory":
            return "GOPROC_MEMORY", str(parse_memory(value, source))
        if option == "--init":
            return "GOPROC_INIT", _setup.check_name(value, source)
        if option == "--gpus":
            return "GOPROC_GPUS", _setup.parse_gpus(value, source)
        if option == "--per-gpu":
            return "GOPROC_PER_GPU", str(_setup.parse_per_gpu(value, source))
        return "GOPROC_ON_DEATH", parse_on_death(value, source)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _unknown(word: str) -> str:
    from difflib import get_close_matches

    name = word.partition("=")[0]
    close = get_close_matches(name, _OPTIONS, 1)
    hint = f"did you mean {close[0]}?" if close else "options of the script stand after it"
    return f"unknown option {name!r}; {hint}"


def check_environment(environ: Mapping[str, str], settings: Mapping[str, str]) -> None:
    """Refuse a GOPROC_* variable that would make the program fail later, unless an option overrides it."""
    for option in _VALUED:
        variable = "GOPROC_" + option[2:].replace("-", "_").upper()
        if variable in environ and variable not in settings:
            _check(option, environ[variable], variable)
    for variable, _ in _FLAGS.values():
        if environ.get(variable, "1") not in ("0", "1"):
            raise UsageError(f"{variable}: {environ[variable]!r} is neither 0 nor 1")


def check_script(python: Sequence[str]) -> None:
    """Refuse a script that is not there. A module is Python's to look for."""
    script = python[0]
    if script in ("-", "-m"):
        return
    if not os.path.exists(script):
        raise UsageError(f"no such script: {script!r}" + _other_place(script))
    if os.path.isdir(script):
        if not os.path.exists(os.path.join(script, "__main__.py")):
            raise UsageError(f"{script!r} is a folder without a __main__.py")
    elif not os.access(script, os.R_OK):
        raise UsageError(f"{script!r} cannot be read: permission denied")


def _other_place(script: str) -> str:
    if os.path.isfile(script + ".py"):
        return f"; did you mean {script + '.py'!r}?"
    return "" if os.path.isabs(script) else f" in {os.getcwd()!r}"


def execute(command: Command, environ: MutableMapping[str, str]) -> NoReturn:
    """Become the Python that runs the program, with the zygote started beside it."""
    from goproc._proc.launch import interpreter_flags

    if not sys.executable:
        raise UsageError("Python does not know its own executable (sys.executable is empty)")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    variables = {**environ, **command.settings}
    # One seed for all processes: or hash(key) % n would send a key elsewhere from the host than from a worker.
    variables.setdefault("PYTHONHASHSEED", str(int.from_bytes(os.urandom(4), "little")))
    flags = interpreter_flags()
    found_by = _start_zygote(command.python, variables, flags)
    if sys.flags.inspect:
        flags.append("-i")
    if getattr(sys.stdout, "write_through", False):
        flags.append("-u")
    os.execve(sys.executable, [sys.executable, *flags, *found_by, *command.python], variables)


def _start_zygote(python: Sequence[str], environ: Mapping[str, str], flags: Sequence[str]) -> list[str]:
    """Start the zygote if the program will have workers; return the options by which Python finds it."""
    from goproc._proc import early

    if "GOPROC_PROCS" in environ:
        procs = parse_procs(environ["GOPROC_PROCS"], "GOPROC_PROCS")
    else:
        procs = default_procs()
    # A zygote that imports ahead would look for GPUs before each worker has its own.
    if procs == 0 or environ.get("GOPROC_GPUS"):
        return []
    return early.launch_for_script(python, environ, flags)
