"""The number of processes to run, and the CPU of each.

Every function here depends only on the root of the file system and the environment that it is given, so that a test can
describe any machine as a handful of files.

Two limits count, as in Go since 1.25: the affinity mask (which CPUs) and the cgroup quota (how much CPU time). A quota
of 2.5 CPUs gives 3 processes, since 2 could not use it up. A quota below 2 still gives 2, because a single process that
waits would leave its share unused. Go looks at the innermost cgroup only. Here an outer group with a smaller quota
counts, too, since it throttles just the same.

The command line and every ``import goproc`` import this file, so it imports nothing heavy.
"""

from __future__ import annotations

import math
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MAX_PROCS = 255  # the most workers: with the host 256 processes, one for each bit of the bitmaps in layout.h

# One thread per process: the parallelism comes from the processes. If the libraries of each worker started a thread per
# CPU, the threads would fight for the CPUs.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "BLIS_NUM_THREADS",
)

ON_DEATH = ("restart", "continue", "exit")  # policies when a worker dies
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


# -- the user's settings -------------------------------------------------------------------------------------


def parse_procs(value: str | int, source: str) -> int:
    """Return the number of workers that ``value`` asks for.

    Args:
        value: the user's text or number.
        source: the place of the setting (``--procs``, ``GOPROC_PROCS``, ``runtime(procs=...)``), for the error.

    Raises:
        ValueError: `value` is not a whole number from 0 to 255. Go ignores a GOMAXPROCS that it cannot read. goproc
            does not, because a program that quietly runs on the wrong number of cores is found out much later.
    """
    hint = f"give a whole number from 0 to {MAX_PROCS}, or leave it out to use every CPU this process may use"
    if isinstance(value, str):
        text = value.strip()
        # int() also takes '1_0', '+4' and the digits of other scripts.
        number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
        if number is None and text.startswith("-") and text[1:].isascii() and text[1:].isdigit():
            raise ValueError(f"{source}: {value!r} is negative: {hint}")
    else:
        number = value if isinstance(value, int) and not isinstance(value, bool) else None
    if number is None:
        raise ValueError(f"{source}: {value!r} is not a whole number: {hint}")
    if number < 0:
        raise ValueError(f"{source}: {number} is negative: {hint}")
    if number > MAX_PROCS:
        raise ValueError(f"{source}: {number} is more than goproc can start: {hint}")
    return number


def parse_on_death(value: str, source: str = "--on-death") -> str:
    """Return the policy for deaths of workers that ``value`` names.

    Raises:
        ValueError: there is no policy of that name.
    """
    if value not in ON_DEATH:
        raise ValueError(f"{source}: {value!r} is not a policy: give one of {', '.join(ON_DEATH)}")
    return value


def parse_memory(value: str | int, source: str = "--memory") -> int:
    """Return the number of bytes that ``value`` asks for: ``512M``, ``1.5G``, ``2GiB``, or plain bytes.

    Raises:
        ValueError: `value` is not a positive size.
    """
    hint = "give a size such as 512M or 4G (units K, M, G, T of 1024)"
    if isinstance(value, int) and not isinstance(value, bool):
        size: float | None = value
    else:
        text = str(value).strip().upper()
        for suffix in ("IB", "B"):
            if text.endswith(suffix):
                text = text[: -len(suffix)]
                break
        unit = text[-1:] if text[-1:].isalpha() else ""
        digits = text[: len(text) - len(unit)].strip()
        plain = digits.isascii() and len(digits) < 20 and digits.replace(".", "", 1).isdigit()
        number = (int(digits) if digits.isdigit() else float(digits)) if plain else None
        size = number * _UNITS[unit] if number is not None and unit in _UNITS else None
        if size is not None and not unit and size % 1:
            size = None  # half a byte: the unit is missing
    if size is None:
        raise ValueError(f"{source}: {value!r} is not a size: {hint}")
    if size < 1:
        raise ValueError(f"{source}: {value!r} leaves no memory at all: {hint}")
    if size >= 1 << 47:
        raise ValueError(f"{source}: {value!r} is more than a process can map: {hint}")
    return int(size)


def blas_defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the thread variables of BLAS, OpenMP and Numba to add to a worker's environment.

    Variables that the user has set are left out. The rest must be set before the worker imports anything, as the
    libraries read them once.
    """
    return {name: "1" for name in _THREAD_VARIABLES if not environ.get(name)}


def blas_single_threaded(environ: Mapping[str, str]) -> bool:
    """True if an import of a numeric library under ``environ`` starts no threads."""
    return all(environ.get(name, "1") in ("", "1") for name in _THREAD_VARIABLES)


# -- the machine's CPUs --------------------------------------------------------------------------------------


def allowed_cpus() -> list[int]:
    """Return the CPUs of this process's affinity mask, in ascending order."""
    return sorted(os.sched_getaffinity(0))


def cpu_quota(root: str = "/") -> float | None:
    """Return the CPU time that this process's cgroups allow it, in CPUs; None if they set no limit.

    The function reads cgroup v2 (``cpu.max``) and v1 (``cpu.cfs_quota_us``), or both on a hybrid system. It takes the
    smallest limit from the process's own group up to the mount point. A file that cannot be read sets no limit.
    """
    limits = [limit for group in _cgroup_folders(root) if (limit := _group_quota(group)) is not None]
    return min(limits, default=None)


def effective_cpus(root: str = "/", cpus: Sequence[int] | None = None) -> int:
    """Return the number of CPUs that this process may use, by affinity mask and cgroup quota.

    Settings of the user do not count.

    Args:
        root: where the file system starts (for tests).
        cpus: the affinity mask; by default this process's own.
    """
    count = len(allowed_cpus() if cpus is None else cpus)
    quota = cpu_quota(root)
    if quota is None:
        return count
    return max(1, min(count, max(2, math.ceil(quota))))


def default_procs(
    root: str = "/", environ: Mapping[str, str] | None = None, cpus: Sequence[int] | None = None
) -> int:
    """Return the default number of processes: effective_cpus(), within the CPUs that SLURM allots."""
    count = min(effective_cpus(root, cpus), MAX_PROCS)
    slurm = (os.environ if environ is None else environ).get("SLURM_CPUS_PER_TASK", "")
    # The batch system sets these, not the user: an unreadable value is no reason to refuse to run.
    if slurm.isascii() and slurm.isdigit() and len(slurm) < 20 and int(slurm) > 0:
        count = min(count, int(slurm))
    return count


def _cgroup_folders(root: str) -> Iterable[str]:
    """Return the folders of this process's cgroups that can hold a CPU limit, the innermost first."""
    groups: dict[str, str] = {}  # file system type -> path of this process's group, as the kernel shows it
    for line in _read(root, "proc/self/cgroup").splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3:
            if fields[1] == "":
                groups["cgroup2"] = fields[2]
            elif "cpu" in fields[1].split(","):
                groups["cgroup"] = fields[2]
    for line in _read(root, "proc/self/mountinfo").splitlines():
        before, dash, after = line.partition(" - ")
        mount, filesystem = before.split(), after.split()
        if not dash or len(mount) < 5 or len(filesystem) < 3 or filesystem[0] not in groups:
            continue
        kind = filesystem[0]
        if kind == "cgroup" and "cpu" not in filesystem[2].split(","):
            continue
        top, point, group = _unescape(mount[3]), _unescape(mount[4]), groups[kind]
        # Inside a container without a cgroup namespace the path begins with the path of the mounted subtree.
        if top != "/" and (group + "/").startswith(top + "/"):
            group = group[len(top) :]
        elif top != "/":
            group = ""
        parts = [part for part in group.split("/") if part and part != ".."]
        for depth in range(len(parts), -1, -1):
            yield os.path.join(root, point.lstrip("/"), *parts[:depth])


def _group_quota(folder: str) -> float | None:
    fields = _read(folder, "cpu.max").split() or [
        _read(folder, "cpu.cfs_quota_us").strip(),
        _read(folder, "cpu.cfs_period_us").strip(),
    ]
    try:
        quota, period = int(fields[0]), int(fields[1])
    except (ValueError, IndexError):  # 'max', or no such file
        return None
    return quota / period if quota > 0 and period > 0 else None  # v1 writes -1 for no limit


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name), encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError:
        return ""


def _unescape(path: str) -> str:
    """Replace the octal codes by which mountinfo writes space, tab, newline and backslash."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path


# -- which CPU for which process -----------------------------------------------------------------------------


def spread_cpus(cpus: Iterable[int], root: str = "/") -> list[int]:
    """Return ``cpus`` with one hardware thread of every core first, then the second ones, and so on.

    Two processes on the two threads of one core get little more than half of the core each, so that comes last.
    """
    # The list of a core's threads, which names the core -> the number of its threads seen so far.
    seen: dict[str, int] = {}
    ranked: list[tuple[int, int]] = []
    for cpu in sorted(cpus):
        folder = f"sys/devices/system/cpu/cpu{cpu}/topology"
        core = (_read(root, f"{folder}/thread_siblings_list") or str(cpu)).strip()
        rank = seen.get(core, 0)
        seen[core] = rank + 1
        ranked.append((rank, cpu))
    return [cpu for _, cpu in sorted(ranked)]


def plan_pinning(procs: int, cpus: Sequence[int], quota: float | None) -> list[int | None]:
    """Return the CPU of each process, by its number; None for a process that stays free to move.

    The host is the user's own process and is never pinned: goproc may be a small part of its work, and all its threads
    would inherit the pin. Beside workers it only coordinates. Each worker gets a core. If the workers do not all fit,
    or the quota stops them before they fill their cores, no worker is pinned: a pinned process that shares its core
    loses whole time slices which the kernel would have given it elsewhere.

    Args:
        procs: the number of workers.
        cpus: the allowed CPUs in the order of preference (see spread_cpus).
        quota: cpu_quota().
    """
    fits = procs <= len(cpus) and (quota is None or quota >= procs)
    return [None, *(cpus[:procs] if fits else [None] * procs)]
