"""The C core: everything that touches shared memory. The rest of the build is in pyproject.toml."""

import os
from glob import glob

from setuptools import Extension, setup

FLOORS = ["mem", "chan", "proc", "python"]  # each uses those before it
KEEPER = sorted(glob("goproc/shm/keeper/*.c"))

FLAGS = [
    "-std=c11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
]

if os.environ.get("GOPROC_DEBUG") == "1":  # invariants are checked at run time: shm/invariant.h
    FLAGS += ["-DGP_DEBUG", "-g"]

setup(
    ext_modules=[
        Extension(
            "goproc.shm._core",
            [file for floor in FLOORS for file in sorted(glob(f"goproc/shm/{floor}/*.c"))],
            include_dirs=["goproc/shm"],
            depends=sorted(glob("goproc/shm/*.h") + glob("goproc/shm/*/*.h")),
            extra_compile_args=FLAGS,
        ),
        # By itself, because `goproc run` needs it before the script, and nothing of the core.
        Extension(
            "goproc.shm._keeper", KEEPER, depends=glob("goproc/shm/keeper/*.h"), extra_compile_args=FLAGS
        ),
    ]
)
