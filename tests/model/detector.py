"""All goroutines are asleep: proc/deadlock.c, and what idle.c, tell.c and threads do for it.

Processes hand work to each other and go idle. A process may have a plain thread, which posts work and blocks. The last one to go
idle finds out that nobody can go on: exactly then, and never sooner.
"""

from __future__ import annotations

from functools import partial

from model.configurations import register
from model.explorer import Explorer, Process, Step, Steps, Violation
from model.memory import Memory

GP_THREAD, BLOCKED, TELLING, TOLD = 0, 1, 2, 3  # enum gp_thread


class Idle:
    """Processes, each with an inbox and a budget of posts; `threads`: those of the processes that have a plain thread."""

    def __init__(self, names: str, threads: str, faults: frozenset[str]) -> None:
        self.names = names
        self.faults = faults
        memory = self.memory = Memory()
        self.act = [memory.cell(f"{name}.act") for name in names]
        self.ext = [memory.cell(f"{name}.ext") for name in names]
        self.inbox = [memory.cell(f"{name}.inbox") for name in names]
        self.foreign = [memory.cell(f"{name}.foreign", int(name in threads)) for name in names]
        self.blocked = [memory.cell(f"{name}.threads: blocked") for name in names]
        self.changes = [memory.cell(f"{name}.threads: changes") for name in names]
        self.thread = [memory.cell(f"thread of {name}") for name in names]
        self.wakes = [memory.cell(f"thread of {name} is woken") for name in names]
        self.asleep = memory.cell("all are asleep")

    def keeps(self, rule: str) -> bool:
        return rule not in self.faults


# ---- tell.c: threads


def count_thread(w: Idle, p: int, change: int) -> Step:
    """Both halves of gp_proc.threads change in one step."""
    blocked, changes = w.blocked[p].at, w.changes[p].at

    def run(s: bytearray, me: int) -> None:
        s[blocked] = s[blocked] + change & 255
        s[changes] += 1

    return Step(f"{w.names[p]}.threads += {change}", run)


def gp_thread_blocks(w: Idle, p: int) -> Steps:
    if w.keeps("a thread is marked before it is counted"):
        if (yield w.thread[p].cas(GP_THREAD, BLOCKED)):
            yield count_thread(w, p, 1)
    else:
        yield count_thread(w, p, 1)
        yield w.thread[p].cas(GP_THREAD, BLOCKED)


def tell_thread(w: Idle, p: int) -> Steps:
    if (yield w.thread[p].exchange(TELLING)) == BLOCKED:
        yield count_thread(w, p, -1)
    yield w.thread[p].cas(TELLING, TOLD)
    yield w.wakes[p].store(1)


def thread(w: Idle, p: int, to: int) -> Steps:
    """A plain thread: it posts, blocks until it is told, and posts once more."""
    yield w.inbox[to].store(1)
    yield from gp_thread_blocks(w, p)
    wakes = w.wakes[p].at
    yield Step("the thread wakes up", lambda s, me: None, ready=lambda s: s[wakes] == 1)
    yield count_thread(w, p, -1)
    if (yield w.thread[p].exchange(GP_THREAD)) != BLOCKED:
        yield count_thread(w, p, 1)
    yield w.inbox[to].store(1)
    yield from gp_thread_blocks(w, p)


# ---- deadlock.c


def gp_all_asleep(w: Idle) -> Steps:
    act: tuple[int, ...] = ()
    changes: tuple[int, ...] = ()
    for p in range(len(w.names)):
        seen = yield w.act[p].load()
        act = (*act, seen)
        if not seen & 1 or (yield w.ext[p].load()):
            return False
        count = yield threads_of(w, p)
        changes = (*changes, count)
        foreign = yield w.foreign[p].load()
        if 0 < (foreign - count[0]) % 256 < 128:
            return False
    for p in range(len(w.names)):
        if (yield w.inbox[p].load()):
            return False
    if not w.keeps("the detector looks twice"):
        return True
    for p in range(len(w.names)):
        if (yield w.act[p].load()) != act[p]:
            return False
        count = yield threads_of(w, p)
        if count != changes[p]:
            return False
    return True


def threads_of(w: Idle, p: int) -> Step:
    blocked, changes = w.blocked[p].at, w.changes[p].at
    return Step(f"read {w.names[p]}.threads", lambda s, me: (s[blocked], s[changes]))


def report(w: Idle) -> Step:
    """The model knows what is true at this moment."""

    def run(s: bytearray, me: int) -> None:
        runs = [w.names[p] for p in range(len(w.names)) if not s[w.act[p].at] & 1]
        works = [w.names[p] for p in range(len(w.names)) if s[w.inbox[p].at] or s[w.ext[p].at]]
        threads = [
            w.names[p] for p in range(len(w.names)) if s[w.foreign[p].at] and s[w.thread[p].at] != BLOCKED
        ]
        if runs or works or threads:
            raise Violation(f"a false alarm: running {runs}, work for {works}, threads of {threads}")
        s[w.asleep.at] = 1

    return Step("all goroutines are asleep", run)


# ---- idle.c


def worker(w: Idle, p: int, posts: int, tells: int, timer: bool) -> Steps:
    """Post to the next process, then tell a thread, then idle; go on with what comes."""
    if timer:
        yield w.ext[p].store(1)
    for _ in range(posts):
        yield w.inbox[(p + 1) % len(w.names)].store(1)
    if tells >= 0:
        yield from tell_thread(w, tells)
    while True:
        yield from gp_idle(w, p)
        yield w.inbox[p].store(0)


def gp_idle(w: Idle, p: int) -> Steps:
    inbox, ext = w.inbox[p].at, w.ext[p].at
    yield w.act[p].add(1)
    if not (yield w.inbox[p].load()):
        if (yield from gp_all_asleep(w)):
            yield report(w)
        yield Step("the bell, or the timer", lambda s, me: None, ready=lambda s: s[inbox] + s[ext] > 0)
    if w.keeps("a process is active before it drains"):
        yield w.act[p].add(1)
        yield w.ext[p].store(0)
    else:
        yield w.inbox[p].store(0)
        yield w.ext[p].store(0)
        yield w.act[p].add(1)


def check(w: Idle, threads: str, s: bytes, waiting: frozenset[str]) -> None:
    """The last process to go idle says it. Where a plain thread was the last, a later look does: there is one each second."""
    if s[w.asleep.at]:
        return
    seen = all(s[act.at] & 1 for act in w.act) and not any(s[cell.at] for cell in (*w.inbox, *w.ext))
    if not threads or not seen or any(s[f.at] > s[b.at] for f, b in zip(w.foreign, w.blocked, strict=True)):
        raise Violation("all are asleep, and nobody says so")


def on_idle(name: str, names: str, posts: str, threads: str = "", tells: str = "", timers: str = "") -> None:
    """`posts`: who posts once; `tells`: who tells the thread of the first process that has one; `timers`: who has a timer."""

    def explorer(faults: frozenset[str]) -> Explorer:
        w = Idle(names, threads, faults)
        told = names.index(threads[0]) if threads else -1
        processes = [
            Process(n, partial(worker, w, i, int(n in posts), told if n in tells else -1, n in timers))
            for i, n in enumerate(names)
        ]
        processes += [
            Process(f"thread of {n}", partial(thread, w, names.index(n), (names.index(n) + 1) % len(names)))
            for n in threads
        ]
        return Explorer(bytes(w.memory.start), processes, 0, partial(check, w, threads))

    register(name, explorer)


on_idle("detector: three that post in turn", "ABC", "AB")
on_idle("detector: a timer", "AB", "A", timers="B")
on_idle("detector: a thread that is told", "AB", "A", threads="B", tells="A")
