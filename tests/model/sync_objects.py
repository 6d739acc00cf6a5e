"""Mutexes, semaphores, conditions and wait groups: chan/sync.c, gp_waitgroup_add of chan/outcome.c, and their repair."""

from __future__ import annotations

from collections.abc import Callable

from model import rwmutex
from model.explorer import Step, Steps
from model.queues import (
    BLOCK,
    OK,
    OWNER_DIED,
    Case,
    close_and_tell,
    gp_add_share,
    gp_fire,
    gp_fire_all,
    gp_grant,
    gp_tell,
    gp_unlink,
)
from model.world import DEAD, GONE, WOKEN, Object, Op, Proc, Tag, World, gp_intent, gp_lock, gp_unlock

# ---- shares of a semaphore: how many units are whose


def add_share(p: Proc, o: Object, n: int) -> Steps:
    yield o.shares[p.index].add(n)


def take_share(p: Proc, o: Object, n: int) -> Steps:
    """A process that gives back what another one has taken takes it from that one's share."""
    places = (p.index, *(i for i in range(len(o.shares)) if i != p.index))
    for i in range(len(places)):
        share = yield o.shares[places[i]].load()
        part = min(share, n)
        if part:
            yield o.shares[places[i]].store(share - part)
        n -= part
        if not n:
            return


def owner_died(w: World, o: Object) -> Steps:
    word = yield o.owner.load()
    if not word:
        return False
    return (yield from gp_word_died(w, word))


def gp_word_died(w: World, word: int) -> Steps:
    """tell.c: a state that says so, or another incarnation, which a repair raises before it changes the state again."""
    p = w.procs[word - 1]
    if w.keeps("the state of a process is read before its incarnation"):
        state = yield p.state.load()
        incarnation = yield p.incarnation.load()
    else:
        incarnation = yield p.incarnation.load()
        state = yield p.state.load()
    gone = w.keeps("a process that is not replaced is dead before it is repaired")
    return state == DEAD or (gone and state == GONE) or incarnation != 0


# ---- mutex


def own(p: Proc, o: Object) -> Steps:
    yield o.owner.store(p.word)


def wake_first(p: Proc, o: Object) -> Steps:
    w = p.w
    while True:
        sd = yield o.recvq_first.load()
        if not sd:
            return
        epoch = yield w.sudog(sd).epoch.load()
        yield from gp_intent(p, Op.FIRE, o, sd, 0, epoch)
        won = yield from gp_fire(w, o, sd, Tag.RETRY)
        if won:
            yield o.flags.set_bits(WOKEN)
            yield from gp_unlink(w, o, sd)
        yield from close_and_tell(p, sd, won)
        if won:
            return


def mutex_step(p: Proc, o: Object, woken: bool) -> Steps:
    r = OK
    if woken:
        yield o.flags.clear_bits(WOKEN)
    if (yield o.value.load()):
        if not (yield from owner_died(p.w, o)):
            return BLOCK
        r = OWNER_DIED
    if p.w.keeps("a locked mutex always has an owner"):
        yield from own(p, o)
        yield o.value.store(1)  # COMMIT
    else:
        yield o.value.store(1)
        yield from own(p, o)
    return r


def has_starved(o: Object, sd: int) -> Step:
    """STARVING_NS: the time is the world's."""
    return Step(
        f"has {o.w.show_sudog(sd)} waited for long?",
        lambda s, me, option: option,
        options=lambda s: (False, True),
        private=True,
    )


def gp_mutex_unlock(p: Proc, o: Object) -> Steps:
    yield from gp_lock(p, o)
    handed = False
    if (yield o.value.load()):
        while not handed:
            sd = yield o.recvq_first.load()
            if not sd or not (yield has_starved(o, sd)):
                break
            handed = yield from gp_grant(p, o, sd, 1)
        if not handed:
            yield o.value.store(0)  # COMMIT
            yield o.owner.store(0)
            if not (yield o.flags.load()) & WOKEN:
                yield from wake_first(p, o)
    yield from gp_unlock(p, o)


def gp_mutex_pass(p: Proc, o: Object) -> Steps:
    yield from gp_lock(p, o)
    yield o.flags.clear_bits(WOKEN)
    free = not (yield o.value.load())
    if not free and p.w.keeps("who gives up wakes another for a lock of the dead"):
        free = yield from owner_died(p.w, o)
    if free and p.w.keeps("who was woken and gives up wakes another"):
        yield from wake_first(p, o)
    yield from gp_unlock(p, o)


# ---- semaphore


def serve(p: Proc, o: Object) -> Steps:
    while True:
        sd = yield o.recvq_first.load()
        if not sd:
            return
        free = yield o.value.load()
        n = yield p.w.sudog(sd).n.load()
        if n > free:
            return
        yield from gp_grant(p, o, sd, free - n)


def semaphore_step(p: Proc, o: Object, n: int) -> Steps:
    value = yield o.value.load()
    if (yield o.recvq_first.load()) or n > value:
        return BLOCK
    yield from add_share(p, o, n)
    yield o.value.store(value - n)  # COMMIT
    return OK


def gp_semaphore_release(p: Proc, o: Object, n: int) -> Steps:
    yield from gp_lock(p, o)
    value = yield o.value.load()
    back = yield o.head.load()
    taken = o.size - value
    ok = n <= taken
    if not ok and n <= taken + back:
        yield o.head.store(back - (n - taken))
        n = taken
        ok = True
    if ok:
        yield from take_share(p, o, n)
        yield o.value.store(value + n)  # COMMIT
        yield from serve(p, o)
    yield from gp_unlock(p, o)
    return ok


# ---- condition


def gp_cond_signal(p: Proc, o: Object) -> Steps:
    """True if somebody was signalled."""
    w = p.w
    won = False
    yield from gp_lock(p, o)
    while not won:
        sd = yield o.recvq_first.load()
        if not sd:
            break
        epoch = yield w.sudog(sd).epoch.load()
        yield from gp_intent(p, Op.FIRE, o, sd, 0, epoch)
        won = yield from gp_fire(w, o, sd, Tag.FIRED)  # COMMIT
        if won:
            yield from gp_unlink(w, o, sd)
        yield from close_and_tell(p, sd, won)
    yield from gp_unlock(p, o)
    return won


# ---- wait group


def gp_waitgroup_add(p: Proc, o: Object, n: int) -> Steps:
    yield from gp_lock(p, o)
    value = yield o.value.load()
    if value + n >= 0:
        yield o.value.store(value + n)  # COMMIT
        if value + n == 0:
            yield from gp_fire_all(p, o, Tag.CLOSED)
    yield from gp_unlock(p, o)


# ---- what select.c and wait.c call


def gp_sync_step(p: Proc, case: Case, woken: bool) -> Steps:
    if case.o.kind == "rwmutex":
        return (yield from rwmutex.rwmutex_step(p, case.o, case.kind == "rlock"))
    if case.kind == "lock":
        return (yield from mutex_step(p, case.o, woken))
    if case.kind == "signal":
        return BLOCK
    if case.kind == "acquire":
        return (yield from semaphore_step(p, case.o, case.n))
    return OK if is_done(case.o, (yield case.o.value.load())) else BLOCK


def is_done(o: Object, value: int) -> bool:
    """gp_is_done: of a wait group its count, of an outcome its state."""
    return value >= 2 if o.kind == "outcome" else not value


def gp_sync_serve(p: Proc, o: Object) -> Steps:
    if o.kind == "semaphore" and p.w.keeps("who leaves a semaphore lets those behind go"):
        yield from serve(p, o)
    if o.kind == "rwmutex":
        yield from rwmutex.gp_sync_serve(p, o)


def gp_case_undo(p: Proc, case: Case) -> Steps:
    if case.o.kind == "rwmutex":
        yield from rwmutex.gp_rwmutex_unlock(p, case.o, case.kind == "rlock")
    elif case.kind == "lock":
        yield from gp_mutex_unlock(p, case.o)
    elif case.kind == "signal" and p.w.keeps("who was signalled and gives up signals another"):
        if not (yield from gp_cond_signal(p, case.o)):
            yield case.o.inside.add(-1)  # for the checks: nobody else was there
    elif case.kind == "acquire":
        yield from gp_semaphore_release(p, case.o, case.n)


# ---- the coroner's part: repair_locks.c


def fire(w: World, o: Object, sd: int, tag: Tag) -> Steps:
    won = yield from gp_fire(w, o, sd, tag)
    if won:
        yield from gp_unlink(w, o, sd)
        yield from gp_tell(w, sd)
    return won


def fire_first(w: World, o: Object, tag: Tag) -> Steps:
    while True:
        sd = yield o.recvq_first.load()
        if not sd:
            return False
        if (yield from fire(w, o, sd, tag)):
            return True


def serve_mutex(w: World, o: Object) -> Steps:
    locked = yield o.value.load()
    word = yield o.owner.load()
    dead = locked and word and (yield gp_repair_died(w, word))
    yield o.flags.clear_bits(WOKEN)
    if (not locked or dead) and (yield from fire_first(w, o, Tag.RETRY)):
        yield o.flags.set_bits(WOKEN)


def gp_repair_died(w: World, word: int) -> Step:
    p = w.procs[word - 1]
    return Step(f"is {p.name} dead?", lambda s, me: s[p.incarnation.at] != 0 or s[p.state.at] >= DEAD)


def serve_semaphore(w: World, o: Object) -> Steps:
    while True:
        sd = yield o.recvq_first.load()
        if not sd:
            return
        free = yield o.value.load()
        n = yield w.sudog(sd).n.load()
        left = free - n
        if left < 0:
            return
        if (yield from gp_fire(w, o, sd, Tag.FIRED)):
            yield from gp_add_share(w, o, sd)
            yield o.value.store(left)
            yield from gp_unlink(w, o, sd)
            yield from gp_tell(w, sd)


def repair_serve(w: World, o: Object) -> Steps:
    if o.kind == "mutex":
        yield from serve_mutex(w, o)
    elif o.kind == "semaphore":
        yield from serve_semaphore(w, o)
    elif o.kind == "rwmutex":
        yield from rwmutex.serve_rwmutex(w, o)
    elif o.kind == "cond":
        return
    elif is_done(o, (yield o.value.load())):
        while (yield from fire_first(w, o, Tag.CLOSED)):
            pass


def shares_sum(o: Object) -> Steps:
    total = 0
    for i in range(len(o.shares)):
        share = yield o.shares[i].load()
        total += share
    return total


def redo_grant(w: World, p: Proc, o: Object, sd: int) -> Steps:
    value = yield p.e.load()
    if o.shares:
        total = yield from shares_sum(o)
        if total != shared(o, value) and w.keeps("redo: a share that was granted is counted"):
            yield from gp_add_share(w, o, sd)
    if w.keeps("redo: what was granted is taken"):
        yield o.value.store(value)
        if o.kind != "semaphore":
            yield o.owner.store(w.owner(sd).word)


def shared(o: Object, value: int) -> int:
    """The sum of the shares where `value` is this."""
    if o.kind == "semaphore":
        return o.size - value
    return 0 if value == rwmutex.WRITER else value


def follow_shares(w: World, o: Object) -> Steps:
    """The dead one may have changed a share, and not `value` yet."""
    if not o.shares or not w.keeps("the value follows the shares"):
        return
    total = yield from shares_sum(o)
    if o.kind == "semaphore":
        yield o.value.store(o.size - total)
        return
    value = yield o.value.load()
    if total > 0 or 0 < value < rwmutex.WRITER:
        yield o.value.store(total)


# ---- repair_heap.c


def concerns(w: World, p: Proc, o: Object) -> Steps:
    if o.kind == "mutex":
        if (yield o.flags.load()) & WOKEN:
            return True
        return (yield o.owner.peek()) == p.word
    if o.shares and (yield o.shares[p.index].peek()):
        return True
    return o.kind == "rwmutex" and (yield o.owner.peek()) == p.word


def take_back(w: World, p: Proc, o: Object, lock: Callable[[World, Object], Steps]) -> Steps:
    """Units of the dead come back, and whoever waited for it goes on. `lock`: the coroner's."""
    if not w.keeps("what the dead had of objects comes back") or not (yield from concerns(w, p, o)):
        return
    yield from lock(w, o)
    n = (yield o.shares[p.index].load()) if o.shares else 0
    value = yield o.value.load()
    if n:
        yield o.shares[p.index].store(0)
    if n and o.kind == "semaphore":
        back = yield o.head.load()
        yield o.head.store(back + n)
        yield o.value.store(value + n)
    elif n:
        yield o.value.store(value - n)
    yield from repair_serve(w, o)
    yield o.lock.store(0)
