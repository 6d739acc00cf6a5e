"""Goroutines that use the objects, and what they write down for the checks."""

from __future__ import annotations

from typing import Any, NamedTuple

from model import channels, contexts, promises, rwmutex, sync_objects, tasks, waiting
from model.explorer import Step, Steps, Violation
from model.memory import Cell, note
from model.queues import INTERRUPT, IS_CLOSED, OK, OWNER_DIED, Case
from model.world import FREE, Block, Object, Proc, World


class Do(NamedTuple):
    """An operation of a program.

    `cases`: one, or those of a select; a lock or units that it gets it gives back. `ends`: how the wait may end by itself.
    `then`: a channel on which the block that was received is sent on, or the wait group of a new task, whose queue is `o`.
    `n`: what is added to a wait group, when a timer is due, or the retries of a task.
    """

    what: str  # see goroutine()
    cases: tuple[Case, ...] = ()
    o: Any = None  # Object
    n: int = 0
    ends: frozenset[str] = frozenset()
    then: Any = None  # Object
    task: Any = None  # Task


def goroutine(p: Proc, program: tuple[Do, ...]) -> Steps:
    """Run a program, and look after its blocks and locks as Python code would."""
    for i in range(len(program)):
        do = program[i]
        if do.what in ("wait", "keep"):
            yield from wait(p, do.cases, do.ends, do.then, do.what == "keep")
        elif do.what == "unlock":
            yield do.o.inside.store(0)
            yield from sync_objects.gp_mutex_unlock(p, do.o)
        elif do.what == "hang":
            yield Step(f"{p.name} goes on", lambda s, me: None, ready=lambda s: False)
        elif do.what == "close":
            yield from channels.gp_chan_close(p, do.o)
        elif do.what == "poll":
            yield from channels.poll(p, do.o)
        elif do.what == "has two":
            yield channels.has_two(do.o)
        elif do.what == "set":
            yield from channels.gp_timer_set(p, do.o, do.n)
        elif do.what == "add":
            yield from sync_objects.gp_waitgroup_add(p, do.o, do.n)
        elif do.what == "cancel":
            yield from contexts.gp_context_cancel(p, do.o)
        elif do.what == "unlink":
            yield from contexts.gp_context_unlink(p, do.o)
        elif do.what == "claim":
            yield from promises.run(p, do.o)
        elif do.what == "keep it":
            yield from promises.gp_promise_keep(p, do.o, tasks.DONE)
        elif do.what == "give up":
            yield from promises.give_up(p, do.o)
        elif do.what == "signal":
            yield from signal(p, do.o)
        elif do.what == "go":
            yield from tasks.go(p, do.task, do.o, do.then, do.n)
        elif do.what == "work":
            yield from tasks.worker(p)


def signal(p: Proc, o: Object) -> Steps:
    if (yield from sync_objects.gp_cond_signal(p, o)):
        yield o.inside.add(1)


def wait(
    p: Proc, cases: tuple[Case, ...], ends: frozenset[str], then: Object | None, keeps: bool = False
) -> Steps:
    w = p.w
    yield note(f"{p.name} fills its blocks", lambda s: own_all(w, p, cases, s))
    chosen, r, block = yield from waiting.wait_cases(p, cases, ends)
    sent = cases[chosen].block if chosen >= 0 and r in (OK, INTERRUPT) else 0
    if sent and r == OK:
        yield note(f"{p.name} has sent block {sent}", lambda s: put(s, w.blocks[sent - 1].sent, p.word))
    for i in range(len(cases)):
        if cases[i].block and cases[i].block != sent:
            yield from drop(p, w.blocks[cases[i].block - 1])
    if r == IS_CLOSED:
        block = 0  # a sender that died before its COMMIT may have left one
    if block and then is None:
        yield from use(p, w.blocks[block - 1])
    if block and then is not None:
        yield from wait(p, (Case("send", then, block),), frozenset(), None)
    if r in (OK, OWNER_DIED) and cases[chosen].kind in ("lock", "rlock", "acquire"):
        yield from critical(p, cases[chosen], r, keeps)


def critical(p: Proc, case: Case, r: str, keeps: bool) -> Steps:
    """The purpose for which a lock or units are taken."""
    o = case.o
    if o.kind == "rwmutex":
        yield enter_with_readers(p, o, case.kind == "rlock", r)
        if keeps:
            return
        yield p.units.store(0)
        yield from rwmutex.gp_rwmutex_unlock(p, o, case.kind == "rlock")
        return
    if case.kind == "lock":
        yield enter(p, o, r)
        yield o.inside.store(0)
        yield from sync_objects.gp_mutex_unlock(p, o)
        return
    yield enter_some(p, o, case.n)
    if keeps:
        return
    yield p.units.store(0)
    if not (yield from sync_objects.gp_semaphore_release(p, o, case.n)):
        raise Violation(f"{p.name} cannot give back what it has taken of {o.name}")


def enter(p: Proc, o: Object, r: str) -> Step:
    w = p.w

    def run(s: bytearray, me: int) -> None:
        other = s[o.inside.at]
        if other and not w.is_dead(s, other):
            raise Violation(f"{p.name} and {w.show_process(other)} have {o.name} at once")
        if other and r != OWNER_DIED:
            raise Violation(
                f"{p.name} has {o.name} after {w.show_process(other)}, who died with it, and is not told"
            )
        s[o.inside.at] = p.word

    return Step(f"{p.name} is in {o.name}", run)


def enter_with_readers(p: Proc, o: Object, reader: bool, r: str) -> Step:
    """`units` of a process: 1 while it reads, WRITER while it writes."""
    w = p.w

    def run(s: bytearray, me: int) -> None:
        inside = {q.name: s[q.units.at] for q in w.procs if s[q.units.at] and not s[q.dead.at]}
        if inside and (not reader or rwmutex.WRITER in inside.values()):
            raise Violation(f"{p.name} {'reads' if reader else 'writes'}, and inside are {inside}")
        died = [q for q in w.procs if s[q.dead.at] and s[q.units.at] == rwmutex.WRITER]
        if died and not s[o.inside.at] and r != OWNER_DIED:
            raise Violation(
                f"{p.name} has {o.name} after {died[0].name}, who died as it wrote, and is not told"
            )
        s[p.units.at] = 1 if reader else rwmutex.WRITER

    return Step(f"{p.name} {'reads' if reader else 'writes'}", run)


def enter_some(p: Proc, o: Object, n: int) -> Step:
    w = p.w

    def run(s: bytearray, me: int) -> None:
        s[p.units.at] = n
        if sum(s[q.units.at] for q in w.procs if not s[q.dead.at]) > o.size:
            raise Violation(f"more units of {o.name} are taken than there are")

    return Step(f"{p.name} has {n} units of {o.name}", run)


def put(s: bytearray, cell: Cell, value: int) -> None:
    s[cell.at] = value


def own_all(w: World, p: Proc, cases: tuple[Case, ...], s: bytearray) -> None:
    for case in cases:
        if case.block:
            s[w.blocks[case.block - 1].tag.at] = p.word


def check_mine(p: Proc, b: Block, s: bytes | bytearray) -> None:
    if s[b.tag.at] != p.word:
        raise Violation(f"{p.name} has {b.name}, whose tag says {p.w.show_tag(s[b.tag.at])}")


def use(p: Proc, b: Block) -> Steps:
    """The receiver decodes the message and frees its block."""

    def run(s: bytearray, me: int) -> None:
        if s[b.got.at]:
            raise Violation(f"{b.name} comes twice: to {p.w.show_process(s[b.got.at])} and to {p.name}")
        if s[b.kept.at]:
            raise Violation(f"{b.name} comes to {p.name}, and its sender was told that it does not")
        check_mine(p, b, s)
        s[b.got.at] = p.word

    yield Step(f"{p.name} has received {b.name}", run)
    yield b.tag.store(FREE)


def drop(p: Proc, b: Block) -> Steps:
    """The sender still has the block, and frees it."""

    def run(s: bytearray, me: int) -> None:
        check_mine(p, b, s)
        s[b.kept.at] = 1

    yield Step(f"{p.name} drops {b.name}", run)
    yield b.tag.store(FREE)
