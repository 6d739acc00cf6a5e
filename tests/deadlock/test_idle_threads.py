"""Plain threads and the deadlock report: threads that sleep for ever do not hold it off, all others do.

A thread sleeps for ever if only another thread of its process can wake it: in a lock, a queue, a join, as an idle
thread of a pool. The report must come although such threads exist, and must not come while one of them may be woken.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from programs import Run, start

ASLEEP = "fatal error: all goroutines are asleep - deadlock!\n\n"
IMPORTS = """\
import multiprocessing, os, queue, socket, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
from goproc import chan, go, procs
kept = []
def thread(f, *args):
    kept.append(threading.Thread(target=f, args=args, daemon=True))
    kept[-1].start()
    return kept[-1]
"""

# -- reported ----------------------------------------------------------------------------------------------------------

# a thread that can only be woken by another thread of its process
ASLEEP_IN = {
    "executor": "kept.append(ThreadPoolExecutor(3)); list(kept[-1].map(abs, range(9)))",
    "lock": "lock = threading.Lock(); lock.acquire(); kept.append(lock); thread(lock.acquire)",
    "rlock": "lock = threading.RLock(); lock.acquire(); kept.append(lock); thread(lock.acquire)",
    "event": "thread(threading.Event().wait)",
    "simple queue": "thread(queue.SimpleQueue().get)",
    "queue": "thread(queue.Queue().get)",
    "full queue": "q = queue.Queue(1); q.put(0); thread(q.put, 1)",
    "barrier": "thread(threading.Barrier(2).wait)",
    "join": "thread(thread(threading.Event().wait).join)",
    "semaphore": "thread(threading.Semaphore(0).acquire)",
    "result of an executor": """
pool = ThreadPoolExecutor(1)
kept.append(pool)
thread(pool.submit(threading.Event().wait).result)
""",
    "and in an operation": "thread(chan().recv); thread(threading.Event().wait)",
    "many": "for _ in range(60): thread(threading.Event().wait)",
}

WHERE = {
    "main": "begin()",
    "worker": "go.on(procs())(begin).join()",
    "each": "[go.on(i)(begin).join() for i in range(procs() + 1)]",
}


def _begin(code: str) -> str:
    body = "\n".join(f"    {line}" for line in code.strip().splitlines())
    return f"def begin():\n    import threading, queue\n{body}\n"


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize("kind", ASLEEP_IN)
def test_sleeping_threads_do_not_hold_off_the_report(run: Run, kind: str, where: str) -> None:
    procs = {"main": 1, "worker": 2, "each": 4}[where]
    done = run(f"{IMPORTS}{_begin(ASLEEP_IN[kind])}{WHERE[where]}\nchan().recv()\n", procs=procs)
    assert done.status == 2 and done.err.startswith(ASLEEP + "goroutine 1 [chan receive]:"), done


@pytest.mark.parametrize("procs", [0, 2])
def test_a_deadlock_that_comes_later(run: Run, procs: int) -> None:
    """The threads sleep long before the last goroutine does."""
    script = f"""{IMPORTS}
{_begin(ASLEEP_IN["executor"])}
from goproc import sleep
go.on(procs())(begin).join()
sleep(1.5)  # the threads sleep meanwhile, longer than anybody looks at them
print("now", flush=True)
chan().recv()
"""
    done = run(script, procs=procs)
    assert (done.status, done.out) == (2, "now\n") and done.err.startswith(ASLEEP), done


def test_a_scheduler_in_a_thread_of_its_own(run: Run) -> None:
    """A thread that is not main uses goproc first; main waits for it."""
    script = """
        import threading
        from goproc import chan

        stuck = threading.Thread(target=lambda: chan().recv(), daemon=True)
        stuck.start()
        stuck.join()
    """
    done = run(script, how="python")
    assert done.status == 2 and done.err.startswith(ASLEEP), done


# -- not reported ------------------------------------------------------------------------------------------------------

# a thread that may go on by itself, or from outside; `stay` is a time that ends all that waits
MAY_GO_ON = {
    "sleep": "time.sleep(stay)",
    "timed wait": "threading.Event().wait(stay)",
    "timed get": """
try: queue.Queue().get(timeout=stay)
except queue.Empty: pass
""",
    "polling": "while time.monotonic() < until: threading.Event().wait(0.02)",
    "pipe": """
r, w = os.pipe()
if os.fork() == 0:
    time.sleep(stay)
    os.write(w, b"x")
    os._exit(0)
os.read(r, 1)
os.wait()
""",
    "socket": """
a, b = socket.socketpair()
if os.fork() == 0:
    time.sleep(stay)
    b.send(b"x")
    os._exit(0)
a.recv(1)
os.wait()
""",
    "semaphore of processes": """
s = multiprocessing.get_context("fork").Semaphore(0)
if os.fork() == 0:
    time.sleep(stay)
    s.release()
    os._exit(0)
s.acquire()
os.wait()
""",
    "child": """
if os.fork() == 0:
    time.sleep(stay)
    os._exit(0)
os.wait()
""",
    "timer that wakes another": """
e = threading.Event()
threading.Timer(stay, e.set).start()
e.wait()
""",
    "executor": "ThreadPoolExecutor(2).submit(time.sleep, stay).result()",
}


@pytest.mark.parametrize("where", ["0", "procs()"])
@pytest.mark.parametrize("kind", MAY_GO_ON)
def test_a_thread_that_may_go_on_holds_off_the_report(run: Run, kind: str, where: str, long: bool) -> None:
    """The thread sends when its wait is over. Idle threads of a pool are there as well."""
    body = "\n".join(f"        {line}" for line in MAY_GO_ON[kind].strip().splitlines())
    script = f"""{IMPORTS}
def begin(c, stay):
    kept.append(ThreadPoolExecutor(2))
    list(kept[-1].map(abs, range(9)))
    def waits():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads
        until = time.monotonic() + stay
{body}
        c.send("alive")
    thread(waits)

c = chan()
go.on({where})(begin, c, float(sys.argv[1])).join()
print(c.recv())
"""
    done = run(script, "3" if long else "1.4")
    assert (done.status, done.out, done.err) == (0, "alive\n", "")


# threads that wake each other, while all goroutines sleep, until a time; then one of them ends the wait
HAND_ON = {
    "two by locks": """
def hand_on(until, send):
    mine, other = threading.Lock(), threading.Lock()
    mine.acquire(), other.acquire()
    over = []
    def first():
        while time.monotonic() < until:
            other.release()
            mine.acquire()
        over.append(1)
        other.release()
        send()
    def second():
        while not over:
            other.acquire()
            mine.release()
    thread(second)
    thread(first)
""",
    "two by locks, slowly": """
def hand_on(until, send):
    import random
    mine, other = threading.Lock(), threading.Lock()
    mine.acquire(), other.acquire()
    over = []
    def first():
        while time.monotonic() < until:
            time.sleep(random.uniform(0, 0.001))  # the two sleep for ever in turn: a look takes about as long as a turn
            other.release()
            mine.acquire()
        over.append(1)
        other.release()
        send()
    def second():
        while not over:
            other.acquire()
            time.sleep(random.uniform(0, 0.001))
            mine.release()
    thread(second)
    thread(first)
""",
    "a ring by locks": """
def hand_on(until, send):
    locks = [threading.Lock() for _ in range(5)]
    for lock in locks: lock.acquire()
    over = []
    def member(i):
        while not over:
            locks[i].acquire()
            if i == 0 and not over and time.monotonic() >= until:
                over.append(1)
                send()
            locks[(i + 1) % 5].release()
    for i in range(5): thread(member, i)
    locks[0].release()
""",
    "by conditions": """
def hand_on(until, send):
    turn, state = threading.Condition(), [0]
    def member(i):
        while True:
            with turn:
                turn.wait_for(lambda: state[0] % 3 == i or state[0] < 0)
                if state[0] < 0: return
                if time.monotonic() >= until:
                    state[0] = -1
                    send()
                else:
                    state[0] += 1
                turn.notify_all()
    for i in range(3): thread(member, i)
""",
    "by a pool": """
def hand_on(until, send):
    pool = ThreadPoolExecutor(3)
    kept.append(pool)
    def step():
        if time.monotonic() < until: pool.submit(step)
        else: send()
    pool.submit(step)
""",
    "values between goroutines": """
def hand_on(until, send):
    a, b, q = chan(), chan(), queue.Queue()
    def take():
        for v in a: q.put(v)
        q.put(None)
    def give():
        while (v := q.get()) is not None: b.send(v)
        b.close()
    def feed():
        i = 0
        while time.monotonic() < until:
            a.send(i)
            assert b.recv() == i
            i += 1
        a.close()
        send()
    thread(take)
    thread(give)
    go.on(0)(feed)
""",
    "to a thread in an operation": """
def hand_on(until, send):
    lock, c = threading.Lock(), chan()
    lock.acquire()
    def first():
        while time.monotonic() < until:
            lock.release()
            c.recv()
        c.close()
        lock.release()
        send()
    def second():
        while True:
            lock.acquire()
            try: c.send(1)
            except Exception: return
    thread(first)
    thread(second)
""",
}


@pytest.mark.parametrize("procs", [0, 1, 4])
@pytest.mark.parametrize("kind", HAND_ON)
def test_threads_that_wake_each_other_are_not_asleep(run: Run, kind: str, procs: int, long: bool) -> None:
    """Each of them sleeps most of the time, and there is no time at which all do."""
    script = f"""{IMPORTS}
{HAND_ON[kind]}
def begin(c, until): hand_on(until, lambda: c.send("done"))

until = time.monotonic() + float(sys.argv[1])
c = chan(8)
for i in range(procs() + 1): go.on(i)(begin, c, until).join()
for i in range(procs() + 1): print(c.recv(), flush=True)
chan().recv()
"""
    done = run(script, "10" if long else "1.5", procs=procs, limit=60)
    assert done.out == "done\n" * (procs + 1), done
    assert done.status == 2 and done.err.startswith(ASLEEP), done  # all are asleep at last


# -- the end of main ---------------------------------------------------------------------------------------------------

POOL = "from concurrent.futures import ThreadPoolExecutor\npool = ThreadPoolExecutor(2)\nlist(pool.map(abs, range(5)))\n"
# Python 3.12.0 and 3.12.1 start no thread once main has returned
NO_THREAD_AT_EXIT = sys.version_info[:2] == (3, 12) and sys.version_info < (3, 12, 2)
RUNTIME = "from goproc import chan, go, procs, sleep\ngo(abs, 1).result()\n"


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize("order", [POOL + RUNTIME, RUNTIME + POOL], ids=["pool first", "runtime first"])
def test_an_idle_pool_ends_with_main(run: Run, order: str, how: str) -> None:
    done = run(order + "print('main ends')\n", how=how)
    assert (done.status, done.out, done.err) == (0, "main ends\n", "")


def test_a_pool_is_served_after_main_has_returned(run: Run) -> None:
    script = f"""{POOL}{RUNTIME}
def feed(c):
    for i in range(3):
        sleep(0.3)  # main has long returned
        c.send(i)
    c.close()

c = chan()
pool.submit(lambda: print(list(c)))
go.on(0)(feed, c)
"""
    done = run(script, how="python")
    assert (done.status, done.out, done.err) == (0, "[0, 1, 2]\n", "")


@pytest.mark.parametrize("procs", [0, 2])
@pytest.mark.parametrize("pool", [POOL, ""], ids=["pool", "none"])
def test_a_thread_sleeps_for_ever_when_main_has_returned(run: Run, procs: int, pool: str) -> None:
    if pool and NO_THREAD_AT_EXIT:
        pytest.skip("Python waits for the pool before anybody looks")
    script = f"""{pool}{RUNTIME}
import threading
threading.Thread(target=threading.Event().wait, name="stuck").start()
print("main ends")
"""
    done = run(script, procs=procs)
    assert (done.status, done.out) == (2, "main ends\n") and "'stuck'" in done.err, done


def test_a_thread_that_sleeps_for_a_while_when_main_has_returned(run: Run) -> None:
    script = f"""{POOL}{RUNTIME}
import threading, time
e = threading.Event()
threading.Thread(target=lambda: (e.wait(), print("woken"))).start()
threading.Thread(target=lambda: (time.sleep(1.4), e.set())).start()
"""
    done = run(script)
    assert (done.status, done.out, done.err) == (0, "woken\n", "")


def test_ctrl_c_at_sleeping_threads(tmp_path: Path) -> None:
    """A thread that sleeps for a while holds off the report; Ctrl-C still ends the program at once."""
    script = f"""{IMPORTS}
{_begin(ASLEEP_IN["executor"])}
begin()
thread(time.sleep, 1000)
print("ready", flush=True)
chan().recv()
"""
    with start(tmp_path, script) as program:
        program.wait_for("ready")
        program.interrupt()
        done = program.wait()
    assert (done.status, done.err) == (130, "goproc: interrupted (Ctrl-C)\n"), done
