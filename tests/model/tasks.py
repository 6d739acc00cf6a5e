"""Goroutines that have not started, and their ends: proc/tasks.c, taking.c, trackers.c and repair_tasks.c,
python/goroutines.c and task_life.c, and gp_outcome_set of chan/outcome.c.

Where a new task is put, and how long a thief has patience, decide only who takes a task; here anybody may take any, and it is
the configuration that says where tasks are put. The code of a task is empty.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

from model.explorer import Step, Steps, Violation
from model.queues import gp_fire_all
from model.world import FREE, Object, Op, Proc, Tag, World, gp_done, gp_intent, gp_lock, gp_unlock

QUEUE, RESULT = 32, 128  # tags of tasks: QUEUE + the number of a queue, RESULT + the number of an outcome


Lock = Callable[[World, Object], Steps]  # the coroner's


class Started(IntEnum):
    """enum gp_started."""

    UNMADE = 0
    UNSTARTED = 1
    STARTED = 2


SPARE = 64  # in a journal: the spare block of a task, + its number
PART, SPARE_RESULT = 1, 2  # tags of that block: the task's, the outcome's

CALL, OUTCOME = 1, 2  # what is in the place of a task's call

QUEUED, RUNNING, DONE, LOST = 0, 1, 2, 3  # enum gp_goroutine_state; LOST is GP_G_FAILED with an obituary


class Task:
    """struct gp_task, and what the model writes down about it."""

    def __init__(self, w: World, number: int, outcome: Object) -> None:
        self.number = number
        self.name = f"task {number}"
        self.outcome = outcome
        self.tag = w.memory.cell(f"{self.name}.tag", show=show_tag(w))
        self.started = w.memory.cell(f"{self.name}.started", show=lambda n: Started(n).name)
        self.count = w.memory.cell(f"{self.name}.tracker", show=w.show_object)
        self.retries = w.memory.cell(f"{self.name}.retries")
        self.spare = w.memory.cell(f"{self.name}.spare.tag", show=("FREE", "PART", "RESULT").__getitem__)
        self.call = w.memory.cell(
            f"{self.name}.call", show=("nothing", "the call", "the outcome").__getitem__
        )
        self.begun = w.memory.cell(f"{self.name}: was begun by", show=w.show_process)
        self.made = w.memory.cell(f"{self.name}: will run")


def show_tag(w: World) -> Callable[[int], str]:
    def show(tag: int) -> str:
        if tag == FREE:
            return "FREE"
        kind = "RESULT" if tag >= RESULT else "QUEUE" if tag >= QUEUE else "PROC"
        return (
            f"{kind}({w.show_process(tag) if kind == 'PROC' else tag - (RESULT if tag >= RESULT else QUEUE)})"
        )

    return show


# ---- a ring: numbers of tasks go round, in twice as many as there are slots


def numbers(q: Object, head: int, tail: int) -> tuple[int, ...]:
    """Return the numbers of the tasks in a ring."""
    return tuple((head + i) % (2 * q.cap) for i in range((tail - head) % (2 * q.cap)))


def after(q: Object, number: int) -> int:
    return (number + 1) % (2 * q.cap)


def gp_task_push(p: Proc, task: Task, q: Object) -> Steps:
    yield from gp_lock(p, q)
    yield from put(p.w, task, q)
    yield from gp_unlock(p, q)


def put(w: World, task: Task, q: Object) -> Steps:
    tail = yield q.tail.load()
    yield q.slots[tail % q.cap].store(task.number)
    if w.keeps("a task is the queue's after it is in the ring"):
        yield q.tail.store(after(q, tail))  # COMMIT
        yield task.tag.store(QUEUE + q.number)
    else:
        yield task.tag.store(QUEUE + q.number)
        yield q.tail.store(after(q, tail))


def gp_task_pop(p: Proc) -> Steps:
    w, q = p.w, p.w.queues[p.index]
    number = 0
    yield from gp_lock(p, q)
    head = yield q.head.load()
    if head != (yield q.tail.load()):
        number = yield q.slots[head % q.cap].load()
        if w.keeps("a task is claimed before the ring lets it go"):
            yield w.tasks[number - 1].tag.store(p.word)  # COMMIT of the claim
            yield q.head.store(after(q, head))
        else:
            yield q.head.store(after(q, head))
            yield w.tasks[number - 1].tag.store(p.word)
    yield from gp_unlock(p, q)
    return number


def gp_task_steal(p: Proc, q: Object) -> Steps:
    yield from gp_lock(p, q)
    head = yield q.head.load()
    tail = yield q.tail.load()
    got = yield from claim(p, q, head, tail)
    yield q.head.store(tail)  # COMMIT
    yield from gp_unlock(p, q)
    for i in range(len(got)):
        yield from gp_task_push(p, p.w.tasks[got[i] - 1], p.w.queues[p.index])


def claim(p: Proc, q: Object, head: int, tail: int) -> Steps:
    got: tuple[int, ...] = ()
    ring = numbers(q, head, tail)
    for i in range(len(ring)):
        number = yield q.slots[ring[i] % q.cap].load()
        got = (*got, number)
        if p.w.keeps("stolen tasks are the thief's before the ring lets them go"):
            yield p.w.tasks[number - 1].tag.store(p.word)
    return got


# ---- the life of a task


def track(p: Proc, task: Task, o: Object, change: int, then: int) -> Steps:
    """The change of the count and that of the task are one step, for the coroner."""
    yield from gp_lock(p, o)
    value = yield o.value.load()
    value += change
    yield from gp_intent(p, Op.TRACK, o, 0, task.number, value, then)
    yield o.value.store(value)  # COMMIT
    yield task.count.store(then)
    yield from gp_done(p)
    if not value:
        yield from gp_fire_all(p, o, Tag.CLOSED)
    yield from gp_unlock(p, o)


def go(p: Proc, task: Task, q: Object, count: Object | None, retries: int) -> Steps:
    """task_new."""

    def make(s: bytearray, me: int) -> None:
        s[task.tag.at] = p.word
        s[task.call.at] = CALL
        s[task.outcome.holders.at] |= 1 << p.index

    yield Step(f"{p.name} makes {task.name}: UNMADE", make)
    if count is not None:
        yield from track(p, task, count, 1, count.number)
    if retries:
        if p.w.keeps("an outcome leaves its place to the call of a goroutine that may start again"):
            yield task.spare.store(PART)
        yield task.retries.store(retries)

    def commit(s: bytearray, me: int) -> None:
        s[task.started.at] = Started.UNSTARTED
        s[task.made.at] = 1

    yield Step(f"{task.name}.started = UNSTARTED", commit)  # COMMIT: from here on it will run
    yield from gp_task_push(p, task, q)


def run(p: Proc, task: Task) -> Steps:
    """task_next, and the end of the goroutine."""
    yield begin(p, task)  # COMMIT: if this process dies, it is lost, or starts again
    if not (yield task.retries.load()):
        yield task.call.store(0)
    yield from set_state(p, task)
    if p.w.keeps("a goroutine leaves its group before it has an outcome"):
        yield from leave(p, task)
        yield from task_done(p, task)
    else:
        yield from task_done(p, task)
        yield from leave(p, task)


def begin(p: Proc, task: Task) -> Step:
    def start(s: bytearray, me: int) -> None:
        before = s[task.begun.at]
        if before and not p.w.is_dead(s, before):
            raise Violation(f"{task.name} is begun by {p.name}, and was by {p.w.show_process(before)}")
        if s[task.tag.at] != p.word:
            raise Violation(f"{p.name} begins {task.name}, whose tag is {task.tag.shown(s)}")
        if s[task.call.at] != CALL:
            raise Violation(f"{p.name} begins {task.name}, which has no call any more")
        s[task.begun.at] = p.word
        s[task.started.at] = Started.STARTED

    return Step(f"{task.name}.started = STARTED", start)


def set_state(p: Proc, task: Task) -> Steps:
    o = task.outcome
    at = o.value.at

    def running(s: bytearray, me: int) -> None:
        s[at] = RUNNING

    yield Step(f"{o.name}.state = RUNNING", running)


def leave(p: Proc, task: Task) -> Steps:
    number = yield task.count.load()
    if number:
        yield from track(p, task, p.w.objects[number - 1], -1, 0)


def task_done(p: Proc, task: Task) -> Steps:
    spare = yield task.spare.load()
    if not spare:
        yield task.call.store(OUTCOME)  # store_outcome
    wanted = yield from gp_outcome_set(p, task, spare != 0)
    if spare:  # drop_call
        yield task.retries.store(0)
        yield task.call.store(0)
        if not wanted:
            yield task.spare.store(FREE)
    if spare or not wanted:
        yield task.tag.store(FREE)


def gp_outcome_set(p: Proc, task: Task, spare: bool) -> Steps:
    o = task.outcome
    yield from gp_lock(p, o)
    wanted = yield o.holders.load()
    if wanted:
        block = task.number + (SPARE if spare else 0)
        yield from gp_intent(p, Op.OUTCOME, o, 0, block, DONE, task.number)
        yield (task.spare.store(SPARE_RESULT) if spare else task.tag.store(RESULT + o.number))
        yield o.value.store(DONE)  # COMMIT
        yield from gp_done(p)
        yield from gp_fire_all(p, o, Tag.CLOSED)
    yield from gp_unlock(p, o)
    return wanted != 0


def look_for_tasks(w: World) -> Step:
    """gp_task_count and gp_task_in_reach: hints, read without a lock. The result is the index of a queue."""
    places = tuple((q.head.at, q.tail.at) for q in w.queues)

    def options(s: bytes) -> list[int]:
        return [i for i, (head, tail) in enumerate(places) if s[head] != s[tail]]

    return Step("there is a task in a queue", lambda s, me, option: option, options=options)


def worker(p: Proc) -> Steps:
    """Take tasks for ever. idle.c wakes it when there is one: see doorbell.py."""
    w = p.w
    while True:
        victim = yield look_for_tasks(w)
        if victim != p.index:
            yield from gp_task_steal(p, w.queues[victim])
        number = yield from gp_task_pop(p)
        if number:
            yield from run(p, w.tasks[number - 1])


# ---- repair_tasks.c


def restore_ring(w: World, q: Object) -> Steps:
    """A task that the dead process has put into the ring, or was about to take out, belongs to the queue."""
    head = yield q.head.load()
    tail = yield q.tail.load()
    ring = numbers(q, head, tail)
    for i in range(len(ring)):
        number = yield q.slots[ring[i] % q.cap].load()
        yield w.tasks[number - 1].tag.store(QUEUE + q.number)


def redo(w: World, p: Proc, o: Object, op: Op) -> Steps:
    block = yield p.c.load()
    then = yield p.d.load()
    task = yield p.e.load()
    value = yield o.value.load()
    if op == Op.OUTCOME and value != then and w.keeps("redo: a task without an outcome is the dead one's"):
        yield from undo_outcome(w, p, block, task)
    if op == Op.TRACK and block and value == then and w.keeps("redo: a task that was counted says so"):
        yield w.tasks[block - 1].count.store(task)


def undo_outcome(w: World, p: Proc, block: int, task: int) -> Steps:
    if block and block == task:
        yield w.tasks[task - 1].tag.store(p.word)
    elif block > SPARE:
        yield w.tasks[block - SPARE - 1].spare.store(PART)


def gp_repair_tasks(w: World, p: Proc, lock: Lock) -> Steps:
    for i in range(len(w.tasks)):
        task = w.tasks[i]
        if (yield task.tag.load()) == p.word:
            yield from end_one(w, p, task, lock)


def end_one(w: World, p: Proc, task: Task, lock: Lock) -> Steps:
    started = yield task.started.load()
    if started == Started.UNSTARTED:
        if w.keeps("a task of the dead that had not begun runs elsewhere"):
            yield from push_again(w, task, lock)
    elif started == Started.UNMADE:
        if w.keeps("a task of the dead that was not made is not counted"):
            yield from tell_trackers(w, task, lock)
    elif (yield task.retries.load()) and (yield from may_start(w, task)):
        yield task.retries.add(-1)
        yield task.started.store(Started.UNSTARTED)
        yield reset(task)
        yield from push_again(w, task, lock)
    else:
        yield from lose(w, p, task, lock)


def may_start(w: World, task: Task) -> Steps:
    state = yield task.outcome.value.peek()
    return state < DONE or not w.keeps("a goroutine with an outcome does not start again")


def reset(task: Task) -> Step:
    def run(s: bytearray, me: int) -> None:
        if s[task.outcome.value.at] >= DONE:
            raise Violation(f"{task.name} is to start again, and has an outcome")
        s[task.outcome.value.at] = QUEUED

    return Step(f"{task.outcome.name}.state = QUEUED", run)


def push_again(w: World, task: Task, lock: Lock) -> Steps:
    q = w.queues[-1]  # the host's
    yield from lock(w, q)
    yield from put(w, task, q)
    yield q.lock.store(0)


def lose(w: World, p: Proc, task: Task, lock: Lock) -> Steps:
    o = task.outcome
    yield task.spare.cas(PART, FREE)
    yield from lock(w, o)
    yield o.holders.clear_bits(1 << p.index)
    if (yield o.value.load()) >= DONE:
        yield task.tag.store(p.word)
    elif (yield o.holders.load()):
        yield task.tag.store(RESULT + o.number)
        yield o.value.store(LOST)  # COMMIT
        yield from w.serve(o)
    else:
        yield task.tag.store(p.word)
        yield o.value.store(LOST)
    yield o.lock.store(0)
    if w.keeps("the group of a lost goroutine is told"):
        yield from tell_trackers(w, task, lock)


def tell_trackers(w: World, task: Task, lock: Lock) -> Steps:
    number = yield task.count.load()
    yield task.count.store(0)
    if not number:
        return
    count = w.objects[number - 1]
    yield from lock(w, count)
    value = yield count.value.load()
    if value:
        yield count.value.store(value - 1)
    yield from w.serve(count)
    yield count.lock.store(0)


def gp_repair_heap(w: World, p: Proc) -> Steps:
    for i in range(len(w.tasks)):
        task = w.tasks[i]
        if (yield task.tag.load()) == p.word:
            yield task.spare.cas(PART, FREE)
            yield task.tag.store(FREE)
        yield task.outcome.holders.clear_bits(1 << p.index)


# ---- what must hold at an end


def check(w: World, s: bytes, dead: set[int]) -> None:
    workers = [p for p in w.procs if p.word not in dead and p.name in w.idlers]
    for q in w.queues:
        if workers and s[q.head.at] != s[q.tail.at]:
            raise Violation(f"a task is in {q.name}, and {workers[0].name} sleeps")
    for task in w.tasks:
        check_task(w, s, task, dead, bool(workers))
    for o in w.objects if w.tasks else ():
        alive = [task for task in w.tasks if 0 < s[task.tag.at] < RESULT and s[task.tag.at] not in dead]
        counted = sum(s[task.count.at] == o.number for task in alive)
        if o.kind == "group" and s[o.value.at] != counted:
            raise Violation(f"{o.name} counts {s[o.value.at]}, and {counted} goroutines are in it")


def check_task(w: World, s: bytes, task: Task, dead: set[int], served: bool) -> None:
    tag, begun, state = s[task.tag.at], s[task.begun.at], s[task.outcome.value.at]
    places = sum(
        s[q.slots[i % q.cap].at] == task.number
        for q in w.queues
        for i in numbers(q, s[q.head.at], s[q.tail.at])
    )
    if places != (1 if QUEUE <= tag < RESULT else 0):
        raise Violation(f"{task.name} is in {places} rings, and its tag is {task.tag.shown(s)}")
    if tag in dead:
        raise Violation(f"{task.name} leaks: it belongs to {w.show_process(tag)}, who is dead")
    if 0 < tag < QUEUE:
        raise Violation(f"{task.name} leaks: it still belongs to {w.show_process(tag)}")
    if s[task.made.at] and not begun and served:
        raise Violation(f"{task.name} is lost: it never ran")
    if begun and begun not in dead and state != DONE and s[task.outcome.holders.at]:
        raise Violation(f"{task.name} has run to its end, and its outcome is {state}")
    has_outcome = tag == RESULT + task.outcome.number or s[task.spare.at] == SPARE_RESULT
    if s[task.spare.at] == PART and (tag == FREE or tag >= RESULT):
        raise Violation(f"the spare block of {task.name} leaks")
    if state >= DONE and s[task.outcome.holders.at] and not has_outcome:
        raise Violation(f"the outcome of {task.name} is gone: its tag is {task.tag.shown(s)}")
    if begun in dead and state < DONE and not places and s[task.outcome.holders.at]:
        raise Violation(f"{task.name} is lost with {w.show_process(begun)}, and nobody is told")
