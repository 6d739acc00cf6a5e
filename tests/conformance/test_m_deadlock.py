"""M, deadlocks and dumps: whole programs, and what they say at their end.

A program that can go no further is reported, whichever process its goroutines are in, and one that can is not. The
texts are Go's: the line that says it, and the header of each goroutine.
"""

from __future__ import annotations

import re
import signal
import socket
import textwrap
import time
from contextlib import ExitStack

import pytest
from programs import start

from goproc import dump, go

ASLEEP = "fatal error: all goroutines are asleep - deadlock!\n\n"
HEADER = re.compile(
    r"^goroutine (?P<id>\d+) "
    r"\[(?P<reason>[^\],]+)(?:, (?P<minutes>[1-9]\d*) minutes)?\]"
    r"(?: (?P<labels>\{.+\}))?:$"
)


def goroutines(text):
    """The goroutines of a dump: their numbers, with (reason, labels, the lines below the header)."""
    found = {}
    for paragraph in text.rstrip("\n").split("\n\n"):
        header, *lines = paragraph.split("\n")
        match = HEADER.match(header)
        assert match, f"not a goroutine: {paragraph!r}"
        assert int(match["id"]) not in found
        found[int(match["id"])] = match["reason"], match["labels"], lines
    return found


def reported(done):
    """The goroutines in the report of a program that ended by a deadlock."""
    assert done.status == 2 and done.err.startswith(ASLEEP), done
    assert done.err.count("fatal error") == 1
    return goroutines(done.err[len(ASLEEP) :])


# -- M01 ---------------------------------------------------------------------------------------------------------------

IMPORTS = """
from goproc import *
from goproc import chan, context, go, goexit, nil, procs, select, sleep
"""

BLOCKS = {
    "send": ("chan().send(1)", "chan send"),
    "send to full": ("c = chan(1); c.send(1); c.send(2)", "chan send"),
    "recv": ("chan().recv()", "chan receive"),
    "recv_ok": ("chan(3).recv_ok()", "chan receive"),
    "range": ("for x in chan(): pass", "chan receive"),
    "select {}": ("select()", "select (no cases)"),
    "select of two": ("select(chan(), (chan().send, 1))", "select"),
    "select of nil": ("select(nil, (nil.send, 1))", "select"),
    "Selector": ("Selector(chan(), chan(1)).select()", "select"),
    "send to itself": ("c = chan(); select((c.send, 1), c)", "select"),
    "nil recv": ("nil.recv()", "chan receive (nil chan)"),
    "nil send": ("nil.send(1)", "chan send (nil chan)"),
    "nil range": ("for x in nil: pass", "chan receive (nil chan)"),
    "Mutex": ("m = Mutex(); m.lock(); m.lock()", "sync.Mutex.Lock"),
    "Mutex in with": ("m = Mutex()\nwith m:\n    with m: pass", "sync.Mutex.Lock"),
    "RLock": ("m = RWMutex(); m.lock(); m.rlock()", "sync.RWMutex.RLock"),
    "Lock": ("m = RWMutex(); m.rlock(); m.lock()", "sync.RWMutex.Lock"),
    "WaitGroup": ("w = WaitGroup(); w.add(2); w.done(); w.wait()", "sync.WaitGroup.Wait"),
    "Cond": ("m = Mutex(); c = Cond(m); m.lock(); c.wait()", "sync.Cond.Wait"),
    "Once": ("o = Once()\ndef again(): o.do(again)\no.do(again)", "sync.Mutex.Lock"),
    "Semaphore": ("s = Semaphore(2); s.acquire(); s.acquire(2)", "semacquire"),
}


@pytest.mark.parametrize("what", BLOCKS)
def test_M01_main_blocks(run, what):
    text, reason = BLOCKS[what]
    found = reported(run(IMPORTS + text, procs=0))
    assert list(found) == [1] and found[1][0] == reason
    assert found[1][2][0].startswith("  main, proc 0 (pid ")
    assert 'script.py", line' in found[1][2][1]


@pytest.mark.parametrize("what", BLOCKS)
def test_M01_another_process_blocks(run, what, long):
    text, reason = BLOCKS[what]
    script = IMPORTS + "def f():\n" + textwrap.indent(text, "    ") + "\nprint('x', end='')"
    for procs in (2, 4) if long else (2,):
        done = run(script + "\ngo.on(procs())(f).join()", procs=procs)
        found = reported(done)
        assert done.out == "x"  # what main has written is not lost
        assert list(found) == [1, 2] and [found[1][0], found[2][0]] == ["goroutine join", reason]
        assert found[2][2][0].startswith(f"  f, proc {procs} (pid ")
        assert found[2][2][-2] == "created by main in goroutine 1"
        assert re.fullmatch(r"\t.*script\.py:\d+", found[2][2][-1])


@pytest.mark.parametrize("procs", [0, 1, 2, 4])
def test_M01_second_goroutine_blocks_as_well(run, procs):
    done = run(
        """
        from goproc import chan, go, nil, procs

        def f(c):
            c.send(1)

        for i in range(2 * procs()):
            go.on(i % procs())(f, chan())
        go(lambda: nil.recv())
        chan().recv()
        """,
        procs=procs,
    )
    found = reported(done)
    reasons = [reason for reason, _, _ in found.values()]
    assert next(iter(found)) == 1 and found[1][0] == "chan receive"
    assert sorted(reasons[1:]) == ["chan receive (nil chan)"] + ["chan send"] * 2 * procs
    assert {f"proc {p}" for p in range(procs)} <= set(re.findall(r"proc \d", done.err))


@pytest.mark.parametrize("procs", [1, 2, 4])
def test_M01_everybody_waits_for_the_next(run, procs):
    """A circle: each holds a lock of its own and wants its neighbour's, and nobody sees more than that."""
    done = run(
        """
        from goproc import Barrier, Mutex, go, procs

        def philosopher(left, right, seated):
            with left:
                seated.wait()
                with right:
                    print("eats")

        forks = [Mutex() for _ in range(5)]
        seated = Barrier(5)
        table = [go.on(i % procs())(philosopher, forks[i], forks[(i + 1) % 5], seated) for i in range(5)]
        for g in table:
            g.join()
        """,
        procs=procs,
    )
    found = reported(done)
    assert (
        done.out == ""
        and [reason for reason, _, _ in found.values()] == ["goroutine join"] + ["sync.Mutex.Lock"] * 5
    )


# -- M02 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("procs", [0, 1, 2])
def test_M02_blocked_while_a_module_is_imported(run, tmp_path, procs):
    (tmp_path / "blocks.py").write_text("from goproc import chan\nchan().recv()\n")
    found = reported(run("import blocks", procs=procs))
    assert list(found) == [1] and found[1][0] == "chan receive"
    assert 'blocks.py", line 2' in found[1][2][-2]


def test_M02_blocked_while_another_process_imports(run, tmp_path):
    (tmp_path / "blocks.py").write_text("from goproc import chan\nchan().recv()\n")
    script = """
        from goproc import go

        def f():
            import blocks

        go.on(1)(f).join()
        """
    found = reported(run(script))
    assert [reason for reason, _, _ in found.values()] == ["goroutine join", "chan receive"]


@pytest.mark.parametrize("procs", [0, 1, 2])
@pytest.mark.parametrize("daemon", [True, False])
def test_M02_threads_block_as_well(run, procs, daemon):
    """Go's goroutine that is locked to a thread: here, what is not a goroutine and has a thread of its own."""
    done = run(
        f"""
        import threading
        from goproc import Mutex, WaitGroup, chan, go, procs, select

        def threads():
            m, wg = Mutex(), WaitGroup()
            m.lock()
            wg.add(1)
            blocked = (chan().recv, m.lock, wg.wait, lambda: select(chan(), chan()), lambda: chan().send(1))
            for f in blocked:
                threading.Thread(target=f, daemon={daemon}).start()

        threads()
        go.on(procs())(threads).join()
        chan().recv()
        """,
        procs=procs,
    )
    assert [reason for reason, _, _ in reported(done).values()] == ["chan receive"]


# -- M03 ---------------------------------------------------------------------------------------------------------------

PENDING = {
    "after_func": "after_func(0.3, lambda: print('ran'))",
    "sleep": "go(lambda: (sleep(0.3), print('ran')))",
    "sleep elsewhere": "go.on(procs())(lambda: (sleep(0.3), print('ran')))",
    "timer elsewhere": "go.on(procs())(lambda t: (t.c.recv(), print('ran')), Timer(0.3))",
    "func elsewhere": "go.on(procs())(lambda: after_func(0.3, lambda: print('ran'))).result()",
    "timeout": """
try:
    chan().recv(timeout=0.3)
except TimeoutError:
    print('ran')
""",
    "context": """
ctx, cancel = context.with_timeout(context.background(), 0.3)
ctx.done().recv_ok()
print('ran')
""",
}


@pytest.mark.parametrize("procs", [0, 1, 2])
@pytest.mark.parametrize("what", PENDING)
def test_M03_pending_timer(run, what, procs):
    """It is reported when the timer has run: not before, and not never."""
    done = run(IMPORTS + PENDING[what] + "\nchan().recv()", procs=procs)
    found = reported(done)
    assert done.out == "ran\n" and done.seconds >= 0.3
    assert list(found) == [1] and found[1][0] == "chan receive"


def test_M03_stopped_timer(run):
    script = """
        from goproc import Ticker, Timer, after_func, chan, go
        t, f, tick = Timer(3600), after_func(3600, print), Ticker(0.01)
        tick.c.recv()
        go.on(1)(lambda: [x.stop() for x in (t, f, tick)]).join()
        t.c.recv()
        """
    assert list(reported(run(script))) == [1]


# -- M04 ---------------------------------------------------------------------------------------------------------------

LISTENS = """
import socket, threading, time
from goproc import chan, go, nil, procs, sleep

def listen(c):
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        with server.accept()[0] as peer:
            c.send(peer.recv(100))

c = chan()
others = [go.on(i)(nil.recv) for i in range(procs() + 1)]
START
print(c.recv().decode())
"""


@pytest.mark.parametrize(
    "begin",
    [
        "go.local(listen, c)",
        "go.on(procs())(listen, c)",
        "threading.Thread(target=listen, args=(c,)).start()",
        "go.on(procs())(lambda c: threading.Thread(target=listen, args=(c,)).start(), c).join()",
    ],
    ids=["main's process", "another", "thread", "another's thread"],
)
def test_M04_somebody_waits_for_input(tmp_path, begin):
    with ExitStack() as programs:
        running = [
            programs.enter_context(start(tmp_path, LISTENS.replace("START", begin), procs=n))
            for n in (1, 2, 4)
        ]
        for program in running:
            program.wait_for("\n")
        time.sleep(1.2)  # longer than any belt or poll of the scheduler's
        for program in running:
            assert program.texts()[1] == ""
            with socket.create_connection(("127.0.0.1", int(program.texts()[0]))) as peer:
                peer.sendall(b"done")
            done = program.wait()
            assert (done.status, done.out.split()[1:], done.err) == (0, ["done"], "")


# -- M05 ---------------------------------------------------------------------------------------------------------------

HANDS_OVER = """
import sys, threading, time
from goproc import Atomic, Barrier, Cond, Mutex, Semaphore, Selector, WaitGroup, chan, go, procs, select, yield_now

SECONDS = float(sys.argv[1])

def relay(source, target):
    for v in source:
        target.send(v)
    target.close()

def choosing_relay(source, target, never):
    while (got := select(never, source)).ok:
        select((target.send, got.value), never)
    target.close()

def selector_relay(source, target, never):
    cases = Selector(never, source)
    while (got := cases.select()).ok:
        target.send(got.value)
    target.close()

def through_the_ring(ring):
    for v in range(100):
        ring[0].send(v)
        assert ring[-1].recv() == v

def all_over(f, *args):
    for g in [go.on(p)(f, *args) for p in (0, procs())]:
        g.join()

def at_the_barrier(barrier):
    for _ in range(20):
        barrier.wait()

def under_a_lock(lock, wg):
    for _ in range(50):
        with lock:
            yield_now()
    wg.done()

def one_after_the_other(mine, others, wg):
    for _ in range(20):
        mine.acquire()
        others.release()
    wg.done()

def ping(a, b):
    for v in range(50):
        a.send(v)
        assert b.recv() == v

def pong(a, b):
    for _ in range(50):
        b.send(a.recv())

def in_threads(f, *args):
    ended = chan()
    threading.Thread(target=lambda: (f(*args), ended.close())).start()
    ended.recv_ok()

def children(n):
    if n:
        go.on(n % procs())(children, n - 1).join()

def signals(cond, turn, me):
    for _ in range(20):
        with cond.mutex:
            while turn.load() != me:
                cond.wait()
            turn.store(1 - me)
            cond.broadcast()

def go_round():
    kinds = relay, choosing_relay, selector_relay
    n = max(3, procs())
    ring = [chan() for _ in range(n + 1)]
    for i in range(n):
        f = kinds[i % 3]
        go.on((i + 1) % procs())(f, ring[i], ring[i + 1], *[chan()] * (f is not relay))
    rounds, until = 0, time.monotonic() + SECONDS
    while time.monotonic() < until:
        through_the_ring(ring)
        all_over(at_the_barrier, Barrier(2))
        wg, lock = WaitGroup(), Mutex()
        for p in range(procs() + 1):
            wg.add(1)
            go.on(p)(under_a_lock, lock, wg)
        wg.wait()
        tokens = Semaphore(1), Semaphore(1)
        tokens[1].acquire()
        wg.add(2)
        go.on(0)(one_after_the_other, tokens[0], tokens[1], wg)
        go.on(procs())(one_after_the_other, tokens[1], tokens[0], wg)
        wg.wait()
        for one, other in ((ping, pong), (pong, ping)):
            a, b = chan(), chan()
            g = go.on(procs())(in_threads, one, a, b)
            go.on(0)(in_threads, other, a, b).join()
            g.join()
        a, b = chan(), chan()
        g = go.on(procs())(ping, a, b)
        in_threads(pong, a, b)
        g.join()
        children(20)
        cond, turn = Cond(Mutex()), Atomic(0)
        g = go.on(procs())(signals, cond, turn, 1)
        signals(cond, turn, 0)
        g.join()
        rounds += 1
    ring[0].close()
    assert ring[-1].recv_ok() == (None, False)
    return rounds

print(go_round() > 0)
chan().recv()
"""


@pytest.mark.watchdog(200)
@pytest.mark.parametrize("procs", [1, 2, 4])
def test_M05_messages_in_flight(run, procs, long):
    """At times every process is idle but for a wake-up that is under way. Afterwards a real deadlock is still seen."""
    seconds = 60 if long else 1
    done = run(HANDS_OVER, str(seconds), procs=procs, limit=seconds + 60)
    assert done.out == "True\n", done
    assert list(reported(done)) == [1]


# -- M06 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("procs", [1, 2, 4])
def test_M06_sigquit(tmp_path, procs):
    script = """
        import threading, time
        from goproc import WaitGroup, chan, dump, go, procs, sleep

        def waits(ready):
            ready.done()
            chan().recv()

        def parent(ready):
            go.on(procs())(waits, ready).join()

        ready = WaitGroup()
        ready.add(2 + procs())
        go.opts(labels={"job": "mail", "who": "a b"}, name="father").on(0)(parent, ready)
        for i in range(procs() + 1):
            go.on(i)(waits, ready)
        def tells():
            waits = {"chan receive": procs() + 2, "goroutine join": 1, "sleep": 1}
            while any(dump().count(f" [{reason}]") < n for reason, n in waits.items()):
                time.sleep(0.01)
            print("ready", flush=True)

        ready.wait()
        threading.Thread(target=tells).start()
        sleep(100)
        """
    with start(tmp_path, script, procs=procs) as program:
        program.wait_for("ready")
        program.kill(number=signal.SIGQUIT)
        done = program.wait()
    title, _, text = done.err.partition("\n\n")
    assert (done.status, title) == (2, "SIGQUIT: quit")
    found = goroutines(text)
    assert len(found) == procs + 4
    assert found.pop(1)[:2] == ("sleep", None)
    father = next(id for id, (_, _, lines) in found.items() if lines[0].startswith("  father, proc 0 "))
    assert found.pop(father)[:2] == ("goroutine join", '{job: mail, who: "a b"}')
    child = next(
        id
        for id, (_, _, lines) in found.items()
        if lines[-2].startswith("created by ") and lines[-2].endswith(f" in goroutine {father}")
    )
    assert found[child][1] == '{job: mail, who: "a b"}'  # inherited, also by a goroutine of another process
    assert f", proc {procs} (pid " in found.pop(child)[2][0]
    assert [(reason, labels) for reason, labels, _ in found.values()] == [("chan receive", None)] * (
        procs + 1
    )
    assert {lines[-2] for _, _, lines in found.values()} == {"created by main in goroutine 1"}
    assert {re.search(r"proc \d", lines[0])[0] for _, _, lines in found.values()} == {
        f"proc {p}" for p in range(procs + 1)
    }


# -- M07 ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"foobar": "baz", "fizzle": "bit"}, "{fizzle: bit, foobar: baz}"),
        ({"path": "a/b.c_d"}, "{path: a/b.c_d}"),
        ({"a key": "a value"}, '{"a key": "a value"}'),
        ({"lines": "one\ntwo"}, r'{lines: "one\ntwo"}'),
        ({"quote": 'say "so"', "back": "\\"}, r'{back: "\\", quote: "say \"so\""}'),
        ({"none": ""}, '{none: ""}'),
        ({"dash": "a-b"}, '{dash: "a-b"}'),
    ],
)
def test_M07_labels(runtime2, labels, text):
    """Sorted by key; what is more than letters, digits and ./_ is quoted. The same from wherever it is asked for."""

    def own(depth):
        if depth:
            return go.on(depth % 2)(own, depth - 1).result(10)
        return dump().split("\n", 1)[0]

    for proc in (0, 1):
        header = go.opts(labels=labels).on(proc)(own, 2).result(10)
        match = HEADER.match(header)
        assert match and (match["reason"], match["labels"]) == ("running", text)


def test_M07_no_labels_no_braces(runtime2):
    assert re.fullmatch(r"goroutine \d+ \[running\]:", go.on(1)(lambda: dump().split("\n")[0]).result(10))
