"""The shared memory of the models of waiting: processes, waiters, sudogs, objects and blocks, as goproc/shm/layout.h has them.

Each process has one waiter, so that it blocks in one operation at a time, and reuses that waiter in the next: what a late
wake-up or a late store could spoil is there. References are small numbers; 0 is none. Word and number of a process: its
index + 1, in locks, tags and owners. A process that died is not replaced, so that there are no incarnations.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any

from model.explorer import Step, Steps, Violation
from model.memory import Cell, Memory, note

FREE, CHAN = 0, 64  # tags of blocks: below CHAN the number of a process, from there on a channel

CLOSED, WOKEN = 1, 2  # flags of objects

LIVE, DEAD, GONE = 0, 1, 2  # enum gp_proc_state


class Tag(IntEnum):
    """enum gp_wait_tag."""

    IDLE = 0
    WAITING = 1
    FIRED = 2
    CLOSED = 3
    CANCELLED = 4
    DEAD = 5
    RETRY = 6


class Op(IntEnum):
    """enum gp_op."""

    NONE = 0
    HANDOFF = 1
    BUFPUT = 2
    BUFGET = 3
    PROMOTE = 4
    TAKE = 5
    FIRE = 6
    GRANT = 7
    TRACK = 8
    OUTCOME = 9


def waits(epoch: int, case: int, tag: Tag) -> int:
    """GP_W."""
    return epoch << 5 | case << 3 | tag


def tag_of(state: int) -> Tag:
    """GP_W_TAG."""
    return Tag(state & 7)


def case_of(state: int) -> int:
    """GP_W_CASE."""
    return state >> 3 & 3


def epoch_of(state: int) -> int:
    """GP_W_EPOCH."""
    return state >> 5


def _show_state(state: int) -> str:
    return f"{tag_of(state).name}({epoch_of(state)}.{case_of(state)})"


class Sudog:
    """struct gp_sudog: one case of a blocked operation.

    Its links are guarded by the lock of the object in whose queue it is; the other fields its owner writes before it is linked.
    """

    def __init__(self, w: World, number: int, proc: int, name: str) -> None:
        self.number = number
        self.proc = proc

        def guard(s: bytes | bytearray, me: int) -> None:
            o = s[self.object.at]
            if o and not w.holds(s, me, w.objects[o - 1]):
                raise Violation(
                    f"{w.names[me]} uses a link of {name}, and has no lock of {w.objects[o - 1].name}"
                )
            if not o and me not in (proc, w.coroner):
                raise Violation(f"{w.names[me]} uses a link of {name}, which waits for nothing")

        cell = w.memory.cell
        self.object = cell(f"{name}.object", show=w.show_object)
        self.case = cell(f"{name}.cas")
        self.epoch = cell(f"{name}.epoch")
        self.n = cell(f"{name}.n")
        self.message = cell(f"{name}.msg", show=w.show_block)
        self.next = cell(f"{name}.next", show=w.show_sudog, guard=guard)
        self.prev = cell(f"{name}.prev", show=w.show_sudog, guard=guard)
        self.send = cell(f"{name}.send", guard=guard)
        self.linked = cell(f"{name}.linked", guard=guard)


class Proc:
    """struct gp_proc, its only waiter, and its journal, which is private until its process dies."""

    def __init__(self, w: World, index: int, name: str, sudogs: int, locks: int) -> None:
        self.w = w
        self.index = index
        self.name = name
        cell = w.memory.cell
        self.dead = cell(f"{name}: is dead, as the kernel knows")
        self.state = cell(f"{name}.state", show=("LIVE", "DEAD", "GONE").__getitem__)
        self.incarnation = cell(f"{name}.incarnation")
        self.rescan = cell(f"{name}.rescan")
        self.told = cell(f"inbox of {name}")
        self.waiter = cell(f"waiter of {name}", show=_show_state)
        self.rethink = cell(f"{name}.rethink")
        self.units = cell(f"{name} has units")  # for the checks
        self.op = cell(f"{name}.journal.op", show=lambda n: Op(n).name, private=True)
        self.a, self.b, self.c, self.d, self.e = (cell(f"{name}.journal.{x}", private=True) for x in "abcde")
        self.nlocks = cell(f"{name}.journal.nlocks", private=True)
        self.locks = [
            cell(f"{name}.journal.locks[{i}]", show=w.show_object, private=True) for i in range(locks)
        ]
        first = len(w.sudogs)
        self.sudogs = [Sudog(w, first + i + 1, index, f"sudog {name}{i}") for i in range(sudogs)]
        w.sudogs += self.sudogs

    @property
    def word(self) -> int:
        return self.index + 1


class Object:
    """struct gp_object: a channel or a sync object. All fields but `flags` and a timer's `value` are guarded by the lock.

    `polled`: processes also look at the ends of its buffer and at the queue of senders without the lock.
    """

    def __init__(
        self, w: World, kind: str, cap: int = 0, size: int = 0, value: int = 0, polled: bool = False
    ) -> None:
        self.w = w
        self.kind = kind
        self.links: Any = None  # of a context
        self.claimed: Any = None  # `proc` of a promise
        self.content: Any = None  # of a promise, too
        self.kept_by: Any = None
        self.cap = cap
        self.size = size
        self.timer = timer = kind == "timer"
        self.number = len(w.objects) + 1
        self.name = f"{kind} {self.number}"

        def guard(s: bytes | bytearray, me: int) -> None:
            if not w.holds(s, me, self):
                raise Violation(f"{w.names[me]} uses {self.name}, and has no lock of it")

        def cell(name: str, value: int = 0, show: Callable[[int], str] = str) -> Cell:
            return w.memory.cell(f"{self.name}.{name}", value, show, guard=guard)

        def seen(name: str, show: Callable[[int], str] = str) -> Cell:
            return w.memory.cell(f"{self.name}.{name}", 0, show) if polled else cell(name, 0, show)

        self.lock = w.memory.cell(f"{self.name}.lock", show=w.show_process)
        self.flags = w.memory.cell(f"{self.name}.flags")
        self.holders = w.memory.cell(f"{self.name}.holders")
        self.value = w.memory.cell(f"{self.name}.value") if timer else cell("value", value)
        self.owner = cell("owner", show=w.show_process)
        self.shares = [cell(f"share of {p.name}") for p in w.procs] if size or kind == "rwmutex" else []
        self.inside = w.memory.cell(f"{self.name}: is locked by", show=w.show_process)  # for the checks
        self.head, self.tail = seen("head"), seen("tail")
        self.recvq_first, self.recvq_last = (
            cell("recvq_first", show=w.show_sudog),
            cell("recvq_last", show=w.show_sudog),
        )
        self.sendq_first, self.sendq_last = (
            seen("sendq_first", show=w.show_sudog),
            cell("sendq_last", show=w.show_sudog),
        )
        self.slots = [cell(f"slot[{i}]", show=w.show_block) for i in range(cap)]

    def first(self, send: int) -> Cell:
        return self.sendq_first if send else self.recvq_first

    def last(self, send: int) -> Cell:
        return self.sendq_last if send else self.recvq_last


class Block:
    """A heap block that holds a message, with what the model writes down about it."""

    def __init__(self, w: World, number: int) -> None:
        self.number = number
        self.name = f"block {number}"
        self.tag = w.memory.cell(f"{self.name}.tag", show=w.show_tag)
        self.sent = w.memory.cell(f"{self.name}: was sent by")  # to the sender's knowledge
        self.to = w.memory.cell(f"{self.name}: was handed to")
        self.got = w.memory.cell(f"{self.name}: was received by")
        self.kept = w.memory.cell(f"{self.name}: its sender has dropped it")


class World:
    """The memory that the processes of one configuration share.

    Args:
        workers: how many processes that work; the coroner comes after them.
        sudogs: of each process.
        locks: that a process holds at most.
        blocks: of messages.
        faults: rules of the protocol that are taken out: see rules.py.
        replaces: the policy is `restart`, not `continue`. What the replacement does is not modelled.
    """

    def __init__(
        self,
        workers: int,
        sudogs: int,
        locks: int,
        blocks: int = 0,
        faults: frozenset[str] = frozenset(),
        replaces: bool = True,
    ) -> None:
        self.memory = Memory()
        self.faults = faults
        self.replaces = replaces
        self.names = ["ABCDEFG"[i] for i in range(workers)] + ["coroner", "clock"]
        self.sudogs: list[Sudog] = []
        self.objects: list[Object] = []
        self.tree: Any = None  # whose lock guards the links of contexts
        self.member_of: dict[int, Object] = {}  # by process: the context of a group that has a member there
        self.queues: list[Object] = []  # of the processes, and the host's
        self.tasks: list[Any] = []
        self.idlers: frozenset[str] = frozenset()  # names of processes that may wait for ever: for tasks, say
        self.procs = [Proc(self, i, self.names[i], sudogs, locks) for i in range(workers)]
        self.blocks = [Block(self, i + 1) for i in range(blocks)]
        self.noted = [
            self.memory.cell(f"{p.name} is noted", private=True) for p in self.procs
        ]  # the coroner's
        self.repaired = [self.memory.cell(f"{p.name} is repaired") for p in self.procs]
        self.now = self.memory.cell("now")

    def keeps(self, rule: str) -> bool:
        """Return True unless the rule is taken out of this world."""
        return rule not in self.faults

    # -- who is who

    @property
    def coroner(self) -> int:
        """The coroner's index."""
        return len(self.procs)

    def sudog(self, number: int) -> Sudog:
        return self.sudogs[number - 1]

    def owner(self, sudog: int) -> Proc:
        return self.procs[self.sudogs[sudog - 1].proc]

    def new(self, kind: str, cap: int = 0, size: int = 0, value: int = 0, polled: bool = False) -> Object:
        self.objects.append(Object(self, kind, cap, size, value, polled))
        return self.objects[-1]

    def serve(self, o: Object) -> Steps:
        """gp_repair_serve, which is above the files that need it."""
        from model.repair import gp_repair_serve

        yield from gp_repair_serve(self, o)

    def channel(self, cap: int = 0) -> Object:
        return self.new("channel", cap)

    def is_dead(self, s: bytes | bytearray, word: int) -> bool:
        return 0 < word <= len(self.procs) and s[self.procs[word - 1].dead.at] != 0

    def holds(self, s: bytes | bytearray, me: int, o: Object) -> bool:
        """Return True if the lock is this process's, or a dead one's and this is the coroner."""
        word = s[o.lock.at]
        return word == me + 1 or (me == self.coroner and self.is_dead(s, word))

    def dies(self, p: Proc) -> Callable[[bytearray], None]:
        def run(s: bytearray) -> None:
            s[p.dead.at] = 1

        return run

    # -- words for traces

    def show_process(self, word: int) -> str:
        return self.names[word - 1] if word else "-"

    def show_object(self, number: int) -> str:
        return self.objects[number - 1].name if number else "-"

    def show_sudog(self, number: int) -> str:
        return (
            f"{self.owner(number).name}{self.owner(number).sudogs.index(self.sudog(number))}"
            if number
            else "-"
        )

    def show_block(self, number: int) -> str:
        return f"block {number}" if number else "-"

    def show_tag(self, tag: int) -> str:
        return (
            "FREE" if tag == FREE else self.show_object(tag - CHAN) if tag > CHAN else self.show_process(tag)
        )


# ---- mem.h: the owner-tagged lock, as if a sleeper could not miss its release (futex_lock.py has the rest), and the journal


def gp_lock(p: Proc, o: Object) -> Steps:
    n = yield p.nlocks.load()
    if p.w.keeps("a lock is announced before it is tried"):
        yield p.locks[n].store(o.number)
        yield p.nlocks.store(n + 1)
        yield take(o)
    else:
        yield take(o)
        yield p.locks[n].store(o.number)
        yield p.nlocks.store(n + 1)


def gp_unlock(p: Proc, o: Object) -> Steps:
    n = yield p.nlocks.load()
    if p.w.keeps("a lock is let go before it is forgotten"):
        yield release(o)
        yield p.nlocks.store(n - 1)
    else:
        yield p.nlocks.store(n - 1)
        yield release(o)


def take(o: Object) -> Step:
    at = o.lock.at

    def run(s: bytearray, me: int) -> None:
        s[at] = me + 1

    return Step(f"lock {o.name}", run, ready=lambda s: not s[at])


def release(o: Object) -> Step:
    at = o.lock.at

    def run(s: bytearray, me: int) -> None:
        if not o.w.holds(s, me, o):
            raise Violation(f"{o.w.names[me]} unlocks {o.name}, and has no lock of it")
        s[at] = 0

    return Step(f"unlock {o.name}", run)


def gp_intent(p: Proc, op: Op, o: Object, b: int = 0, c: int = 0, d: int = 0, e: int = 0) -> Steps:
    """The intent of an operation. While `op` is NONE the operands mean nothing, so their stores are one step here."""
    w = p.w
    if not w.keeps(f"the journal has {op.name}"):
        return
    values = ((p.a, "a", o.number), (p.b, "b", b), (p.c, "c", c), (p.d, "d", d), (p.e, "e", e))
    places = tuple(
        (cell.at, value) for cell, name, value in values if w.keeps(f"the journal has {op.name}.{name}")
    )

    def run(s: bytearray) -> None:
        for at, value in places:
            s[at] = value

    operands = note(f"{p.name}.journal: a={o.name} b={w.show_sudog(b)} c={c} d={d} e={e}", run)
    if w.keeps("the operands of a record come before its op"):
        yield operands
        yield p.op.store(op)
    else:
        yield p.op.store(op)
        yield operands


def gp_done(p: Proc) -> Steps:
    """It has been done. The operands mean nothing from here on, and equal states are to look equal: they go."""
    places: tuple[int, ...] = (p.op.at, p.a.at, p.b.at, p.c.at, p.d.at, p.e.at)
    if not p.w.keeps("the operands of a record come before its op"):
        places = (p.op.at,)  # they are read there

    def run(s: bytearray) -> None:
        for at in places:
            s[at] = 0

    yield note(f"{p.name}.journal.op = NONE", run)
