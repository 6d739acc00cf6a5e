"""The number of processes and their CPUs, on machines described as files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from goproc._proc import topology

V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"


def machine(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(root)


def v2(root: Path, cpu_max: str, group: str = "/") -> str:
    return machine(
        root,
        {
            "proc/self/cgroup": f"0::{group}\n",
            "proc/self/mountinfo": V2,
            f"sys/fs/cgroup{group.rstrip('/')}/cpu.max": cpu_max,
        },
    )


# -- quota ---------------------------------------------------------------------------------------------------


def test_no_cgroup_sets_no_limit(tmp_path: Path) -> None:
    assert topology.cpu_quota(str(tmp_path)) is None
    assert topology.effective_cpus(str(tmp_path), range(7)) == 7


@pytest.mark.parametrize(
    ("cpu_max", "quota"),
    [
        ("max 100000\n", None),
        ("200000 100000\n", 2.0),
        ("250000 100000\n", 2.5),
        ("50000 100000\n", 0.5),
        ("", None),
        ("nonsense", None),
        ("0 100000", None),
        ("100000 0", None),
        ("-1 100000", None),
    ],
)
def test_quota_v2(tmp_path: Path, cpu_max: str, quota: float | None) -> None:
    assert topology.cpu_quota(v2(tmp_path, cpu_max)) == quota


@pytest.mark.parametrize(
    ("cpu_max", "cpus", "procs"),
    [
        ("250000 100000", 8, 3),  # rounded up
        ("200000 100000", 8, 2),
        ("100000 100000", 8, 2),  # never below 2 ...
        ("10000 100000", 8, 2),
        ("10000 100000", 1, 1),  # ... unless the mask is smaller
        ("900000 100000", 4, 4),
        ("max 100000", 4, 4),
        ("max 100000", 300, 255),
    ],
)
def test_procs_from_quota_and_mask(tmp_path: Path, cpu_max: str, cpus: int, procs: int) -> None:
    root = v2(tmp_path, cpu_max)
    assert topology.default_procs(root, {}, range(cpus)) == procs


def test_an_outer_group_counts_too(tmp_path: Path) -> None:
    root = v2(tmp_path, "max 100000", "/pod/container")
    machine(tmp_path, {"sys/fs/cgroup/pod/cpu.max": "300000 100000"})
    assert topology.cpu_quota(root) == 3.0


def test_quota_v1(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "7:cpu,cpuacct:/job\n3:cpuset:/job\n1:name=systemd:/\n",
            "proc/self/mountinfo": "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
            + V1
            + "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "350000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        },
    )
    assert topology.cpu_quota(root) == 3.5
    assert topology.effective_cpus(root, range(16)) == 4


def test_cpuset_is_not_mistaken_for_cpu(tmp_path: Path) -> None:
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "3:cpuset:/\n",
            "proc/self/mountinfo": "34 31 0:31 / /sys/fs/cgroup/cpuset rw - cgroup cgroup rw,cpuset\n",
            "sys/fs/cgroup/cpuset/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpuset/cpu.cfs_period_us": "100000\n",
        },
    )
    assert topology.cpu_quota(root) is None


def test_container_without_cgroup_namespace(tmp_path: Path) -> None:
    """The kernel shows the path on the host, the mount shows our subtree as its root."""
    root = machine(
        tmp_path,
        {
            "proc/self/cgroup": "4:cpu,cpuacct:/docker/abc\n0::/elsewhere\n",
            "proc/self/mountinfo": V1.replace(" / /sys", " /docker/abc /sys")
            + V2.replace(" / /sys/fs/cgroup ", " /other /sys/fs/cgroup/uni\\040fied "),
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "450000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/uni fied/cpu.max": "400000 100000\n",
        },
    )
    assert topology.cpu_quota(root) == 4.0


@pytest.mark.parametrize(
    ("value", "procs"),
    [("3", 3), ("1", 1), ("64", 8), ("0", 8), ("", 8), ("x", 8), ("-2", 8), ("9" * 5000, 8)],
)
def test_slurm(tmp_path: Path, value: str, procs: int) -> None:
    assert topology.default_procs(str(tmp_path), {"SLURM_CPUS_PER_TASK": value}, range(8)) == procs
    assert topology.effective_cpus(str(tmp_path), range(8)) == 8


def test_this_machine() -> None:
    assert topology.allowed_cpus() == sorted(os.sched_getaffinity(0))
    assert 1 <= topology.effective_cpus() <= len(os.sched_getaffinity(0))
    assert 1 <= topology.default_procs() <= topology.MAX_PROCS


# -- pinning -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("procs", "cpus", "quota", "plan"),
    [
        (0, [0, 1], None, [None]),
        (1, [0, 1], None, [None, 0]),
        (2, [0, 1], None, [None, 0, 1]),
        (4, [0, 1, 2, 3], None, [None, 0, 1, 2, 3]),
        (3, [0, 2, 4, 6], None, [None, 0, 2, 4]),
        (3, [0, 1], None, [None] * 4),  # more workers than CPUs
        (4, [0, 1, 2, 3], 3.5, [None] * 5),  # the quota stops them first
        (4, [0, 1, 2, 3], 4.0, [None, 0, 1, 2, 3]),
        (2, [7], None, [None, None, None]),
        (1, [7], None, [None, 7]),
        (1, [], None, [None, None]),
    ],
)
def test_plan_pinning(procs: int, cpus: list[int], quota: float | None, plan: list[int | None]) -> None:
    assert topology.plan_pinning(procs, cpus, quota) == plan


def test_spread_takes_whole_cores_first(tmp_path: Path) -> None:
    siblings = {0: "0,4", 4: "0,4", 1: "1,5", 5: "1,5", 2: "2-3", 3: "2-3"}
    files = {
        f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list": text + "\n"
        for cpu, text in siblings.items()
    }
    root = machine(tmp_path, files)
    assert topology.spread_cpus([5, 4, 3, 2, 1, 0], root) == [0, 1, 2, 3, 4, 5]
    assert topology.spread_cpus([4, 0, 5, 2, 3], root) == [0, 2, 5, 3, 4]
    assert topology.spread_cpus([9, 8], root) == [8, 9]


# -- what the user asked for ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "procs"), [("1", 1), (" 8 ", 8), ("255", 255), (4, 4), ("0", 0), (0, 0)])
def test_parse_procs(value: str | int, procs: int) -> None:
    assert topology.parse_procs(value, "--procs") == procs


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("-3", "negative"),
        (-3, "negative"),
        (-1, "negative"),
        ("abc", "not a whole number"),
        ("", "not a whole number"),
        ("4.0", "not a whole number"),
        ("1_0", "not a whole number"),
        ("+4", "not a whole number"),
        ("٣", "not a whole number"),
        (2.0, "not a whole number"),
        (True, "not a whole number"),
        (None, "not a whole number"),
        ("300", "more than goproc can start"),
        (256, "more than goproc can start"),
        ("9" * 5000, "not a whole number"),
    ],
)
@pytest.mark.parametrize("source", ["--procs", "GOPROC_PROCS", "runtime(procs=...)"])
def test_parse_procs_refuses(value: str, problem: str, source: str) -> None:
    with pytest.raises(ValueError, match=problem) as caught:
        topology.parse_procs(value, source)
    assert str(caught.value).startswith(f"{source}: ")
    assert "from 0 to 255" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ("1", 1),
        ("4096", 4096),
        (4096, 4096),
        ("64K", 64 << 10),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("512MB", 512 << 20),
        ("512MiB", 512 << 20),
        ("512 M", 512 << 20),
        ("1.5G", 3 << 29),
        ("1T", 1 << 40),
        ("10B", 10),
        ("2.0", 2),
    ],
)
def test_parse_memory(value: str | int, size: int) -> None:
    assert topology.parse_memory(value) == size


@pytest.mark.parametrize(
    "value",
    [
        "",
        "M",
        "abc",
        "-1",
        "0",
        "0.0001",
        "1X",
        "1.2.3G",
        "1e9",
        "1.5",
        1.5,
        "nan",
        "inf",
        "9999T",
        ".",
        True,
        "1" * 5000,
    ],
)
def test_parse_memory_refuses(value: str) -> None:
    with pytest.raises(ValueError, match=r"^GOPROC_MEMORY: .*such as 512M or 4G"):
        topology.parse_memory(value, "GOPROC_MEMORY")


def test_blas_defaults_keep_the_settings_of_the_user() -> None:
    added = topology.blas_defaults({"OMP_NUM_THREADS": "4", "MKL_NUM_THREADS": "", "HOME": "/"})
    assert "OMP_NUM_THREADS" not in added
    assert set(added.values()) == {"1"}
    assert {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "BLIS_NUM_THREADS"} <= set(added)
    assert len(added) == 6
    assert topology.blas_single_threaded({})
    assert topology.blas_single_threaded({"OMP_NUM_THREADS": "1"})
    assert not topology.blas_single_threaded({"OMP_NUM_THREADS": "4"})
