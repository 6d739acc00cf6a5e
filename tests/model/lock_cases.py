"""Mutexes, semaphores, wait groups."""

from __future__ import annotations

from model.building import Bodies, acquire, add, done, lock, rlock, signalled, waiting_on
from model.programs import Do
from model.queues import INTERRUPT, TIME, Case
from model.world import Object, World

# ---- locks, semaphores, wait groups


def mutex(w: World) -> Bodies:
    m = w.new("mutex")
    return [(lock(m),), (lock(m),)]


def mutex_of_three(w: World) -> Bodies:
    m = w.new("mutex")
    return [(lock(m),), (lock(m),), (lock(m, INTERRUPT),)]


def mutex_of_a(w: World) -> Object:
    m = w.new("mutex", value=1)
    w.memory.start[m.owner.at] = w.memory.start[m.inside.at] = w.procs[0].word
    return m


def mutex_of_the_dead(w: World) -> Bodies:
    """A has it, and may die with it."""
    m = mutex_of_a(w)
    w.idlers = frozenset("A")
    return [(Do("hang"),), (lock(m),), (lock(m, INTERRUPT),)]


def handed_over(w: World) -> Bodies:
    """A has it, and may die as it hands it over."""
    m = mutex_of_a(w)
    return [(Do("unlock", o=m),), (lock(m),), (lock(m),)]


def semaphore_left(w: World) -> Bodies:
    """B, who wants two units, gives up in front of C, who wants one."""
    units = w.new("semaphore", size=2, value=2)
    return [(Do("keep", (Case("acquire", units, n=1),)),), (acquire(units, 2, TIME),), (acquire(units, 1),)]


def semaphore(w: World) -> Bodies:
    units = w.new("semaphore", size=2, value=2)
    return [(acquire(units, 1),), (acquire(units, 2),), (acquire(units, 1, TIME),)]


def semaphore_of_two(w: World) -> Bodies:
    units = w.new("semaphore", size=1, value=1)
    return [(acquire(units, 1),), (acquire(units, 1, INTERRUPT),)]


def wait_group(w: World) -> Bodies:
    group = w.new("group", value=2)
    return [(done(group),), (add(group, -1),), (add(group, -1),)]


def readers_and_writer(w: World) -> Bodies:
    rw = w.new("rwmutex")
    return [(lock(rw),), (rlock(rw),), (rlock(rw),)]


def writer_gives_up(w: World) -> Bodies:
    rw = w.new("rwmutex")
    return [(Do("keep", (Case("rlock", rw),)),), (lock(rw, INTERRUPT),), (rlock(rw),)]


def reader_and_writer(w: World) -> Bodies:
    rw = w.new("rwmutex")
    return [(lock(rw),), (rlock(rw),)]


def condition(w: World) -> Bodies:
    cond = w.new("cond")
    return [(Do("signal", o=cond),), (signalled(cond),), (signalled(cond),)]


def condition_left(w: World) -> Bodies:
    cond = w.new("cond")
    return [(Do("signal", o=cond),), (signalled(cond),), (signalled(cond, INTERRUPT),)]


waiting_on("mutex: two take it, 2 die", mutex, 2)
waiting_on("mutex: the dead are not replaced", mutex, 1, replaces=False)
waiting_on("mutex: of the dead", mutex_of_the_dead, 1, workers=3, mortal="A")
waiting_on("semaphore: one unit, 2 die", semaphore_of_two, 2)
waiting_on("semaphore: one gives up in front", semaphore_left, 0, workers=3)
waiting_on("wait group", wait_group, 1, workers=3, mortal="AB")

waiting_on("mutex: handed over", handed_over, 1, workers=3, mortal="A", long=True)
waiting_on("mutex: three take it", mutex_of_three, 1, workers=3, long=True)
waiting_on("semaphore: two units", semaphore, 1, workers=3, long=True)

waiting_on("rwmutex: a reader and a writer, 2 die", reader_and_writer, 2)
waiting_on("rwmutex: the dead are not replaced", reader_and_writer, 1, replaces=False)
waiting_on("rwmutex: a writer gives up", writer_gives_up, 0, workers=3)
waiting_on("condition: a signal, two wait", condition, 1, workers=3, mortal="B")
waiting_on("condition: who is signalled gives up", condition_left, 0, workers=3)

waiting_on("rwmutex: two readers and a writer", readers_and_writer, 1, workers=3, long=True)
waiting_on("condition: a signal, two wait, 2 die", condition, 2, workers=3, mortal="AB", long=True)
