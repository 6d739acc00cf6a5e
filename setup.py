"""The C core: everything that touches shared memory. The rest of the build is in pyproject.toml."""

from setuptools import Extension, setup

SOURCES = [
    "segment",
    "backing",
    "pages",
    "reclaim",
    "heap",
    "lock",
    "park",
    "queue",
    "channel",
    "select",
    "sync",
    "timer",
    "context",
    "deadlock",
    "threads",
    "monitor",
    "tasks",
    "collector",
    "descriptors",
    "death",
    "coroner",
    "memory",
    "handles",
    "codec",
    "wait",
    "types",
    "sync_types",
    "with_method",
    "select_type",
    "clock_types",
    "goroutines",
    "watch",
    "stacks",
    "copy",
    "held",
    "guard",
    "bindings",
    "dump",
    "output",
    "interrupt",
    "module",
]

FLAGS = [
    "-std=c11",
    "-O2",
    "-Wall",
    "-Wextra",
    "-fno-strict-aliasing",
    "-fvisibility=hidden",
]

setup(
    ext_modules=[
        Extension(
            "goproc.shm._core",
            [f"goproc/shm/{name}.c" for name in SOURCES],
            depends=[f"goproc/shm/{name}.h" for name in ("layout", "core", "pages", "python")],
            extra_compile_args=FLAGS,
        ),
        # By itself, because `goproc run` needs it before the script, and nothing of the core.
        Extension("goproc.shm._keeper", ["goproc/shm/keeper.c"], extra_compile_args=FLAGS),
    ]
)
