"""Runs the measurements, each in a fresh process, peers in turn: A B C A B C ..."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.golang import Compiler
from bench.model import Peer, Row

ROOT = Path(__file__).parent.parent
TIMEOUT = 60.0
#: A peer that has failed this often in a row, without one success, is not tried again.
_GIVE_UP = 2


@dataclass
class Outcome:
    """The results of one peer in one row.

    Attributes:
        values: one a round, None where it failed.
        error: the first line of the last error, if there was one.
        note: what the last measurement said of itself.
        missing: what is not installed, if that is why there are no values.
    """

    values: list[float | None] = field(default_factory=list)
    error: str = ""
    note: str = ""
    missing: str = ""

    @property
    def good(self) -> list[float]:
        return [value for value in self.values if value is not None]


def run_row(
    row: Row, rounds: int, scale: float, compiler: Compiler, progress: Callable[[str], None]
) -> dict[str, Outcome]:
    """Measures every peer of a row once in each round.

    Args:
        row: what to measure.
        rounds: how often.
        scale: multiplies every peer's number of operations.
        compiler: builds the Go programs.
        progress: is told in a few words what runs now.
    """
    outcomes = {peer.name: Outcome(missing=peer.missing() or "") for peer in row.peers}
    for number in range(1, rounds + 1):
        for peer in row.peers:
            outcome = outcomes[peer.name]
            if outcome.missing:
                continue
            if not outcome.good and len(outcome.values) >= _GIVE_UP:
                outcome.values.append(None)
                continue
            progress(f"{row.name}: round {number}/{rounds}: {peer.name}")
            try:
                result = measure(peer, scale, compiler)
            except RuntimeError as error:
                outcome.values.append(None)
                outcome.error = str(error)
            else:
                outcome.values.append(float(result["value"]))
                outcome.note = result.get("note", "")
    return outcomes


def measure(peer: Peer, scale: float, compiler: Compiler) -> dict[str, Any]:
    """One measurement in a fresh process.

    Raises:
        RuntimeError: it failed; the message is one line.
    """
    process = subprocess.Popen(
        _command(peer, scale, compiler),
        cwd=_import_path(),
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        output, errors = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise RuntimeError(f"no result after {TIMEOUT:g} s") from None
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    for line in reversed(output.splitlines()):
        try:
            result = json.loads(line)
        except ValueError:
            continue
        if isinstance(result, dict) and "error" in result:
            raise RuntimeError(result["error"])
        if isinstance(result, dict) and "value" in result and process.returncode == 0:
            return result
    raise RuntimeError(f"exit status {process.returncode}: {_first_line(errors)}")


def _command(peer: Peer, scale: float, compiler: Compiler) -> list[str]:
    arguments = peer.scaled(scale)
    if peer.program:
        return [str(compiler.build(peer.program)), *(f"-{name}={value}" for name, value in arguments.items())]
    if peer.script:
        return [sys.executable, "-m", peer.script, json.dumps(arguments)]
    return [sys.executable, "-m", "bench.measure", str(peer.function), json.dumps(arguments)]


def _environment() -> dict[str, str]:
    """The caller's environment, in which `bench` can be imported and goproc has its defaults."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOPROC_")}
    path = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([_import_path(), *([path] if path else [])])
    return environment


@functools.cache
def _import_path() -> str:
    """Return the folder in which the measurements find `bench`.

    If the C core was built in this tree, that is the tree, and its goproc is measured. If goproc was installed from the
    tree, the one in the tree has no core and must not hide the installed one: then `bench` is reached by a link.
    """
    if any((ROOT / "goproc" / "shm").glob("_core.*.so")):
        return str(ROOT)
    directory = tempfile.mkdtemp(prefix="goproc-bench-")
    atexit.register(shutil.rmtree, directory)
    (Path(directory) / "bench").symlink_to(Path(__file__).parent)
    return directory


def _first_line(errors: str) -> str:
    """The line that says what went wrong: of a traceback the last, otherwise the first."""
    lines = [line for line in errors.splitlines() if line.strip()]
    if not lines:
        return "nothing on stderr"
    return lines[-1] if lines[0].startswith("Traceback") else lines[0]
