"""The configurations: who does what, and how many die."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from model import channels, checks, programs, repair
from model.explorer import Explorer, Process, Result
from model.programs import Do
from model.queues import INTERRUPT, TIME, Case
from model.tasks import Task
from model.world import Object, World


class Configuration(NamedTuple):
    """`explorer` makes it, with some rules taken out; `kills` is how many of its processes die at most."""

    name: str
    explorer: Callable[[int, frozenset[str]], Explorer]
    kills: int

    def explore(self, faults: frozenset[str] = frozenset(), most: int = 1 << 62) -> Result:
        return self.explorer(self.kills, faults).explore(most)


Bodies = list[tuple[Do, ...]]


def send(c: Object, block: int, *ends: str) -> Do:
    return Do("wait", (Case("send", c, block),), ends=frozenset(ends))


def recv(c: Object, *ends: str, then: Object | None = None) -> Do:
    return Do("wait", (Case("recv", c),), ends=frozenset(ends), then=then)


def select(*cases: Case, ends: frozenset[str] = frozenset()) -> Do:
    return Do("wait", cases, ends=ends)


def close(c: Object) -> Do:
    return Do("close", o=c)


def set_timer(c: Object, due: int) -> Do:
    return Do("set", o=c, n=due)


def lock(o: Object, *ends: str) -> Do:
    return Do("wait", (Case("lock", o),), ends=frozenset(ends))


def acquire(o: Object, n: int, *ends: str) -> Do:
    return Do("wait", (Case("acquire", o, n=n),), ends=frozenset(ends))


def done(o: Object, *ends: str) -> Do:
    return Do("wait", (Case("done", o),), ends=frozenset(ends))


def add(o: Object, n: int) -> Do:
    return Do("add", o=o, n=n)


def waiting_world(
    bodies: Callable[[World], Bodies],
    workers: int,
    sudogs: int,
    locks: int,
    blocks: int,
    ticks: int,
    replaces: bool,
    kills: int,
    faults: frozenset[str],
) -> Explorer:
    w = World(workers, sudogs, locks, blocks, faults, replaces)
    these = bodies(w)
    processes = [
        Process(p.name, partial(programs.goroutine, p, program), w.dies(p))
        for p, program in zip(w.procs, these, strict=True)
    ]
    if kills:
        processes.append(Process("coroner", partial(repair.coroner, w)))
    if ticks:
        processes.append(Process("clock", partial(channels.clock, w, ticks)))
    return Explorer(bytes(w.memory.start), processes, kills, partial(checks.check, w))


CONFIGURATIONS: dict[str, Configuration] = {}


def waiting_on(
    name: str,
    bodies: Callable[[World], Bodies],
    workers: int,
    kills: int,
    sudogs: int = 1,
    locks: int = 1,
    blocks: int = 0,
    ticks: int = 0,
    replaces: bool = True,
) -> None:
    def explorer(kills: int, faults: frozenset[str]) -> Explorer:
        return waiting_world(bodies, workers, sudogs, locks, blocks, ticks, replaces, kills, faults)

    CONFIGURATIONS[name] = Configuration(name, explorer, kills)


# ---- channels


def rendezvous(w: World) -> Bodies:
    c = w.channel()
    return [(send(c, 1),), (recv(c),)]


def buffered(w: World) -> Bodies:
    c = w.channel(1)
    return [(send(c, 1), send(c, 2)), (recv(c), recv(c))]


def two_senders(w: World) -> Bodies:
    c = w.channel(1)
    return [(send(c, 1),), (send(c, 2),), (recv(c),)]


def closing(w: World) -> Bodies:
    c = w.channel(1)
    return [(send(c, 1), send(c, 2)), (recv(c),), (close(c),)]


def closing_receivers(w: World) -> Bodies:
    c = w.channel()
    return [(recv(c),), (recv(c),), (close(c),)]


def select_receive(w: World) -> Bodies:
    c, d = w.channel(), w.channel()
    return [(select(Case("recv", c), Case("recv", d)),), (send(c, 1),), (send(d, 2),)]


def select_send(w: World) -> Bodies:
    c, d = w.channel(), w.channel(1)
    return [(select(Case("send", c, 1), Case("send", d, 2)),), (recv(c),), (recv(d),)]


def selects_meet(w: World) -> Bodies:
    c, d = w.channel(), w.channel()
    return [
        (select(Case("send", c, 1), Case("recv", d)),),
        (select(Case("recv", c), Case("send", d, 2)),),
    ]


def times(w: World) -> Bodies:
    c = w.channel()
    return [(send(c, 1, TIME), send(c, 2)), (recv(c, TIME),)]


def interrupts(w: World) -> Bodies:
    c = w.channel(1)
    return [(send(c, 1), send(c, 2, INTERRUPT)), (recv(c, INTERRUPT), recv(c))]


def select_interrupted(w: World) -> Bodies:
    c, d = w.channel(), w.channel()
    return [
        (select(Case("recv", c), Case("recv", d), ends=frozenset({INTERRUPT})),),
        (send(c, 1),),
    ]


def passed_on(w: World) -> Bodies:
    c, d = w.channel(), w.channel(1)
    return [(send(c, 1),), (recv(c, then=d),), (recv(d),)]


def timer_reset(w: World) -> Bodies:
    t, c, d = w.new("timer"), w.channel(), w.channel()
    return [
        (select(Case("recv", t), Case("recv", c)), recv(d)),
        (set_timer(t, 2),),
        (send(c, 1), send(d, 2)),
    ]


def timer_due(w: World) -> Bodies:
    t, c = w.new("timer"), w.channel()
    return [
        (select(Case("recv", t), Case("recv", c)),),
        (set_timer(t, 1), send(c, 1, TIME)),
    ]


waiting_on("channel: a send and a receive, 2 die", rendezvous, workers=2, kills=2, blocks=1)
waiting_on("channel: with a buffer, 2 die", buffered, workers=2, kills=2, blocks=2)
waiting_on("channel: two senders, a buffer", two_senders, workers=3, kills=1, blocks=2)
waiting_on("channel: closed with a sender", closing, workers=3, kills=1, blocks=2)
waiting_on("channel: closed with receivers", closing_receivers, workers=3, kills=1, blocks=1)
waiting_on("channel: waits that time out", times, workers=2, kills=1, blocks=2)
waiting_on("channel: waits that are interrupted", interrupts, workers=2, kills=1, blocks=2)
waiting_on("channel: a block is passed on", passed_on, workers=3, kills=1, blocks=1)
waiting_on("select: two receives, two senders", select_receive, 3, 1, sudogs=3, locks=2, blocks=2)
waiting_on("select: two sends, two receivers", select_send, 3, 1, sudogs=3, locks=2, blocks=2)
waiting_on("select: two that meet", selects_meet, workers=2, kills=2, sudogs=3, locks=2, blocks=2)
waiting_on("select: one that is interrupted", select_interrupted, 2, 1, sudogs=3, locks=2, blocks=1)
waiting_on("select: a timer that is reset, no death", timer_reset, 3, 0, sudogs=3, locks=2, blocks=2, ticks=2)
waiting_on("select: a timer that becomes due", timer_due, 2, 1, sudogs=3, locks=2, ticks=1, blocks=1)

# ---- locks, semaphores, wait groups


def mutex(w: World) -> Bodies:
    m = w.new("mutex")
    return [(lock(m),), (lock(m),)]


def mutex_of_three(w: World) -> Bodies:
    m = w.new("mutex")
    return [(lock(m),), (lock(m),), (lock(m, INTERRUPT),)]


def semaphore(w: World) -> Bodies:
    units = w.new("semaphore", size=2, value=2)
    return [(acquire(units, 1),), (acquire(units, 2),), (acquire(units, 1, TIME),)]


def semaphore_of_two(w: World) -> Bodies:
    units = w.new("semaphore", size=1, value=1)
    return [(acquire(units, 1),), (acquire(units, 1, INTERRUPT),)]


def wait_group(w: World) -> Bodies:
    group = w.new("group", value=2)
    return [(done(group),), (add(group, -1),), (add(group, -1),)]


waiting_on("mutex: two take it, 2 die", mutex, workers=2, kills=2)
waiting_on("mutex: two take it, the dead are not replaced", mutex, workers=2, kills=1, replaces=False)
waiting_on("mutex: three take it", mutex_of_three, workers=3, kills=1)
waiting_on("semaphore: one unit, 2 die", semaphore_of_two, workers=2, kills=2)
waiting_on("semaphore: two units", semaphore, workers=3, kills=1)
waiting_on("wait group", wait_group, workers=3, kills=1)

# ---- tasks


def tasks_world(w: World, takers: str, tasks: int) -> Object:
    """Queues of the processes and the host, some tasks, and a wait group for them."""
    w.takers = frozenset(takers)
    group = w.new("group")
    w.queues = [w.new("queue", cap=2) for _ in range(len(w.procs) + 1)]
    w.tasks = [Task(w, i + 1, w.new("outcome")) for i in range(tasks)]
    return group


def go(w: World, task: int, queue: int, group: Object | None = None, retries: int = 0) -> Do:
    return Do("go", o=w.queues[queue], n=retries, then=group, task=w.tasks[task - 1])


WORK = Do("work")


def counted_task(w: World) -> Bodies:
    group = tasks_world(w, "B", 1)
    return [(go(w, 1, 1, group), done(group)), (WORK,)]


def stolen_tasks(w: World) -> Bodies:
    tasks_world(w, "B", 2)
    return [(go(w, 1, 0), go(w, 2, 0)), (WORK,)]


def both_work(w: World) -> Bodies:
    group = tasks_world(w, "AB", 1)
    return [(go(w, 1, 1, group), WORK), (WORK,)]


def retried_task(w: World) -> Bodies:
    tasks_world(w, "B", 1)
    return [(go(w, 1, 2, None, 1), done(w.tasks[0].outcome)), (WORK,)]


def two_workers(w: World) -> Bodies:
    group = tasks_world(w, "BC", 1)
    return [(go(w, 1, 1, group), done(group)), (WORK,), (WORK,)]


waiting_on("tasks: one that is counted, 2 die", counted_task, workers=2, kills=2)
waiting_on("tasks: two that are stolen, 2 die", stolen_tasks, workers=2, kills=2)
waiting_on("tasks: two processes that take one", both_work, workers=2, kills=1)
waiting_on("tasks: one that may start again", retried_task, workers=2, kills=1)
