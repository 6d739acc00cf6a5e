"""Very many goroutines: what they take, what is left of them, and how many there can be."""

from __future__ import annotations

import textwrap

import pytest
from programs import Run, ok

_SHARED = """
    import gc, greenlet, os, sys, time
    from goproc import chan, go, sleep; from goproc._sched import greenlets, scheduler
    from goproc._sched.g import G

    def wait(c):
        c.recv_ok()

    def parked():
        return sum(g.parked for g in scheduler.started.values())

    def block(number):
        # As many goroutines of this process as are asked for, all blocked on one channel.
        c = chan()
        before = parked()
        for _ in range(number):
            go.local(wait, c)
        while parked() < before + number:
            sleep(0.001)
        return c

    def end(c):
        c.close()
        while any(g.waits_on == c for g in scheduler.started.values()) or scheduler.runq:
            sleep(0.001)

    def found(kind, test):
        return sum(test(o) for o in gc.get_objects() if isinstance(o, kind))

    def hold(file):
        # Keep a worker from everything else, in no operation in which it would offer its turn.
        while not os.path.exists(file):
            time.sleep(0.001)

    def rss():
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS"))
"""


def program(text: str) -> str:
    """The script with the functions above."""
    return textwrap.dedent(_SHARED) + textwrap.dedent(text)


SMALL_STACK = """
    import os, resource
    if resource.getrlimit(resource.RLIMIT_STACK)[0] != 1 << 20:
        resource.setrlimit(resource.RLIMIT_STACK, (1 << 20, resource.getrlimit(resource.RLIMIT_STACK)[1]))
        os.execv(sys.executable, sys.orig_argv)
"""


# -- what is left of them ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["host", "worker"])
def test_no_dead_greenlet_is_kept(run: Run, where: str) -> None:
    """A chain of 20,000 overflows the stack when it is freed."""
    script = program(SMALL_STACK) + program("""
        def work():
            for _ in range(2):
                end(block(20_000))
            for goroutine in [go.local(sleep, 0.001) for _ in range(1000)]:
                goroutine.join()
            return found(greenlet.greenlet, lambda o: o.dead)
    """)
    call = "work()" if where == "host" else "go.on(1)(work).result()"
    assert ok(run(f"{script}\nprint({call})\n", procs=1)) == "0\n"


def test_no_chain_hangs_on_a_greenlet_that_the_program_keeps(run: Run) -> None:
    script = program("""
        kept = []
        def keep(c):
            kept.append(greenlet.getcurrent())
            c.recv_ok()
        c = block(300)
        d = chan()
        for _ in range(1000):
            go.local(keep, d)
        sleep(0)
        d.close()
        end(c)
        end(block(1000))
        gone = [g for g in kept if g.dead]
        longest = 0
        for g in gone:
            length = 0
            while (g := g.parent) is not None:
                length += 1
            longest = max(longest, length)
        print(bool(gone), longest <= 2)
    """)
    assert ok(run(script, procs=0)) == "True True\n"


def test_no_goroutine_is_kept_for_its_place_in_a_table(run: Run) -> None:
    script = program("""
        end(block(3000))
        print(found(G, lambda g: g.id > 1) <= 2 * greenlets.KEPT)
    """)
    assert ok(run(script, procs=0)) == "True\n"


def test_handles_that_hold_handles_are_freed_without_recursion(run: Run) -> None:
    script = program(SMALL_STACK) + program("""
        handle = None
        for _ in range(20_000):
            handle = go.local(lambda value: value, handle)
            handle.result()
        del handle
        print("freed")
    """)
    assert ok(run(script, procs=0)) == "freed\n"


# -- what they take ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["host", "worker"])
def test_a_parked_goroutine_takes_at_most_6_kb(run: Run, where: str) -> None:
    """Of memory of the process and of the segment."""
    script = program("""
        def work():
            end(block(100))
            before = rss()
            c = block(10_000)
            took = (rss() - before) / 10_000
            end(c)
            return took
    """)
    call = "work()" if where == "host" else "go.on(1)(work).result()"
    took = float(ok(run(f"{script}\nprint({call})\n", procs=1)))
    assert took <= 6 << 10


def test_frames_that_do_not_fit_on_a_small_stack(run: Run) -> None:
    """Each depth ends at another place of the first chunk; blocked frames must stay as they are."""
    script = program("""
        def deep(depth, c, *values):
            if depth:
                return deep(depth - 1, c, depth, *values[:3]) + depth
            total = c.recv() + c.recv()
            return total + sum(values)
        def all_depths():
            channels = [chan() for _ in range(60)]
            running = [go.local(deep, depth, c) for depth, c in enumerate(channels)]
            for _ in range(2):
                for c in channels:
                    c.send(1)
            return [g.result() for g in running]
        right = [2 + sum(range(d + 1)) + sum(range(1, min(d, 4) + 1)) for d in range(60)]
        print(all_depths() == right, go.on(1)(all_depths).result() == right)
    """)
    assert ok(run(script, procs=1)) == "True True\n"


def test_a_goroutine_has_a_context_of_its_own(run: Run) -> None:
    script = program("""
        from contextvars import ContextVar
        var = ContextVar("var", default="none")
        def look(n):
            seen = var.get()
            var.set(n)
            sleep(0)
            return seen, var.get()
        before = [go.local(look, n).result() for n in range(3)]
        var.set("main")
        after = [place(look, n).result() for place in (go.local, go.on(1)) for n in range(3)]
        print(before, after, var.get())
    """)
    nothing = [("none", n) for n in range(3)]
    inherited = [("main", n) for n in range(3)] * 2
    assert ok(run(script, procs=1)) == f"{nothing} {inherited} main\n"


# -- how many there can be ---------------------------------------------------------------------------------------------


def test_as_many_can_be_queued_as_memory_allows(run: Run) -> None:
    """Nothing takes them meanwhile, so go() must not wait for room."""
    script = program("""
        from goproc.shm import _core
        file = os.path.abspath("release")
        go.on(1)(hold, file)
        while _core.census()["queued"]: sleep(0.001)
        number = 270_000
        for n in range(number): go(abs, n)
        print(_core.census()["queued"] == number)
    """)
    assert ok(run(script, procs=1)) == "True\n"


def test_a_ring_that_grows_loses_nothing(run: Run) -> None:
    """The ring is half used up when it grows for the first time, at 16,384 tasks."""
    script = program("""
        from goproc.shm import _core
        order, file = chan(30_000), os.path.abspath("release")
        def put(order, n): order.send(n)
        for n in range(9_000):
            goroutine = go.on(1)(put, order, n)
            if n % 100 == 0: goroutine.join()
        go.on(1)(hold, file)
        for n in range(9_000, 30_000): go.on(1)(put, order, n)
        open(file, "w").close()
        print(sorted(order.recv() for _ in range(30_000)) == list(range(30_000)))
    """)
    assert ok(run(script, procs=1)) == "True\n"


def test_more_than_262_144_can_wait(run: Run) -> None:
    script = program("""
        from goproc.shm import _core
        goroutine, watch = go.local(sleep, 60), _core.Watch()
        for _ in range(300_000): watch.add(goroutine)
        blocked = go.local(goroutine.join)
        sleep(0)
        goroutine.cancel()
        print(blocked.exception())
    """)
    assert ok(run(script, procs=0, options=("--memory", "1G"))) == "None\n"


def test_a_full_table_is_named_and_is_no_want_of_memory(run: Run) -> None:
    """With little address space the tables are as small as they get."""
    script = program("""
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1200 << 20,) * 2)
        from goproc import GoprocError, OutOfSharedMemory, select
        from goproc.shm import _core
        goroutine, watch, c = go.local(sleep, 60), _core.Watch(), chan()
        def fill():
            while True: watch.add(goroutine)
        for act in (fill, c.recv, lambda: select(c, chan())):
            try:
                act()
            except GoprocError as error:
                print(isinstance(error, OutOfSharedMemory), "at most 262144 blocked goroutines" in str(error),
                      "--procs" in str(error), "--memory" in str(error))
        del watch
        print(c.try_recv())
        try: c.recv(timeout=0)
        except TimeoutError: print("room")
    """)
    out = ok(run(script, procs=0, options=("--memory", "600M")))
    assert out.splitlines()[:3] == ["False True True False"] * 3 and out.endswith("room\n"), out
