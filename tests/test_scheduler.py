"""The scheduler: order, fairness, stealing, timers, and very many goroutines."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from peek import until, until_waiting

import goproc
from goproc import Atomic, WaitGroup, chan, go, scheduler, sleep, yield_now

# -- order ------------------------------------------------------------------------------------------------------------


def test_spawn_order(runtime1):
    """The one spawned last runs first, the others in their order, as in Go."""
    for n in (1, 2, 5, 20):
        order = chan(n)
        for i in range(n):
            go(lambda c, i: c.send(i), order, i)
        assert [order.recv() for _ in range(n)] == [n - 1, *range(n - 1)]


def test_local_goroutines_run_in_order(runtime1):
    order = []
    gs = [go.local(order.append, i) for i in range(20)]
    for g in gs:
        g.join(10)
    assert order == list(range(20))


def test_pinned_goroutines_run_in_order(runtime2):
    order = chan(20)
    gs = [go.on(1)(lambda c, i: c.send(i), order, i) for i in range(20)]
    for g in gs:
        g.join(10)
    assert order.recv_many(20) == list(range(20))


def test_nothing_runs_before_the_creator_blocks(runtime1):
    ran = []
    go.local(ran.append, 1)
    g = go(int)
    assert ran == [] and g.state == "queued"
    g.join(10)
    assert ran == [1]


def test_yield_gives_each_a_turn(runtime1):
    order = []

    def f(name):
        for i in range(4):
            order.append((i, name))
            yield_now()

    gs = [go.local(f, name) for name in "abc"]
    for g in gs:
        g.join(10)
    assert order == [(i, name) for i in range(4) for name in "abc"]


# -- fairness ---------------------------------------------------------------------------------------------------------


def endless(stop, kind):
    """A loop of operations that never block; only other goroutines of its process can end it."""
    c, a, wg = chan(1), Atomic(0), WaitGroup()
    n = 0
    while n < 20_000_000:
        n += 1
        if kind == "buffer":
            c.send(n)
            c.recv()
        elif kind == "try":
            c.try_recv()
            c.try_send(n)
        elif kind == "poll":
            c.try_recv()
            while len(c):
                c.recv()
        elif kind == "load":
            a.load()
        elif kind == "cas":
            a.cas(1, 2)
        elif kind == "add":
            a.add(1)
        elif kind == "store":
            a.store(1)
        elif kind == "group":
            wg.add(1)
            wg.done()
        elif kind == "yield":
            yield_now()
        elif kind == "closed":
            if stop.closed:
                return True
            continue
        elif kind == "len":
            len(c)
        if n % 64 == 0 and stop.closed:
            return True
    return False


KINDS = ["buffer", "try", "poll", "load", "cas", "add", "store", "group", "yield", "closed", "len"]


@pytest.mark.parametrize("kind", KINDS)
def test_hot_loop_lets_others_run(runtime1, kind):
    """Non-blocking operations count: after some hundreds of them others of the process have their turn."""
    stop = chan()
    hog = go.local(endless, stop, kind)
    stopper = go.local(stop.close)
    assert hog.result(50) is True
    stopper.join(10)


@pytest.mark.parametrize("kind", ["buffer", "load", "yield"])
def test_hot_loop_lets_unstarted_goroutines_start(runtime1, kind):
    stop = chan()
    hog = go.local(endless, stop, kind)
    yield_now()
    go(lambda c: c.close(), stop)
    assert hog.result(50) is True


@pytest.mark.parametrize("kind", ["buffer", "yield"])
def test_hot_loop_lets_timers_expire(runtime1, kind):
    stop = chan()

    def later():
        sleep(0.005)
        stop.close()

    gs = [go.local(endless, stop, kind), go.local(later)]
    assert gs[0].result(50) is True
    gs[1].join(10)


@pytest.mark.parametrize("kind", ["buffer", "yield"])
def test_hot_loop_lets_messages_of_other_processes_in(runtime2, kind):
    stop, news = chan(), chan()

    def wait():
        news.recv()
        stop.close()

    gs = [go.local(wait), go.local(endless, stop, kind)]
    until_waiting(news, receivers=1)
    go.on(1)(lambda c: c.send(1), news)
    assert gs[1].result(50) is True
    gs[0].join(10)


def test_E03_polling_with_yield_makes_progress(runtime1):
    c, ack = chan(), chan()

    def poll():
        while not c.try_recv()[1]:
            yield_now()
        ack.send(1)

    g = go.local(poll)
    sleep(0.005)
    c.send(1)
    assert ack.recv(timeout=10) == 1
    g.join(10)


def test_E05_senders_do_not_starve_a_timer(runtime1):
    c, stop = chan(), chan()

    def send():
        while not stop.closed:
            try:
                c.send(1, timeout=0.05)
            except TimeoutError:
                pass

    gs = [go.local(send) for _ in range(2)]
    done = go.local(lambda: sleep(0.02) or "timer")
    while done.state != "done":
        c.recv()
    stop.close()
    for g in gs:
        g.result(10)


def test_E23_ping_pong_does_not_starve_the_unstarted(runtime1):
    a, b, stop = chan(1), chan(1), chan()

    def ping():
        while not stop.closed:
            a.send(1)
            b.recv()
        a.close()

    def pong():
        for _ in a:
            b.send(1)

    gs = [go.local(ping), go.local(pong)]
    sleep(0.002)
    go(lambda c: c.close(), stop)
    for g in gs:
        g.result(20)


# -- stealing ---------------------------------------------------------------------------------------------------------


def spin(n=2000):
    return sum(i * i for i in range(n))


def test_many_tasks_run_on_more_than_one_process(runtime4):
    def task():
        spin()
        return os.getpid()

    gs = [go(task) for _ in range(1000)]
    pids = [g.result(50) for g in gs]
    from goproc.shm import _core

    assert len(set(pids)) > 1 and set(pids) <= set(_core.pids())


def test_idle_process_takes_work_from_a_busy_one(runtime2):
    """Main neither blocks nor yields: somebody else must run what it has queued."""
    g = go(goproc.proc)
    deadline = time.monotonic() + 30
    while g.state != "done":
        assert time.monotonic() < deadline, "nobody took it"
        time.sleep(0.0005)
    assert g.result() == 1


def test_each_of_many_is_run_exactly_once(runtime4):
    hits = [Atomic(0) for _ in range(50)]

    def task(hits, i):
        hits[i].add(1)

    wg = WaitGroup()
    for i in range(1000):
        wg.go(task, hits, i % 50)
    wg.wait(timeout=50)
    assert [h.load() for h in hits] == [20] * 50


def test_stealing_from_workers(runtime4):
    """All work is created in one worker; others help."""

    def produce(n):
        def task():
            sum(i * i for i in range(20_000))
            return goproc.proc()

        return [g.result() for g in [go(task) for _ in range(n)]]

    seen = set(go.on(1)(produce, 200).result(50))
    assert len(seen) > 1


def test_pinned_goroutines_are_not_taken(runtime4):
    def where():
        sum(i for i in range(2000))
        return goproc.proc()

    gs = [go.on(2)(where) for _ in range(300)]
    assert {g.result(50) for g in gs} == {2}


def test_started_goroutines_stay(runtime4):
    def wander():
        seen = set()
        for _ in range(20):
            seen.add(os.getpid())
            yield_now()
            sleep(0.0001)
        return len(seen)

    assert {g.result(50) for g in [go(wander) for _ in range(40)]} == {1}


def test_blocked_process_does_not_hold_up_what_is_queued_behind(runtime2):
    """E15: a blocking C call in proc 1; unstarted goroutines it created are taken by the host."""

    def f(started, results):
        for i in range(10):
            go(lambda c, i: c.send(i), results, i)
        started.send(1)
        __import__("time").sleep(1)

    started, results = chan(1), chan(10)
    g = go.on(1)(f, started, results)
    started.recv(timeout=10)
    assert sorted(results.recv(timeout=30) for _ in range(10)) == list(range(10))
    g.join(30)


# -- timers -----------------------------------------------------------------------------------------------------------


def test_sleep_lasts_at_least_as_long(runtime2):
    def f():
        import time

        start = time.monotonic()
        sleep(0.02)
        return time.monotonic() - start

    assert all(go.on(p)(f).result(20) >= 0.02 for p in (0, 1))


@pytest.mark.parametrize("seconds", [0, -1, 0.0, float("-inf")])
def test_sleep_of_nothing(runtime1, seconds):
    sleep(seconds)
    go.local(sleep, seconds).join(10)


def test_sleep_of_nonsense(runtime1):
    for bad in ("1", None, [], 1j):
        with pytest.raises(TypeError):
            sleep(bad)
    with pytest.raises(ValueError):
        sleep(float("nan"))


@pytest.mark.parametrize("seconds", [float("inf"), 1e300, 10**9])
def test_sleep_for_ever(runtime1, seconds):
    g = go.local(sleep, seconds)
    sleep(0.002)
    assert g.cancel()
    assert isinstance(g.exception(10), goproc.Cancelled)


def test_sleepers_wake_in_order(runtime1):
    order = []
    gs = [go.local(lambda i=i: (sleep(0.01 * i), order.append(i))[1]) for i in (3, 1, 2, 0)]
    for g in gs:
        g.join(10)
    assert order == [0, 1, 2, 3]


def test_thousand_sleepers(runtime2):
    wg = WaitGroup()
    for i in range(1000):
        wg.add(1)
        go.on(i % 2)(lambda wg, s: (sleep(s), wg.done())[1], wg, (i * 37 % 100) / 5000)
    wg.wait(timeout=30)


def test_idle_process_wakes_for_new_work(runtime2):
    """E16: a scheduler that sleeps for long is woken by a message, a task, a timer and a thread."""
    c = chan()
    sleeper = go.on(1)(lambda: sleep(1000))
    g = go.on(1)(lambda c: c.recv(), c)
    until_waiting(c, receivers=1)
    sleep(0.02)
    c.send(1)
    g.result(20)
    assert go.on(1)(int).result(20) == 0
    sleeper.cancel()
    sleeper.exception(20)


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["local", "on0", "on1", "any"])
def test_thousands_blocked_at_once(runtime2, how):
    start = {"local": go.local, "on0": go.on(0), "on1": go.on(1), "any": go}[how]
    n = 3000
    c, wg = chan(), WaitGroup()
    wg.add(n)

    def f(c, wg):
        c.recv()
        wg.done()

    for _ in range(n):
        start(f, c, wg)
    until_waiting(c, receivers=n, seconds=40)
    c.send_many(range(n))
    wg.wait(timeout=40)


@pytest.mark.watchdog(180)
def test_tens_of_thousands(runtime2, long):
    n = 100_000 if long else 20_000
    total, wg = Atomic(0), WaitGroup()
    wg.add(n)

    def f(total, wg, i):
        total.add(i)
        wg.done()

    for i in range(n):
        go(f, total, wg, i)
    wg.wait(timeout=150)
    assert total.load() == n * (n - 1) // 2


@pytest.mark.parametrize("where", ["local", "on1"])
def test_daisy_chain(runtime2, where):
    """A11 with 2 000 links in one process, each blocked in the one after it."""
    n = 2000
    start = go.local if where == "local" else go.on(1)

    def link(left, right):
        left.send(1 + right.recv())

    ends = [chan() for _ in range(n + 1)]
    for i in range(n):
        start(link, ends[i], ends[i + 1])
    ends[n].send(0)
    assert ends[0].recv(timeout=40) == n


def test_goroutines_leave_no_recursion_depth(runtime2):
    """A goroutine has all of the recursion limit for itself, however it came to be started."""

    def deep(n):
        return 0 if n == 0 else 1 + deep(n - 1)

    def f(c, deep):
        c.recv_ok()
        return deep(600)

    for start in (go.local, go.on(1)):
        c = chan()
        gs = [start(f, c, deep) for _ in range(60)]
        until_waiting(c, receivers=60)
        c.close()
        assert [g.result(20) for g in gs] == [600] * 60


def test_finished_goroutines_are_forgotten(runtime1):
    from goproc import scheduler

    for _ in range(2000):
        go.local(int)
    go.local(int).join(10)
    until(lambda: not scheduler.started)
    gc.collect()
    assert len(scheduler.runq) == 0
    assert len(scheduler._spare) <= scheduler.KEEP_GREENLETS


# -- leaving ----------------------------------------------------------------------------------------------------------


def run(tmp_path, text, procs="2"):
    script = tmp_path / "s.py"
    script.write_text(text)
    env = dict(os.environ, GOPROC_PROCS=procs)
    try:
        return subprocess.run(
            [sys.executable, str(script)], capture_output=True, text=True, env=env, timeout=20
        )
    except subprocess.TimeoutExpired as error:
        raise AssertionError(f"it hangs: {error.stdout!r} {error.stderr!r}") from None


@pytest.mark.parametrize("state", ["chan().recv", "lambda: sleep(100)", "spin_yield", "nested"])
def test_runtime_is_left_while_goroutines_wait(tmp_path, state):
    """At the end of the block goroutines of this process are unwound; what they were doing does not matter."""
    done = run(
        tmp_path,
        "from goproc import *\n"
        "def spin_yield():\n"
        "    while True: yield_now()\n"
        "def nested():\n"
        "    try: chan().recv()\n"
        "    finally: print('unwound')\n"
        "with runtime(procs=2):\n"
        f"    for i in range(3): go.local({state})\n"
        f"    go.on(1)(nested)\n"
        "    sleep(0.05)\n"
        "print('left')\n"
        "with runtime(procs=1):\n"
        "    print(go(int).result())\n",
    )
    expected = "unwound\n" * 3 if state == "nested" else ""
    assert (done.stdout, done.returncode) == (expected + "left\n0\n", 0), done.stderr


def test_signal_handler_that_raises(tmp_path):
    """An exception of a signal handler reaches main as from any blocking call, and goroutines go on afterwards."""
    done = run(
        tmp_path,
        "import signal\n"
        "from goproc import *\n"
        "class Alarm(Exception): pass\n"
        "def handler(number, frame): raise Alarm\n"
        "signal.signal(signal.SIGALRM, handler)\n"
        "c, d = chan(), chan()\n"
        "def work():\n"
        "    for v in c: d.send(v + 1)\n"
        "def short(): pass\n"
        "g = go.local(work)\n"
        "caught = 0\n"
        "for i in range(5):\n"
        "    go.local(short)\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.02)\n"
        "    try:\n"
        "        d.recv()\n"
        "    except Alarm:\n"
        "        caught += 1\n"
        "    c.send(i)\n"
        "    print(d.recv(timeout=5))\n"
        "print(caught)\n",
        procs="1",
    )
    assert done.stdout == "1\n2\n3\n4\n5\n5\n", done.stderr


@pytest.mark.parametrize("cap", [0, 3])
def test_signal_handler_that_raises_again_and_again(tmp_path, cap):
    """An exception may come at any moment of a blocking send: it then was sent or not, but never twice or half."""
    done = run(
        tmp_path,
        "import faulthandler, signal, time\n"
        "from goproc import *\n"
        "faulthandler.dump_traceback_later(15, exit=True)\n"
        "class Alarm(Exception): pass\n"
        "armed = False\n"
        "def handler(number, frame):\n"
        "    global armed\n"
        "    if armed:\n"
        "        armed = False\n"
        "        raise Alarm\n"
        "def receive(c, out):\n"
        "    out.send([v[0] for v in c if v[1] == 'x' * 500])\n"
        f"c, out = chan({cap}), chan(1)\n"
        "go.on(1)(receive, c, out)\n"
        "sleep(0.05)\n"
        "signal.signal(signal.SIGALRM, handler)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)\n"
        "i, sent, perhaps, end = 0, [], [], time.monotonic() + 1\n"
        "while time.monotonic() < end:\n"
        "    i += 1\n"
        "    try:\n"
        "        try:\n"
        "            armed = True\n"
        "            c.send((i, 'x' * 500))\n"
        "            armed = False\n"
        "            sent.append(i)\n"
        "        finally:\n"
        "            armed = False\n"
        "    except Alarm:\n"
        "        perhaps.append(i)\n"
        "signal.setitimer(signal.ITIMER_REAL, 0, 0)\n"
        "try: yield_now()\n"
        "except Alarm: pass\n"
        "c.close()\n"
        "got = out.recv(timeout=10)\n"
        "print(len(got) == len(set(got)), got == sorted(got), set(sent) <= set(got), set(got) <= {*sent, *perhaps})\n",
    )
    assert done.stdout == "True True True True\n", done.stderr


def test_signal_handler_that_blocks_while_the_process_is_idle(tmp_path):
    done = run(
        tmp_path,
        """\
import signal, threading, time
from goproc import chan, go, runtime, scheduler, sleep

with runtime(procs=1):
    ask, answer, seen, handled, looked = chan(), chan(), chan(), [], []

    def handler(number, frame):  # whoever looks for work runs it, in the middle of a wait of its own
        sleep(nap)
        seen.send(number)
        sleep(0.001)
        handled.append(number)

    def serve():
        for x in ask:
            sleep(0.1)
            answer.send(x)  # after the handler's nap, or while it sleeps

    def look():
        for number in seen:
            sleep(0.005)
            looked.append(number)

    def alarm():  # in the middle of a switch it would be refused
        while not scheduler.idling:
            time.sleep(0.001)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGALRM)

    go.local(serve)
    go.local(look)
    signal.signal(signal.SIGALRM, handler)
    for n in range(8):
        nap = 0.02 if n % 2 else 0.15
        ask.send(n)
        t = threading.Thread(target=alarm)
        t.start()
        assert answer.recv() == n
        t.join()
        while min(len(handled), len(looked)) <= n:  # two handlers, one of them in the midst of look(): nobody would receive
            sleep(0.001)
    print("done")
""",
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_signal_handler_that_blocks_in_an_idle_worker(runtime2):
    """A worker looks for work with a goroutine's means, but is none."""
    seen = chan()

    def begin():
        def handler(number, frame):
            sleep(0.001)
            seen.send(number)

        signal.signal(signal.SIGUSR1, handler)
        return os.getpid()

    def end():
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)

    pid = go.on(1)(begin).result()
    for _ in range(20):
        sleep(0.002)
        os.kill(pid, signal.SIGUSR1)
        assert seen.recv() == signal.SIGUSR1
        assert go.on(1)(os.getpid).result() == pid
    go.on(1)(end).join()


def test_what_blocks_in_the_middle_of_a_switch_is_refused(runtime1, monkeypatch):
    """A finalizer or a signal's handler can come anywhere: it must not take the place of the wait it came upon."""
    never, refused = chan(), []

    class Order:
        def __next__(self):  # park() counts its timers
            monkeypatch.undo()
            never.try_recv()
            yield_now()
            for block in (never.recv, lambda: sleep(1), lambda: never.recv(timeout=1)):
                with pytest.raises(
                    RuntimeError, match="would block, in a signal handler or __del__"
                ) as error:
                    block()
                refused.append(error)
            return 0

    monkeypatch.setattr(scheduler, "_order", Order())
    with pytest.raises(TimeoutError):
        never.recv(timeout=0.01)
    assert len(refused) == 3
    sleep(0.001)
    with pytest.raises(TimeoutError):
        never.recv(timeout=0.01)


def test_a_switch_that_an_exception_prevents_leaves_no_trace(runtime1, monkeypatch):
    class Order:
        def __next__(self):
            monkeypatch.undo()
            raise KeyError

    for block in (lambda: sleep(0.01), lambda: chan().recv(timeout=0.01)):
        monkeypatch.setattr(scheduler, "_order", Order())
        with pytest.raises(KeyError):
            block()
        sleep(0.001)


def test_local_goroutine_started_by_a_thread(runtime1):
    result = []

    def start():
        result.append(go.local(lambda: threading.get_ident()))

    t = threading.Thread(target=start)
    t.start()
    until(lambda: result)
    assert result[0].result(10) == threading.get_ident()
    t.join()


def test_thread_reaches_a_process_that_is_never_idle(runtime1):
    stop = chan()

    def nap():
        while not stop.closed:
            sleep(1e-7)

    nappers = [go.local(nap) for _ in range(3)]
    t = threading.Thread(target=lambda: go.local(stop.close))
    t.start()
    try:
        until(lambda: stop.closed, 10)
    finally:
        if not stop.closed:
            stop.close()
        for g in nappers:
            g.join(10)
        t.join()
