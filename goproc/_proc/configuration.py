"""The configuration of a runtime: arguments of ``runtime(...)``, variables of the environment, defaults."""

from __future__ import annotations

import os

from goproc import _deaths, _setup
from goproc._proc import fatal, topology
from goproc._proc.processes import Runtime

__goproc_frames__ = "machinery"

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MEMORY_MOST = 8 << 30
_READ_LATER = ("GOPROC_PREEMPT", "GOPROC_DEADLOCK")  # other modules read them, where no error can be raised


def _default_memory() -> int:
    """Return a quarter of the memory that the machine or the container has, at most 8 GiB."""
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            with open(path) as file:
                have = min(have, int(file.read()))
        except (OSError, ValueError):
            pass
    return max(64 << 20, min(have // 4, _MEMORY_MOST))


def _switch(variable: str, default: bool) -> bool:
    """Return the value of a variable that is 0 or 1.

    Raises:
        ValueError: the variable is neither.
    """
    value = os.environ.get(variable) or str(int(default))
    if value not in ("0", "1"):
        raise ValueError(f"{variable}: {value!r} is neither 0 nor 1")
    return value == "1"


def configured(
    procs: int | None = None,
    memory: int | str | None = None,
    pin: bool | None = None,
    on_death: str | None = None,
    init: Callable[[], object] | str | None = None,
    gpus: str | list[int] | None = None,
    per_gpu: int | None = None,
    quiet_deaths: bool | None = None,
) -> Runtime:
    env = os.environ
    setup = _setup.Setup(init, gpus, per_gpu, env)
    if procs is not None:
        procs = topology.parse_procs(procs, "runtime(procs=...)")
    elif "GOPROC_PROCS" in env:
        procs = topology.parse_procs(env["GOPROC_PROCS"], "GOPROC_PROCS")
    else:
        procs = setup.default_procs() or topology.default_procs()
    setup.check_room(procs)
    if memory is not None:
        memory = topology.parse_memory(memory, "runtime(memory=...)")
    elif "GOPROC_MEMORY" in env:
        memory = topology.parse_memory(env["GOPROC_MEMORY"], "GOPROC_MEMORY")
    else:
        memory = _default_memory()
    if pin is None:
        pin = _switch("GOPROC_PIN", True)
    policy = topology.parse_on_death(
        on_death if on_death is not None else env.get("GOPROC_ON_DEATH", _deaths.DEFAULT),
        "runtime(on_death=...)" if on_death is not None else "GOPROC_ON_DEATH",
    )
    if fatal.unread_policy() not in fatal.POLICIES:
        raise ValueError(f"GOPROC_UNREAD={env['GOPROC_UNREAD']!r}: give one of {', '.join(fatal.POLICIES)}")
    if quiet_deaths is None:
        quiet_deaths = _switch("GOPROC_QUIET_DEATHS", False)
    for variable in _READ_LATER:
        _switch(variable, True)
    return Runtime(procs, memory, pin, policy, setup, bool(quiet_deaths))
