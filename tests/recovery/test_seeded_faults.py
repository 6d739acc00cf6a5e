"""Proof that the images of test_crash_images.py see something: with each fault of faults.py some of them are wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from faults import FAULTS, Fault

pytestmark = pytest.mark.watchdog(200)  # a fault in a header is compiled everywhere

HERE = Path(__file__).parent
SHM = HERE.parent.parent / "goproc" / "shm"
FLAGS = ["-std=c11", "-g", "-O1", "-fno-strict-aliasing"]


def compile_all(folder: Path, files: list[Path], objects: Path) -> None:
    def one(file: Path) -> None:
        out = objects / f"{file.stem}.o"
        subprocess.run(["cc", *FLAGS, f"-I{folder}", "-c", str(file), "-o", str(out)], check=True)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(one, files))


class Built:
    """The core and the crash images in a folder of their own, to be changed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shm = folder / "goproc" / "shm"
        for floor in ("mem", "chan", "proc"):
            shutil.copytree(SHM / floor, self.shm / floor)
        for header in SHM.glob("*.h"):
            shutil.copy(header, self.shm)
        tests = folder / "tests" / "recovery"
        tests.mkdir(parents=True)
        for file in HERE.glob("crash_*.[ch]"):
            shutil.copy(file, tests)
        self.files = [f for floor in ("mem", "chan", "proc") for f in sorted((self.shm / floor).glob("*.c"))]
        self.files = [*(f for f in self.files if f.stem != "keeper"), *tests.glob("*.c")]
        self.objects = folder / "objects"
        self.objects.mkdir()
        compile_all(self.shm, self.files, self.objects)
        self.sound = folder / "sound"
        shutil.copytree(self.objects, self.sound)

    def with_fault(self, fault: Fault) -> subprocess.CompletedProcess[str]:
        file = self.shm / fault.file
        text = file.read_text()
        assert text.count(fault.text) == 1, f"{fault.file} has changed: {fault.text!r}"
        file.write_text(text.replace(fault.text, fault.instead))
        try:
            changed = self.files if file.suffix == ".h" else [file]
            compile_all(self.shm, changed, self.objects)
            program = self.folder / "crash_image"
            line = [
                "cc",
                *map(str, self.objects.glob("*.o")),
                "-lpthread",
                "-Wl,-z,now,--wrap=gp_futex_wake,--wrap=clock_gettime",
                "-o",
                str(program),
            ]
            subprocess.run(line, check=True)
            names = fault.scenarios.split("|")
            every = "7" if {"collect", "memory", "reclaim", "select over 70"} & set(names) else "1"
            env = {**os.environ, "EVERY": every, "FIRST": "1"}
            return subprocess.run([program, *names], env=env, capture_output=True, text=True, timeout=20)
        finally:
            file.write_text(text)
            shutil.copytree(self.sound, self.objects, dirs_exist_ok=True)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_seen(built: Built, name: str) -> None:
    try:
        done = built.with_fault(FAULTS[name])
    except subprocess.TimeoutExpired:
        return  # it hangs: seen
    assert done.returncode != 0, done.stdout
