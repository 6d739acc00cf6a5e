"""Builds the programs of this directory: the core, without Python, and a harness. Each file is compiled with its own flags."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SHM = HERE.parent.parent / "goproc" / "shm"
FLAGS = [
    "-std=c11",
    "-g",
    "-O2",
    "-fno-strict-aliasing",
    "-Wall",
    "-Wextra",
    "-Werror",
    f"-I{SHM}",
    f"-I{HERE}",
]


def compiler() -> str:
    """Return the C compiler, or skip the test."""
    found = shutil.which("cc")
    if found is None:
        pytest.skip("there is no C compiler (cc)")
    return found


def core() -> list[Path]:
    """Return the files of the core that know no Python."""
    return [f for floor in ("mem", "chan", "proc") for f in sorted(SHM.glob(f"{floor}/*.c"))]


def compiled(folder: Path, sources: Sequence[Path], flags: Sequence[str] = ()) -> list[Path]:
    """Compile the sources; return the object files, in `folder`."""
    cc = compiler()
    objects = [folder / f"{source.stem}.o" for source in sources]

    def one(source: Path, built: Path) -> None:
        subprocess.run([cc, *FLAGS, *flags, "-c", source, "-o", built], check=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(one, sources, objects))
    return objects


def linked(program: Path, objects: Sequence[Path], flags: Sequence[str] = ()) -> Path:
    """Link the object files."""
    subprocess.run([compiler(), *objects, "-lpthread", *flags, "-o", program], check=True)
    return program
