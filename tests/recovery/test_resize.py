"""runtime.resize(): workers come and go, and nothing is lost."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from programs import Run, Start, ok
from replacing import HEAD, STARTED, output

LOUD = True


# -- more ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["restart", "continue", "exit"])
def test_more_and_fewer(run: Run, policy: str) -> None:
    """Those that stay are the same processes; nothing is said."""
    text = """
    first = pids()
    runtime.resize(5)
    assert procs() == 5 and list(workers()) == [1, 2, 3, 4, 5]
    second = pids()
    assert second[:2] == first and len(set(second)) == 5
    runtime.resize(1)
    assert pids() == first[:1] and not any(map(lives, second[1:]))
    runtime.resize(3)
    third = pids()
    assert third[0] == first[0] and not set(third[1:]) & set(second), (third, second)
    runtime.resize(3)
    assert pids() == third
    """
    assert output(run, text, options=["--on-death", policy]) == ""


def test_new_workers_run_waiting_tasks(run: Run) -> None:
    text = """
    ready, gate = chan(), chan()
    blocked = [go(time.sleep, 0.2) for _ in range(2)]      # each keeps its worker
    tasks = [go(hold, ready, gate) for _ in range(30)]
    runtime.resize(4)
    for _ in tasks: ready.recv()
    for n in range(30): gate.send(n)
    assert sorted(t.result() for t in tasks) == list(range(30))
    """
    assert output(run, text) == ""


def test_set_up_and_chosen_gpu(run: Run) -> None:
    text = """
    def set_up():
        global mark
        mark = "set up"
    def look(): return mark, os.environ.get("CUDA_VISIBLE_DEVICES")
    try: runtime.resize(2)
    except RuntimeError as error: print(error)
    with runtime(procs=1, init=set_up, gpus="0,1", per_gpu=2) as r:
        runtime.resize(4)
        print([go.on(p)(look).result() for p in workers()], r.procs)
        try: r.resize(5)
        except ValueError as error: print(error)
        print(procs())
    """
    assert ok(run(HEAD + text)).splitlines() == [
        "resize(2): no goproc runtime runs; runtime(procs=2) starts one of that size",
        "[('set up', '0'), ('set up', '1'), ('set up', '0'), ('set up', '1')] 4",
        "runtime(gpus=...): 5 workers do not fit on 2 GPUs with per_gpu=2; leave per_gpu out to share them among all",
        "4",
    ]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_bound_to_cpus_where_there_is_one_for_each(run: Run) -> None:
    text = f"""
    def cpus():
        with open("/proc/self/status") as file:
            return next(line.split()[1] for line in file if line.startswith("Cpus_allowed_list"))
    def all(want):
        while [go.on(p)(cpus).result() for p in workers()] != want: sleep(0.001)
    here = cpus()
    runtime.resize(1)
    one = go.on(1)(cpus).result()
    assert one.isdigit(), one
    runtime.resize({len(os.sched_getaffinity(0)) + 1})
    all([here] * procs())
    runtime.resize(2)
    while len({{go.on(p)(cpus).result() for p in workers()}}) < 2 or go.on(1)(cpus).result() != one: sleep(0.001)
    """
    assert output(run, text, procs=2) == ""


def test_locks_and_units_of_new_workers(run: Run) -> None:
    """The units of the dead among them are given back as with the first ones."""
    text = """
    from goproc.sync import Mutex, Semaphore, RWMutex
    from goproc import OwnerDied
    m, s, rw = Mutex(), Semaphore(3), RWMutex()
    def take():
        m.lock(); s.acquire(2); rw.rlock()
        os.kill(os.getpid(), 9)
    runtime.resize(6)
    assert type(go.on(6)(take).exception()) is WorkerDied
    try: m.lock()
    except OwnerDied: print("told")
    s.acquire(3)
    rw.lock()
    """
    assert output(run, text, env={"GOPROC_QUIET_DEATHS": "1"}) == "told\n"


# -- fewer ---------------------------------------------------------------------------------------------------


def test_those_that_have_begun_end_first(run: Run) -> None:
    text = """
    ready, gate = chan(), chan()
    pid = go.on(2)(os.getpid).result()
    go.on(2)(atexit.register, print, "bye", flush=True).join()
    g = go.on(2)(hold, ready, gate)
    ready.recv()
    waits = go.local(runtime.resize, 1)
    while procs() != 1: sleep(0.001)
    tasks = [go(os.getpid) for _ in range(100)]
    try: go.on(2)(os.getpid)
    except ValueError as error: print(error)
    for use in (kill, recycle):
        try: use(2)
        except ValueError as error: print(error)
    assert pid not in {t.result() for t in tasks} and lives(pid)
    print(waits.state, flush=True)
    gate.send("done")
    waits.result()
    print(g.result(), lives(pid))
    """
    assert output(run, text).splitlines() == [
        "go.on(2): there are proc 0, the host, and the worker 1",
        "kill(2): the workers are 1 to 1",
        "recycle(2): the workers are 1 to 1",
        "running",
        "bye",
        "done False",
    ]


def test_queued_goroutines_go_elsewhere_and_pinned_ones_run_there(run: Run) -> None:
    text = """
    def spin(until):
        while not until.load(): pass
        return goproc.proc()
    stop = Atomic(0)
    busy = [go.on(p)(spin, stop) for p in (1, 2, 3)]
    while any(g.state != "running" for g in busy): sleep(0.001)
    pinned = [go.on(3)(goproc.proc) for _ in range(50)]
    free = [go(goproc.proc) for _ in range(300)]
    waits = go.local(runtime.resize, 1)
    while procs() != 1: sleep(0.001)
    stop.store(1)
    waits.result()
    assert [g.result() for g in busy] == [1, 2, 3]
    assert [g.result() for g in pinned] == [3] * 50
    assert len([g.result() for g in free]) == 300
    assert go(goproc.proc).result() == 1
    """
    assert output(run, text, procs=3) == ""


def test_placed_before_it_went(run: Run) -> None:
    """A use of go.on() from before says where the worker is; one that is wanted again takes goroutines."""
    text = """
    there = go.on(2)
    runtime.resize(1)
    try: there(int)
    except WorkerDied as error: print(error, error.proc)
    runtime.resize(2)
    for _ in range(20):
        try: runtime.resize(1, timeout=0)
        except TimeoutError: pass
        waits = go.local(runtime.resize, 2)
        while procs() != 2: goproc.yield_now()
        assert there(goproc.proc).result() == 2
        waits.result()
    """
    assert output(run, text) == "go.on(2): worker 2 has gone by runtime.resize(); there are 1 2\n"


def test_timers_keep_the_process(run: Run) -> None:
    text = """
    fired = chan(1)
    def later(): goproc.after_func(0.15, fired.send, 1)
    go.on(2)(later).result()
    runtime.resize(1)
    print(fired.try_recv()[1])
    """
    assert output(run, text) == "True\n"


def test_in_time_or_later(run: Run) -> None:
    """After a TimeoutError the change goes on; another resize takes it back."""
    text = """
    ready, gate = chan(), chan()
    pid = go.on(2)(os.getpid).result()
    g = go.on(2)(hold, ready, gate)
    ready.recv()
    try: runtime.resize(1, timeout=0.03)
    except TimeoutError as error: print(error)
    print(procs())
    runtime.resize(2)
    assert go.on(2)(os.getpid).result() == pid
    try: runtime.resize(1, timeout=0)
    except TimeoutError: pass
    gate.send(1)
    while lives(pid): sleep(0.001)
    runtime.resize(2)
    assert go.on(2)(os.getpid).result() != pid
    """
    assert output(run, text).splitlines() == [
        "resize(1): goroutines that workers beyond that have begun have not ended: timed out",
        "1",
    ]


def test_objects_that_they_shared_stay(run: Run) -> None:
    text = """
    def make():
        ch = chan(3)
        ch.send([1] * 1000)
        return ch
    for n in range(20):
        runtime.resize(4)
        ch = go.on(4)(make).result()
        g = go.on(3)(lambda: "x" * 5000)
        g.join()
        runtime.resize(1 + n % 2)
        assert ch.recv() == [1] * 1000 and g.result() == "x" * 5000
        ch.send(1)
    del ch, g
    _core.collect()
    census = _core.census()
    assert census["blocks"] < 20 and census["objects"] < 20, census
    """
    assert output(run, text) == ""


def test_under_load(run: Run) -> None:
    """Messages, tasks and locks while workers come and go: nothing is lost, nothing comes twice."""
    text = """
    from goproc.sync import Mutex
    a, b, lock, total = chan(), chan(4), Mutex(), Atomic(0)
    def relay():
        for v in a: b.send(v)
    def count(n):
        with lock: total.store(total.load() + n)
        return n
    relays = [go.on(1)(relay) for _ in range(2)]
    feeder = go.local(lambda: [a.send(n) for n in range(3000)])
    reader = go.local(lambda: sorted(b.recv() for _ in range(3000)))
    tasks = []
    for round in range(20):
        tasks += [go(count, n) for n in range(100)]
        runtime.resize(1 + round * 7 % 6)
    assert [g.result() for g in tasks] == [*range(100)] * 20 and total.load() == 20 * 4950
    assert reader.result() == list(range(3000))
    """
    assert output(run, text) == ""


def test_deadlock_is_reported_after_a_resize(run: Run) -> None:
    text = """
    runtime.resize(4)
    runtime.resize(1)
    chan().recv()
    """
    done = run(STARTED + text)
    assert done.status == 2 and done.err.startswith("fatal error: all goroutines are asleep"), done


def test_channel_between_old_and_new(run: Run) -> None:
    """A dump names the goroutines of all workers."""
    text = """
    ready, gate = chan(), chan()
    runtime.resize(5)
    goroutines = [go.opts(name=f"on-{p}").on(p)(hold, ready, gate) for p in workers()]
    for _ in goroutines: ready.recv()
    text = goproc.dump()
    assert all(f"on-{p}" in text for p in workers()), text
    waits = go.local(runtime.resize, 2)
    while procs() != 2: sleep(0.001)
    text = goproc.dump()
    assert all(f"on-{p}" in text for p in range(1, 6)), text
    for _ in goroutines: gate.send(1)
    waits.result()
    """
    assert output(run, text) == ""


# -- deaths --------------------------------------------------------------------------------------------------


def test_killed_while_it_goes(run: Run) -> None:
    """Its goroutines are lost, and told so; nobody takes its place."""
    text = """
    ready, gate = chan(), chan()
    pid = go.on(2)(os.getpid).result()
    g = go.on(2)(hold, ready, gate)
    ready.recv()
    waits = go.local(runtime.resize, 1)
    while procs() != 1: sleep(0.001)
    os.kill(pid, signal.SIGKILL)
    waits.result()
    print(type(g.exception()).__name__, procs(), _core.pids()[2])
    runtime.resize(2)
    print(go.on(2)(int).result())
    """
    done = run(STARTED + text)
    assert (done.status, done.out) == (0, "WorkerDied 1 0\n0\n"), done
    assert re.fullmatch(
        r"goproc: proc 2 \(pid \d+\) was killed .*; the worker is not replaced\n", done.err
    ), done


@pytest.mark.parametrize("turn", range(3))
def test_killed_at_any_moment(start: Start, turn: int) -> None:
    """Workers and zygotes die at random moments of growing and shrinking."""
    text = f"""
    import random
    dice = random.Random({turn})
    def zygote(): return os.getppid()
    def killer(stop):
        while not stop.load():
            sleep(dice.random() * 0.02)
            if dice.random() < 0.8: _core.kill(dice.randrange(1, _core.places()))  # one that goes, too
    def one(n):
        while True:
            try: return go.opts(retries=9)(pow, n, 2).result(20)
            except WorkerDied: pass
    stop = Atomic(0)
    kills = go.local(killer, stop)
    for round in range(15):
        n = dice.randrange(1, 7)
        runtime.resize(n)
        assert procs() == n
        if round == 7:
            try: os.kill(go.on(1)(zygote).result(), signal.SIGKILL)
            except WorkerDied: pass
        assert [one(n) for n in range(10)] == [n * n for n in range(10)]
    stop.store(1)
    kills.result()
    runtime.resize(3)
    def at(p):
        while True:
            try: return go.on(p)(goproc.proc).result(20)
            except WorkerDied: pass
    assert [at(p) for p in workers()] == [1, 2, 3]
    print("right", len([pid for pid in _core.pids() if pid]))
    """
    with start(STARTED + text, procs=2, env={"GOPROC_QUIET_DEATHS": "1"}) as program:
        done = program.wait(50)
    assert (done.status, done.out) == (0, "right 4\n"), done


def test_without_a_zygote_for_a_moment(run: Run) -> None:
    """The zygote dies as the resize begins: the next one forks the new workers."""
    text = """
    def zygote(): return os.getppid()
    for n in (4, 6, 8):
        os.kill(go.on(n - 2)(zygote).result(), signal.SIGKILL)
        runtime.resize(n)
        assert len(set(pids())) == n
    runtime.resize(1)
    print(go(int).result())
    """
    assert output(run, text, env={"GOPROC_QUIET_DEATHS": "1"}) == "0\n"


def test_a_dead_worker_is_replaced_by_a_resize(run: Run) -> None:
    text = """
    def die(): os.kill(os.getpid(), 9)
    go.on(2)(die).exception()
    try: go.on(2)(int)
    except WorkerDied: print("gone")
    runtime.resize(2)
    print(go.on(2)(int).result())
    """
    done = run(STARTED + text, options=["--on-death", "continue"], env={"GOPROC_QUIET_DEATHS": "1"})
    assert ok(done) == "gone\n0\n"


def test_main_returns_meanwhile(run: Run) -> None:
    text = """
    ready, gate = chan(), chan()
    g = go.on(2)(hold, ready, gate)
    ready.recv()
    go.local(runtime.resize, 1)
    go.local(runtime.resize, 8)
    goproc.yield_now()
    """
    assert output(run, text) == ""


# -- bad input -----------------------------------------------------------------------------------------------


def test_bad_input(run: Run) -> None:
    text = """
    def attempt(f, *args, **kwargs):
        try: f(*args, **kwargs)
        except Exception as error: print(type(error).__name__, error)
    for bad in (0, -1, True, 2.0, "3", None, 33, 256): attempt(runtime.resize, bad)
    for bad in ("1", float("nan")): attempt(runtime.resize, 1, timeout=bad)
    print(type(go(runtime.resize, 3).exception()).__name__)
    print(procs(), pids() == pids())
    """
    assert output(run, text, options=["--memory", "256M"]).splitlines() == [
        "ValueError resize(0): a runtime keeps at least 1 worker",
        "ValueError resize(-1): a runtime keeps at least 1 worker",
        "TypeError resize() takes the number of workers, not bool",
        "TypeError resize() takes the number of workers, not float",
        "TypeError resize() takes the number of workers, not str",
        "TypeError resize() takes the number of workers, not NoneType",
        "ValueError resize(33): this runtime has room for at most 32 workers; start it with --procs 33, GOPROC_PROCS=33 or "
        "runtime(procs=33), and resize to fewer",
        "ValueError resize(256): goproc can have at most 255 workers",
        "TypeError resize(timeout=...) takes seconds as a number, not str",
        "ValueError resize(timeout=...) takes seconds, not NaN",
        "RuntimeError",
        "2 True",
    ]


def test_without_workers(run: Run) -> None:
    text = """
    procs()
    try: runtime.resize(1)
    except RuntimeError as error: print(error)
    print(go(int).result())
    """
    assert output(run, text, procs=0) == (
        "resize(1): this runtime has no workers (--procs 0), and gets none; start it with at least 1\n0\n"
    )


def test_more_room_by_starting_with_more(run: Run) -> None:
    text = """
    runtime.resize(2)
    runtime.resize(40)
    print(procs(), go.on(40)(goproc.proc).result())
    """
    assert output(run, text, procs=40) == "40 40\n"


FORK_FAILS = """
import errno, os
real = os.fork
def fork():
    if os.path.exists({flag!r}): raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
    return real()
os.fork = fork
"""


def test_a_worker_that_cannot_be_forked(run: Run, tmp_path: Path) -> None:
    flag, site = str(tmp_path / "flag"), tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(FORK_FAILS.format(flag=flag))  # for the zygote
    text = f"""
    from goproc import GoprocError
    flag = {flag!r}
    pids()
    open(flag, "w").close()
    try: runtime.resize(4)
    except GoprocError as error: print(error)
    try: go.local(runtime.resize, 3).result()
    except GoprocError: print(procs(), go.on(2)(int).result())
    os.remove(flag)
    runtime.resize(4)
    print([go.on(p)(goproc.proc).result() for p in workers()])
    """
    failed = (
        "resize(): proc 3 could not be started: fork: Resource temporarily unavailable; raise the limit on processes "
        "(ulimit -u). There are 2 workers, as before"
    )
    assert output(run, text, env={"PYTHONPATH": str(site)}).splitlines() == [failed, "2 0", "[1, 2, 3, 4]"]


def test_tasks_are_pinned_to_a_worker_that_comes_back(run: Run) -> None:
    """From the moment at which worker 2 is wanted again, a task for it waits for it."""
    text = """
    def pin(rounds, out):
        for _ in rounds:
            g = None
            while g is None:
                try: g = go.on(2)(os.getpid)
                except ValueError: pass         # the program has one worker
                except WorkerDied as error: break
            out.send(g and g.result())
    rounds, out = chan(1), chan(1)
    go.on(1)(pin, rounds, out)
    for _ in range(8):
        runtime.resize(1)
        rounds.send(0)
        runtime.resize(2)
        assert out.recv() == go.on(2)(os.getpid).result()
    rounds.close()
    """
    assert output(run, text) == ""
