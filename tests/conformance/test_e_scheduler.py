"""E: the scheduler. Parallelism, preemption, fairness, stealing, blocking calls.

Not here: E20 and E21 (LockOSThread): all goroutines of a process run on its one thread, so there is nothing to lock
and nothing to leave locked. E04 is about goroutines that are bound to a process by `go.on` in their place.
"""

from __future__ import annotations

import builtins
import gc
import os
import socket

import programs
import pytest
from peek import until, until_waiting

import goproc
from goproc import Atomic, WaitGroup, chan, go, sleep, yield_now
from goproc._proc import topology


@pytest.fixture
def hold(tmp_path):
    """A named pipe: who reads a byte of it blocks in C, and so does its process, until somebody writes one."""
    path = str(tmp_path / "hold")
    os.mkfifo(path)
    return path


def take_turns(spawn, p, x):
    """Goroutine i of p waits, without blocking, for turn i, three times over. Returns their handles."""

    def worker(x, p, i):
        for turn in range(3):
            while x.load() != p * turn + i:
                pass
            x.add(1)

    return [spawn(worker, x, p, i) for i in range(p)]


CPUS = len(os.sched_getaffinity(0))


@pytest.mark.skipif(CPUS < 2, reason="true parallelism needs two CPUs")
def test_E01_parallelism(runtime2):
    for _ in range(10):
        x = Atomic(0)
        for g in take_turns(go, 2, x):
            g.result(20)
        assert x.load() == 6


def meeting(number):
    """A call that blocks its process in C until as many as that have come to the same place. Returns where it ran.

    Should two of them share a process (a goroutine may be preempted before it blocks, and then cannot leave) they
    let each other go on after a while.
    """

    def meet(path):
        import os
        import select

        pipe = os.open(path, os.O_RDWR)
        try:
            place = 0
            while True:
                try:
                    os.mkdir(f"{path}.{place}")
                    break
                except FileExistsError:
                    place += 1
            if place == number - 1:
                os.write(pipe, b"x" * place)
            else:
                while not select.select([pipe], [], [], 0.25)[0]:
                    yield_now()
                os.read(pipe, 1)
        finally:
            os.close(pipe)
        return goproc.proc()

    return meet


def test_E01_all_processes_at_once(runtime4, tmp_path):
    """Each blocks its whole process: four get past it together if four processes have one of them each."""
    apart = 0
    for i in range(20):
        hold = str(tmp_path / f"hold{i}")
        os.mkfifo(hold)
        gs = [go(meeting(4), hold) for _ in range(4)]
        apart += sorted(g.result(30) for g in gs) == [1, 2, 3, 4]
    assert apart >= 10


@pytest.mark.skipif(CPUS < 2, reason="true parallelism needs two CPUs")
@pytest.mark.parametrize("load", ["nothing", "load", "socket", "both"])
def test_E02_parallelism_nested(runtime2, load):
    def parent(x, p, first, count):
        def worker(x, p, i):
            for turn in range(3):
                while x.load() != p * turn + i:
                    pass
                x.add(1)

        for g in [go(worker, x, p, first + k) for k in range(count)]:
            g.result()

    listening = None
    if load in ("load", "both"):
        parked = chan()
        before = [go(lambda c: c.recv_ok() and None, parked) for _ in range(4)]
        until_waiting(parked, receivers=4)
        parked.close()
        for g in before:
            g.result(20)
    if load in ("socket", "both"):
        listening = socket.create_server(("127.0.0.1", 0))
    try:
        x = Atomic(0)
        go(parent, x, 2, 0, 2).result(20)
        assert x.load() == 6
    finally:
        if listening is not None:
            listening.close()


@pytest.mark.parametrize("where", ["local", "on0", "on1"])
def test_E03_yield_progress(runtime2, where):
    def poll(c, ack):
        while not c.try_recv()[1]:
            yield_now()
        ack.send(1)

    c, ack = chan(), chan()
    g = {"local": go.local, "on0": go.on(0), "on1": go.on(1)}[where](poll, c, ack)
    sleep(0.01)  # it polls meanwhile
    c.send(1)
    assert ack.recv(timeout=20) == 1
    g.result(10)


def test_E04_bound_goroutines_yield_and_block(runtime2):
    def yields(c):
        for _ in range(10):
            yield_now()
            sleep(0.001)
        c.send(1)

    def sends(c):
        for i in range(10):
            c.send(i)

    for p in (0, 1):
        c = chan()
        g = go.on(p)(yields, c)
        assert c.recv(timeout=20) == 1
        h = go.on(p)(sends, c)
        assert go(lambda c: [c.recv() for _ in range(10)], c).result(20) == list(range(10))
        g.result(10)
        h.result(10)


@pytest.mark.parametrize("where", ["local", "on1"])
def test_E05_timer_fairness(runtime2, where):
    def send(c, done):
        while goproc.select((c.send, 1), done).index == 0:
            pass

    c, done = chan(), chan()
    gs = [(go.local if where == "local" else go.on(1))(send, c, done) for _ in range(2)]
    timer = goproc.after(0.02)
    while goproc.select(c, timer).index == 0:
        pass
    done.close()
    for g in gs:
        g.result(20)


def test_E06_timer_fairness_of_both(runtime0):
    def worker(c, zero):
        timer = goproc.after(0.02)
        while True:
            os.read(zero, 0)
            if goproc.select((c.send, 1), c, timer).index == 2:
                return "timer"

    zero = os.open("/dev/zero", os.O_RDONLY)
    try:
        c = chan(1)
        gs = [go.local(worker, c, zero) for _ in range(2)]
        assert [g.result(30) for g in gs] == ["timer", "timer"]
    finally:
        os.close(zero)


@pytest.mark.parametrize("procs", [0, 1, 2])
def test_E07_preemption(tmp_path, procs):
    done = programs.run(
        tmp_path,
        """
        from goproc import chan, go

        x, ended = [0], chan(2)

        def small(v):
            return v

        def spin(me):
            for _ in range(5):
                while small(x[0]) != me:
                    pass
                x[0] = 1 - me
            ended.send(me)

        go.local(spin, 0)
        go.local(spin, 1)
        print(sorted([ended.recv(), ended.recv()]))
        """,
        procs=procs,
    )
    assert (done.status, done.out) == (0, "[0, 1]\n"), done.err


@pytest.mark.parametrize("how", ["goproc", "python"])
def test_E08_async_preempt(tmp_path, how):
    done = programs.run(
        tmp_path,
        """
        from goproc import chan, go

        def empty():
            while True:
                pass

        def counts():
            n = 0
            while True:
                n += 1

        def compares():
            x = 0.0
            while x < 1:
                x *= 2

        c = chan()
        for f in (empty, counts, compares):
            go.local(f)
        go.local(c.send, "OK")
        print(c.recv())
        """,
        procs=1,
        how=how,
    )
    assert (done.status, done.out) == (0, "OK\n"), done.err


def test_E09_pingpong_hog(tmp_path):
    """Each pair has the slice, not each of its turns; otherwise the hogs count about a thousand times as far."""
    done = programs.run(
        tmp_path,
        """
        import goproc
        from goproc import chan, go, sleep

        stop = [False]
        counts = {"hog": 0, "light": 0}

        def player(name, turn, mine, other):
            while True:
                mine.recv()
                if stop[0]:
                    other.send(None)
                    return
                n = 0
                while n < turn:
                    n += 1
                counts[name] += turn
                other.send(None)

        for name, turn in (("hog", 50_000), ("light", 50)):
            a, b = chan(1), chan(1)
            go.local(player, name, turn, a, b)
            go.local(player, name, turn, b, a)
            a.send(None)
        while min(counts.values()) == 0 or sum(counts.values()) < 3_000_000:
            sleep(0.05)
        print(counts["hog"], counts["light"])
        """,
        procs=1,
    )
    assert done.status == 0, done.err
    hog, light = map(int, done.out.split())
    assert max(hog, light) <= 20 * min(hog, light), (hog, light)


def test_E10_local_queue_is_fifo(runtime0, monkeypatch, long):
    order: list[int] = []
    monkeypatch.setattr(builtins, "order", order, raising=False)  # where copies of a function find it, too

    def put(i):
        import builtins

        # no channel: at one of its operations a goroutine may be made to wait its turn
        builtins.order.append(i)

    for n in range(256 if long else 64):
        for start in (go.local, go.on(0)):
            order.clear()
            gs = [start(put, i) for i in range(n)]
            for g in gs:
                g.join(10)
            assert order == list(range(n))


def test_E11_stolen_or_not_each_is_in_one_place(runtime2, long):
    """The owner runs its queue while the other process steals from it."""

    def task(hits, i):
        hits[i].add(1)

    size = 256 if long else 48
    hits = [Atomic(0) for _ in range(size)]
    for n in range(size):
        gs = [go(task, hits, i) for i in range(n)]
        for g in gs:
            g.join(20)
        assert [h.swap(0) for h in hits] == [1] * n + [0] * (size - n)


@pytest.mark.parametrize("how", ["newest", "queued"])
def test_E12_queue_never_looks_empty(runtime2, how, long):
    """Whoever looks sees that there is work: this process hardly ever gives it a turn, so the other one must find it."""
    rounds, ran_here = 1000 if long else 100, 0
    for _ in range(rounds):
        gs = [go(goproc.proc)] if how == "newest" else [go(goproc.proc) for _ in range(3)]
        assert programs.eventually(lambda gs=gs: all(g.state == "done" for g in gs), 20), "nobody took it"
        ran_here += sum(g.result() == 0 for g in gs)  # one operation in some hundreds does give a turn
    assert ran_here <= rounds // 5


@pytest.mark.parametrize("victim", range(4))
def test_E13_steal_order(runtime4, hold, victim):
    """Whichever process has the work and whichever one is free, it finds it: all others are held in C."""

    def stay(path, ready):
        with open(path, "r+b", buffering=0) as pipe:
            ready.add(1)
            pipe.read(1)

    def produce(path, done, n, held):
        def task(path, done, n, held):
            if done.add(1) == n:
                with open(path, "r+b", buffering=0) as pipe:
                    pipe.write(b"x" * held)

        with open(path, "r+b", buffering=0) as pipe:
            for _ in range(n):
                go(task, path, done, n, held)
            pipe.read(1)

    for thief in range(4):
        if thief == victim:
            continue
        ready, done, n = Atomic(0), Atomic(0), 5
        others = [p for p in (1, 2, 3) if p not in (thief, victim)]
        held = len(others) + 1 + (0 not in (thief, victim))
        # open here too, so that what is written for those who come late is kept
        with open(hold, "r+b", buffering=0) as pipe:
            gs = [go.on(p)(stay, hold, ready) for p in others]
            until(lambda ready=ready, others=others: ready.load() == len(others))
            if victim == 0:
                produce(hold, done, n, held)
            else:
                gs.append(go.on(victim)(produce, hold, done, n, held))
                if thief != 0:
                    pipe.read(1)
            for g in gs:
                g.result(30)
        assert done.load() == n


@pytest.mark.parametrize("us", [10, 100, 1000])
def test_E14_syscall_handoff(runtime2, us):
    def worker(started, stop, seconds):
        import time

        started.add(1)
        while not stop.load():
            time.sleep(seconds)

    started, stop = Atomic(0), Atomic(False)
    gs = [go(worker, started, stop, us / 1e6) for _ in range(8)]
    until(lambda: started.load() == 8, 40)
    stop.store(True)
    for g in gs:
        g.result(40)


def test_E15_blocked_proc_does_not_block_others(runtime2, hold):
    def blocks(path, started, behind):
        with open(path, "r+b", buffering=0) as pipe:
            for i in range(10):
                go(lambda c, i: c.send(i), behind, i)
            started.send(1)
            pipe.read(1)

    def counts(ticks, stop):
        while not stop.load():
            ticks.add(1)
            sleep(0.001)

    ticks, stop, started, behind = Atomic(0), Atomic(False), chan(), chan(10)
    with open(hold, "r+b", buffering=0) as pipe:
        gs = [go.on(0)(counts, ticks, stop)]
        gs.append(go.on(1)(blocks, hold, started, behind))
        started.recv(timeout=20)
        assert sorted(behind.recv(timeout=20) for _ in range(10)) == list(range(10))
        gs.append(go(counts, ticks, stop))
        for _ in range(3):
            seen = ticks.load()
            until(lambda seen=seen: ticks.load() >= seen + 5)
        assert gs[1].state == "running"
        stop.store(True)
        pipe.write(b"x")
        for g in gs:
            g.result(20)


def test_E16_netpoll_break(runtime2):
    """A process that has nothing to do for long is woken by new work."""
    sleeper = go.on(1)(sleep, 1000)
    until(lambda: sleeper.state == "running")
    for _ in range(5):
        sleep(0.005)  # nothing to wait on: proc 1 is idle by then
        assert go.on(1)(int).result(20) == 0
    sleeper.cancel()
    assert isinstance(sleeper.exception(20), goproc.Cancelled)


def test_E17_number_of_procs(tmp_path):
    """The environment decides, else the CPUs one may use; nonsense is refused, not ignored as in Go."""
    text = "import goproc; print(goproc.procs())"

    def one_cpu():
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])

    def asked(value):
        return programs.run(tmp_path, text, how="python", procs=None, env={"GOPROC_PROCS": value})

    assert asked("3").out == "3\n"
    for bad in ("-1", "abc"):
        done = asked(bad)
        assert done.status == 1 and "ValueError: GOPROC_PROCS" in done.err
    assert programs.run(tmp_path, text, procs=None, preexec_fn=one_cpu).out == "1\n"
    for name, content in {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    for quota, procs in ((50_000, 2), (230_000, 3)):
        (tmp_path / "sys/fs/cgroup/cpu.max").write_text(f"{quota} 100000\n")
        assert topology.default_procs(str(tmp_path), {}, range(4)) == procs


def test_E18_big_procs(tmp_path):
    done = programs.run(
        tmp_path,
        """
        import goproc
        from goproc import go

        gs = [go.on(p)(goproc.proc) for p in range(goproc.procs())]
        print([g.result() for g in gs] == list(range(64)))
        """,
        procs=64,
        gone=5,
    )
    assert (done.status, done.out) == (0, "True\n"), done.err


def test_E19_respawn_under_collections(runtime4):
    """There is no resizing; what stops the world here is the collector of Python and that of shared memory."""

    def respawn(left, done):
        if left:
            go(respawn, left - 1, done)
        else:
            done.send(1)

    def collect(n):
        from goproc.shm import _core

        for _ in range(n):
            gc.collect(0)
            _core.collect()
            yield_now()

    done = chan(4)
    gs = [go.on(p)(collect, 50) for p in range(4)]
    for _ in range(4):
        go(respawn, 300, done)
    assert [done.recv(timeout=40) for _ in range(4)] == [1] * 4
    for g in gs:
        g.result(40)


@pytest.mark.parametrize("where", ["local", "on1"])
def test_E22_sema_handoff(runtime2, where):
    """Released with somebody waiting, it is that one's at once: the releaser cannot take it back."""

    def load(stop):
        while not stop.load():
            yield_now()

    def take(sem, n):
        for _ in range(n):
            sem.acquire()

    rounds = 200
    sem, stop = goproc.sync.Semaphore(1), Atomic(False)
    gs = [go.on(p)(load, stop) for p in (0, 1)]
    assert sem.try_acquire()
    waiter = (go.local if where == "local" else go.on(1))(take, sem, rounds)
    for _ in range(rounds):
        until_waiting(sem, receivers=1)
        sem.release()
        assert not sem.try_acquire()
    waiter.result(20)
    stop.store(True)
    for g in gs:
        g.result(20)
    sem.release()


def test_E23_after_func_starvation(runtime0):
    stop, c = Atomic(False), chan(1)

    def sender():
        while not stop.load():
            c.send(1)
        c.close()

    def receiver():
        for _ in c:
            pass

    gs = [go.local(receiver), go.local(sender)]
    goproc.after_func(1e-6, lambda: stop.store(True))
    for g in gs:
        g.result(30)


def test_E24_work_conservation(runtime4, tmp_path):
    """As many tasks as processes, from a creator that blocks in C itself: none of the others stays idle."""

    def creator(path, meet):
        gs = [go(meet, path) for _ in range(3)]
        mine = meet(path)  # it blocks its process with the tasks in its queue: the other three must take them
        return sorted([mine, *(g.result() for g in gs)])

    apart = 0
    for i in range(12):
        hold = str(tmp_path / f"hold{i}")
        os.mkfifo(hold)
        apart += go.on(1 + i % 4)(creator, hold, meeting(4)).result(30) == [1, 2, 3, 4]
    assert apart >= 6


def test_E24_started_by_a_wait_group(runtime2):
    wg, total = WaitGroup(), Atomic(0)
    for i in range(20):
        wg.go(lambda t, n: t.add(sum(1 for _ in range(n))), total, 1000 + i)
    wg.wait(timeout=20)
    assert total.load() == sum(1000 + i for i in range(20))
