"""A child that the program forks reads what its parent holds of shared memory, and has nothing else to do with it."""

from __future__ import annotations

import programs
import pytest
from programs import Run

pytest.importorskip("numpy", reason="NumPy is not installed")

BEGIN = """
    import os, sys, threading, warnings
    warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
    import numpy as np
    import goproc
    from goproc import chan, go

    N = 100_000
    SUM = N * (N - 1) // 2

    def received(value):
        ch = chan(1)
        ch.send(value)
        return ch.recv()

    def in_child(function):
        '''Fork; return what the function returns in the child.'''
        r, w = os.pipe()
        if (pid := os.fork()) == 0:
            try:
                os.write(w, repr(function()).encode())
            except BaseException as e:
                os.write(w, repr(e).encode())
            os._exit(0)
        os.close(w)
        with open(r) as file:
            text = file.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return text if status == 0 else status

    def at_leisure(function, meanwhile):
        '''Fork; call the function in the child after the parent has done something.'''
        r, w = os.pipe()
        go_r, go_w = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(go_w)
            os.read(go_r, 1)
            try:
                os.write(w, repr(function()).encode())
            except BaseException as e:
                os.write(w, repr(e).encode())
            os._exit(0)
        os.close(w)
        os.close(go_r)
        meanwhile()
        os.close(go_w)
        with open(r) as file:
            text = file.read()
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        return text if status == 0 else status

    def flood():
        '''Use again whatever is free.'''
        for _ in range(3):
            kept = [received(np.full(N, 7)) for _ in range(20)]
            del kept
"""

HELD = {
    "received": "received(np.arange(N))",
    "a result": "go.on(2)(np.arange, N).result()",
    "shared": "goproc.share(np.arange(N)).value",
    "a memoryview": "np.frombuffer(memoryview(received(bytearray(np.arange(N).tobytes()))), dtype=int)",
    "a slice of more": "received(np.arange(2 * N))[:N]",
    "in a structure": "received({'a': [np.arange(N), 1]})['a'][0]",
    "small": "np.concatenate([received(np.arange(i, i + 2500)) for i in range(0, N, 2500)])",
}


@pytest.mark.parametrize("proc", [0, 1])
@pytest.mark.parametrize("what", HELD)
def test_a_child_reads_the_arrays_of_its_parent(run: Run, what: str, proc: int) -> None:
    script = f"""{BEGIN}
    def work():
        array = {HELD[what]}
        return in_child(lambda: int(array.sum()) == SUM), int(array.sum()) == SUM
    print(go.on(1)(work).result() if {proc} else work())
    """
    assert programs.ok(run(script)) == "('True', True)\n"


@pytest.mark.parametrize("proc", [0, 1])
@pytest.mark.parametrize("what", HELD)
def test_objects_dropped_by_the_parent_are_there_in_the_child(run: Run, what: str, proc: int) -> None:
    script = f"""{BEGIN}
    def work():
        held = [{HELD[what]}]
        return at_leisure(lambda: int(held[0].sum()) == SUM, lambda: (held.clear(), flood()))
    print(go.on(1)(work).result() if {proc} else work())
    """
    assert programs.ok(run(script)) == "True\n"


def test_a_carried_global(run: Run) -> None:
    """A worker maps it privately, and lets go of it when the goroutine ends."""
    script = f"""{BEGIN}
    table = np.arange(20 * N)
    total = int(table.sum())
    def work(change):
        held = [table]
        if change: table[0] += 5
        def see(): return int(held[0].sum())
        return at_leisure(see, lambda: (table.fill(0), flood()))
    print([int(go.on(1)(work, change).result()) - total for change in (0, 0, 1)])
    """
    assert programs.ok(run(script)) == "[0, 0, 5]\n"


def test_shared_and_not_read_before(run: Run) -> None:
    script = f"""{BEGIN}
    shared = goproc.share({{"a": np.arange(N)}})
    def see(): return int(shared.value["a"].sum()) == SUM
    print(in_child(see), go.on(1)(in_child, see).result())
    """
    assert programs.ok(run(script)) == "True True\n"


@pytest.mark.parametrize("proc", [0, 1])
def test_each_has_its_own_writes(run: Run, proc: int) -> None:
    script = f"""{BEGIN}
    def work():
        array = received(np.arange(N))
        def write():
            array[:] = 1
            return int(array.sum())
        seen = [at_leisure(lambda: int(array.sum()) - SUM, lambda: array.__setitem__(0, 5))]  # after the fork
        seen += [in_child(lambda: int(array.sum()) - SUM), in_child(write), int(array.sum()) - SUM]
        array[-1] += 1
        return seen + [in_child(lambda: int(array.sum()) - SUM)]
    print(go.on(1)(work).result() if {proc} else work())
    """
    assert programs.ok(run(script)) == "['0', '5', '100000', 5, '6']\n"


def test_a_child_that_drops_all_frees_nothing(run: Run) -> None:
    script = f"""{BEGIN}
    from goproc.shm import _core
    import gc
    held = [received(np.arange(N)) for _ in range(5)]
    shared = goproc.share(np.arange(N))
    held.append(shared.value)
    go.on(1)(int).result()
    gc.collect(); _core.collect()
    before = _core.census()["blocks"]
    def drop():
        global shared
        shared = None
        held.clear()
        gc.collect()
        return len(bytearray(10**7))
    print(in_child(drop), [_core.census()["blocks"] - before] + [int(a.sum()) - SUM for a in held])
    """
    assert programs.ok(run(script)) == "10000000 [0, 0, 0, 0, 0, 0, 0]\n"


def test_one_value_shown_twice(run: Run) -> None:
    """One of two views of the same memory is dropped: the next child still reads the other."""
    script = f"""{BEGIN}
    shared = goproc.share(np.arange(N))
    views = [shared._copy._load(False), shared._copy._load(False)]
    print(in_child(lambda: [int(v.sum()) - SUM for v in views]))
    views.pop()
    print(in_child(lambda: [int(v.sum()) - SUM for v in views]))
    print(in_child(lambda: (views.append(views[0][:]), views.pop(0), int(views[0].sum()) - SUM)[-1]))
    """
    assert programs.ok(run(script)) == "[0, 0]\n[0]\n0\n"


def test_a_fork_in_a_fork(run: Run) -> None:
    script = f"""{BEGIN}
    array = received(np.arange(N))
    def inner():
        array[0] = 3
        return at_leisure(lambda: int(array.sum()) - SUM, lambda: array.fill(0))
    print(in_child(inner), int(array.sum()) - SUM)
    """
    assert programs.ok(run(script)) == "'3' 0\n"


@pytest.mark.parametrize("proc", [0, 1])
def test_a_child_that_outlives_the_program(
    run: Run, tmp_path_factory: pytest.TempPathFactory, proc: int
) -> None:
    file = tmp_path_factory.mktemp("out") / "sum"
    script = f"""{BEGIN}
    import signal, time
    array = received(np.arange(N)) if {proc} == 0 else None
    program = os.getpid()
    def work():
        held = array if array is not None else received(np.arange(N))
        parent = os.getpid()
        if os.fork() == 0:
            os.setsid()
            while os.getppid() == parent or os.path.exists(f"/proc/{{program}}"):
                time.sleep(0.01)
            with open({str(file)!r} + ".new", "w") as out:
                out.write(str(int(held.sum()) - SUM))
            os.rename({str(file)!r} + ".new", {str(file)!r})
            os._exit(0)
    go.on(1)(work).result() if {proc} else work()
    """
    run(script, stdout=2, stderr=2, gone=10.0)
    assert file.read_text() == "0"


@pytest.mark.parametrize("proc", [0, 1])
@pytest.mark.parametrize("pool", ["Pool(2)", "ProcessPoolExecutor(2)"])
def test_pools(run: Run, proc: int, pool: str) -> None:
    make = {
        "Pool(2)": "multiprocessing.get_context('fork').Pool(2)",
        "ProcessPoolExecutor(2)": "ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('fork'))",
    }[pool]
    script = f"""{BEGIN}
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    def part(i): return int(array[i::4].sum())
    def work():
        global array
        array = received(np.arange(N))
        with {make} as pool:
            parts = list(pool.map(part, range(4)))
            array[:] = 0
            return sum(parts) - SUM, int(array.sum())
    print(go.on(1)(work).result() if {proc} else work())
    """
    assert programs.ok(run(script, gone=3.0)) == "(0, 0)\n"


def test_a_fork_in_a_thread(run: Run) -> None:
    script = f"""{BEGIN}
    array = received(np.arange(N))
    results = []
    def life(): results.extend(in_child(lambda: int(array.sum()) - SUM) for _ in range(10))
    threads = [threading.Thread(target=life) for _ in range(3)]
    for t in threads: t.start()
    for _ in range(100): received(np.arange(N))
    for t in threads: t.join()
    print(set(results), len(results))
    """
    assert programs.ok(run(script)) == "{'0'} 30\n"


def test_after_the_runtime(run: Run) -> None:
    """Arrays live on when their runtime has stopped; a child may even start one of its own."""
    script = f"""{BEGIN}
    with goproc.runtime(procs=1):
        array = received(np.arange(N))
    def use():
        with goproc.runtime(procs=1):
            other = received(np.arange(N))
            return int(array.sum() + other.sum()) - 2 * SUM
    print(in_child(lambda: int(array.sum()) - SUM), in_child(use))
    with goproc.runtime(procs=1):
        print(in_child(lambda: int(array.sum()) - SUM), int(received(np.arange(N)).sum()) - SUM)
    """
    assert programs.ok(run(script, procs=None)) == "0 0\n0 0\n"


def test_many_arrays_beside_each_other(run: Run) -> None:
    script = f"""{BEGIN}
    held = [received(np.full(2100 + i % 7, i)) for i in range(600)]
    def see(): return all(int(a.sum()) == i * (2100 + i % 7) for i, a in held)
    held = list(enumerate(held))
    print(in_child(see))
    del held[::2]
    print(in_child(see))
    held += [(i, received(np.full(2100 + i % 7, i))) for i in range(200)]
    print(in_child(see), see())
    """
    assert programs.ok(run(script)) == "True\nTrue\nTrue True\n"


def test_little_address_space(run: Run) -> None:
    """There is no room for an image of the whole segment; each child still gets its copies."""
    script = f"""{BEGIN}
    import resource
    held = [received(np.full(N, i)) for i in range(5)]
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    def see(): return [int(a.sum()) // N for a in held]
    print(in_child(see))
    held[0][:] = 9
    print(in_child(see))
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
    print(in_child(lambda: 1))
    """
    done = run(script)
    assert done.status == 0, done
    assert done.out == "[0, 1, 2, 3, 4]\n[9, 1, 2, 3, 4]\n1\n"
    assert done.err.startswith("goproc: there was no memory for a forked child's copies"), done


def test_operations_stay_refused(run: Run) -> None:
    script = f"""{BEGIN}
    ch = chan(1)
    array = received(np.arange(N))
    print(in_child(lambda: ch.send(array)))
    ch.send(array)
    print(int(ch.recv().sum()) - SUM)
    """
    out = programs.ok(run(script))
    assert "made by os.fork()" in out and out.endswith("\n0\n")
