"""Signal handlers of the program that raise or block, wherever the scheduler is, and runtimes left in the middle."""

from __future__ import annotations

import os
import signal

import programs
import pytest

from goproc import chan, go, sleep, yield_now
from goproc._sched import timers


def run(tmp_path, text, procs=2):
    return programs.run(tmp_path, text, how="python", procs=procs)


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
        "    sleep(0.05)  # nothing to wait on: by then they wait, or run\n"
        "print('left')\n"
        "with runtime(procs=1):\n"
        "    print(go(int).result())\n",
    )
    expected = "unwound\n" * 3 if state == "nested" else ""
    assert (done.out, done.status) == (expected + "left\n0\n", 0), done.err


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
        "    try:\n"
        "        signal.setitimer(signal.ITIMER_REAL, 0.02)\n"
        "        d.recv()\n"
        "    except Alarm:\n"
        "        caught += 1\n"
        "    c.send(i)\n"
        "    print(d.recv(timeout=5))\n"
        "print(caught)\n",
        procs=1,
    )
    assert done.out == "1\n2\n3\n4\n5\n5\n", done.err


@pytest.mark.parametrize("cap", [0, 3])
def test_signal_handler_that_raises_again_and_again(tmp_path, cap):
    """An exception may come at any moment of a blocking send: it then was sent or not, but never twice or half."""
    done = run(
        tmp_path,
        "import signal, time\n"
        "from goproc import *\n"
        "from goproc.testing import until_waiting\n"
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
        "until_waiting(c, receivers=1)\n"
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
    assert done.out == "True True True True\n", done.err


def test_signal_handler_that_blocks_while_the_process_is_idle(tmp_path):
    done = run(
        tmp_path,
        """\
import signal, threading, time
from goproc import chan, go, runtime, sleep; from goproc._sched import scheduler

with runtime(procs=1):
    ask, answer, seen, handled, looked = chan(), chan(), chan(), [], []

    def handler(number, frame):  # whoever looks for work runs it, in the middle of a wait of its own
        sleep(nap)
        seen.send(number)
        sleep(0.001)  # a second wait
        handled.append(number)

    def serve():
        for x in ask:
            sleep(0.1)
            answer.send(x)  # after the handler's nap, or while it sleeps

    def look():
        for number in seen:
            sleep(0.005)  # longer than the rest of the handler
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
    assert (done.status, done.out, done.err) == (0, "done\n", "")


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
        sleep(0.002)  # nothing to wait on: the worker is idle by then, or about to be
        os.kill(pid, signal.SIGUSR1)
        assert seen.recv() == signal.SIGUSR1
        assert go.on(1)(os.getpid).result() == pid
    go.on(1)(end).join()


def test_operation_that_blocks_in_the_middle_of_a_switch_is_refused(runtime0, monkeypatch):
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

    monkeypatch.setattr(timers, "_order", Order())
    with pytest.raises(TimeoutError):
        never.recv(timeout=0.01)
    assert len(refused) == 3
    sleep(0.001)  # the timers go on
    with pytest.raises(TimeoutError):
        never.recv(timeout=0.01)


def test_a_switch_that_an_exception_prevents_leaves_no_trace(runtime0, monkeypatch):
    class Order:
        def __next__(self):
            monkeypatch.undo()
            raise KeyError

    for block in (lambda: sleep(0.01), lambda: chan().recv(timeout=0.01)):
        monkeypatch.setattr(timers, "_order", Order())
        with pytest.raises(KeyError):
            block()
        sleep(0.001)  # the timers go on
