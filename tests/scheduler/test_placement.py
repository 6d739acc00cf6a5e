"""The place of a goroutine: on workers, the long-lived ones spread over them, and never in the process of the script."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from pathlib import Path

import pytest
from programs import Run, ok

import goproc
from goproc import WaitGroup, chan, go, patterns, proc, procs, workers

ROUNDS = 20


def test_the_numbers_of_the_workers(runtime2):
    assert procs() == 2 and workers() == range(1, 3)


def test_without_workers(runtime0):
    assert procs() == 0 and workers() == range(1, 1)
    assert go(proc).result(10) == 0
    with pytest.raises(ValueError, match="there is only proc 0, the process of the script"):
        go.on(1)


def test_the_host_takes_no_task(runtime1):
    """Also while main is blocked in an operation, and the only worker is busy."""
    assert {g.result(30) for g in [go(proc) for _ in range(300)]} == {1}
    assert go.on(0)(proc).result(10) == 0
    assert go.local(proc).result(10) == 0


def spread(count: int) -> Counter[int]:
    """Start long-lived goroutines at once; return how many each process has got."""

    def lives(homes, end):
        homes.send(proc())
        end.recv_ok()

    homes, end = chan(count), chan()
    gs = [go(lives, homes, end) for _ in range(count)]
    found = Counter(homes.recv(timeout=30) for _ in range(count))
    end.close()
    for g in gs:
        g.join(30)
    return found


@pytest.mark.parametrize("each", [1, 2])
def test_long_lived_goroutines_spread(runtime4, each):
    """Not in each round: on a busy machine a worker may not be let run for long, and another one takes its task."""
    even = sum(spread(4 * each) == dict.fromkeys(workers(), each) for _ in range(ROUNDS))
    assert even >= ROUNDS // 2


def test_they_spread_also_where_a_goroutine_starts_them(runtime2):
    def creator():
        return proc(), spread(1)

    apart = 0
    for _ in range(ROUNDS):
        home, homes = go(creator).result(30)
        apart += home not in homes
    assert apart >= ROUNDS // 2


def test_a_task_begins_while_main_and_a_worker_compute(runtime2):
    """Main and a worker take two cores, so the other worker may be left asleep at first.

    The belt of a sleeping worker, a second, would also find its task; then so many rounds do not end in the test's time.
    """

    def compute(until):
        while not until.load():
            pass
        return proc()

    for _ in range(10 * ROUNDS):
        begun = goproc.Atomic(0)
        first, second = go(compute, begun), go(begun.store, 1)
        compute(begun)
        assert first.result(10) in workers()
        second.result(10)


def test_a_stage_that_blocks_draws_no_others(runtime2):
    """Four stages of a pipeline, of which all but the first wait at once."""

    def source(out, count):
        with out:
            out.send_many(range(count))
        return proc()

    def stage(values, out):
        with out:
            out.send_many(map(abs, values))
        return proc()

    even = 0
    for _ in range(ROUNDS):
        channels = [chan(8) for _ in range(4)]
        gs = [go(source, channels[0], 100)]
        gs += [go(stage, a, b) for a, b in itertools.pairwise(channels)]
        assert list(channels[-1]) == list(range(100))
        even += Counter(g.result(30) for g in gs) == {1: 2, 2: 2}
    assert even >= ROUNDS // 2


@pytest.mark.watchdog(240)
def test_a_cold_stage_uses_the_workers(run: Run) -> None:
    """In most runs, but for those in which a worker was not let run for 10 ms: then the other one takes its task."""
    script = """
        from goproc import chan, go, patterns, proc
        def work(n): return proc(), sum(range(20_000))
        def waited():
            with open("/proc/self/schedstat") as file: return int(file.read().split()[1])  # ns for a CPU
        with chan() as done:
            values = patterns.generate(done, range(600))
            used = sorted({p for p, _ in patterns.stage(done, values, work, workers=2)})
        print(used, max(go.on(p)(waited).result() for p in (1, 2)) >= 10_000_000)
    """
    runs: Counter[str] = Counter()
    while runs["[1, 2] False\n"] + runs["[1, 2] True\n"] < 3:
        runs[ok(run(script))] += 1
        assert runs["[1] False\n"] + runs["[2] False\n"] < 3 and runs.total() < 40, runs


def test_fan_out_is_one_for_each_worker(runtime2):
    with chan() as done:
        outs = patterns.fan_out(done, patterns.generate(done, range(4)), abs)
        assert len(outs) == 2
        assert sorted(patterns.fan_in(done, *outs)) == [0, 1, 2, 3]


def test_long_tasks_begin_one_by_one(run: Run) -> None:
    """On each worker; and the result of the first is there while the third computes."""
    script = """
        import os, sys
        from goproc import Atomic, go, proc, select
        now, most = Atomic(0), Atomic(0)
        def wait_for(name):
            while not os.path.exists(name): pass  # after operations of goproc, another might begin
        def task(n):
            active = now.add(1)
            while active > (seen := most.load()) and not most.cas(seen, active): pass
            open(f"proc {proc()}", "w").close()
            wait_for(f"proc {3 - proc()}")
            sys.begun = getattr(sys, "begun", 0) + 1  # by this worker
            if sys.begun > 2: wait_for("result")
            sum(i * i for i in range(100_000))
            now.add(-1)
            return n
        handles = [go(task, n) for n in range(10)]
        select(*handles)
        open("result", "w").close()
        assert sorted(h.result() for h in handles) == list(range(10))
        print(most.load())
    """
    assert ok(run(script)) == "2\n"


HANGS: dict[str, str] = {
    "queue": "queue.Queue().get()",
    "subprocess": "r, w = os.pipe(); subprocess.run(['cat'], stdin=r)",  # cat ends with the worker, which has the other end
    "c": "collections.deque(itertools.repeat(0), 0)",
    "socket": "socket.create_server(('127.0.0.1', 0)).accept()",
    "sleep": "time.sleep(60)",
    "computes": "[x for x in itertools.repeat(0) if x]",
}


@pytest.mark.parametrize("kind", list(HANGS))
def test_main_waits_with_a_time_out_for_a_call_that_hangs(run: Run, kind: str) -> None:
    script = f"""
        import collections, itertools, os, queue, socket, subprocess, time
        from goproc import go
        def hang(): {HANGS[kind]}
        g = go(hang)
        try: g.result(timeout=0.2)
        except TimeoutError: print("time is up")
        print(go(int, 5).result())  # on the other worker
    """
    assert ok(run(script)) == "time is up\n5\n"


def test_a_crash_does_not_take_main_along_without_a_word(run: Run) -> None:
    script = """
        import ctypes
        from goproc import go
        g = go(ctypes.string_at, 0)
        g.join()
    """
    done = run(script)
    assert done.status == 2 and "was killed by signal 11 (SIGSEGV)" in done.err, done


def test_an_idle_worker_begins_tasks_that_a_busy_one_has_queued(runtime2, tmp_path: Path) -> None:
    """The busy one blocks in C; the other has blocked goroutines of its own, so it is no better place at first."""
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)

    def blocks(path, begun):
        begun.send(None)
        with open(path, "rb", buffering=0) as pipe:
            pipe.read(1)
        return proc()

    begun, end, out, ready = chan(), chan(), chan(10), WaitGroup()
    ready.add(3)

    def waits(ready, end):
        ready.done()
        end.recv_ok()

    others = [go.on(2)(waits, ready, end) for _ in range(3)]
    ready.wait(timeout=30)
    g = go.on(1)(blocks, fifo, begun)
    begun.recv(timeout=30)
    gs = [go(lambda out: out.send(proc()), out) for _ in range(4)]
    assert [out.recv(timeout=30) for _ in range(4)] == [2] * 4
    with open(fifo, "wb", buffering=0) as pipe:
        pipe.write(b"x")
    end.close()
    for other in [g, *gs, *others]:
        other.join(30)


def test_failures_are_the_cause_of_a_deadlock(run: Run) -> None:
    script = """
        from goproc import chan, go
        def worker(jobs, out):
            for job in jobs: out.send(10 / job)
        jobs, out = chan(10), chan(10)
        jobs.send_many([1, 2, 0, 4])
        jobs.close()
        kept = [go(worker, jobs, out) for _ in range(2)]
        print(sum(out.recv() for _ in range(4)))
    """
    done = run(script)
    assert done.status == 2 and done.err.startswith("fatal error: all goroutines are asleep - deadlock!\n"), (
        done
    )
    assert "(worker) failed and nobody read its result:\nTraceback" in done.err, done
    assert "\nZeroDivisionError: division by zero\ncreated by" in done.err, done


def test_a_server_is_no_main(run: Run) -> None:
    """A call that blocks a worker for ever leaves main to go on."""
    script = """
        import http.server, threading, urllib.request
        from goproc import chan, go
        def serve(ports):
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
            ports.send(server.server_port)
            server.serve_forever()
        ports = chan()
        g = go(serve, ports)
        url = f"http://127.0.0.1:{ports.recv()}/"
        print(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=20).status)
    """
    done = run(script)
    assert (done.status, done.out) == (0, "200\n"), done


def test_workers_are_public():
    assert "workers" in goproc.__all__ and "as_completed" in goproc.__all__


def test_a_thread_submits_while_all_processes_sleep(run: Run) -> None:
    """From 16 goroutines on each worker on, tasks go to the queue of the host, whose scheduler sleeps and takes none.

    Where no worker was woken for them, each round took a second or more.
    """
    script = """
        import threading
        from goproc import chan, go
        begun, gate, done, end = chan(), chan(), chan(100), chan()
        def waits():
            begun.send(None)
            gate.recv_ok()
        def submit():
            for _ in range(200):
                for _ in range(16):
                    go(done.send, None)
                for _ in range(16):
                    done.recv()
            end.send(None)
        for _ in range(40):
            go(waits)
        for _ in range(40):
            begun.recv()
        threading.Thread(target=submit).start()
        end.recv()
        gate.close()
        print("all")
    """
    assert ok(run(script)) == "all\n"
