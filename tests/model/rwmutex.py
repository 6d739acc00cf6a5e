"""The read-write mutex: chan/sync.c, serve_rwmutex of proc/repair_locks.c. Readers wait in recvq, writers in sendq.

`value` is the number of readers, or WRITER. Readers have shares, as units of a semaphore have; a writer is the owner.
"""

from __future__ import annotations

from model import sync_objects
from model.explorer import Step, Steps
from model.memory import note
from model.queues import BLOCK, OK, OWNER_DIED, gp_add_share, gp_fire, gp_grant, gp_tell, gp_unlink
from model.world import Object, Proc, Tag, World, gp_lock, gp_unlock

WRITER = 255


def grant_readers(p: Proc, o: Object) -> Steps:
    any_of_them = False
    while True:
        sd = yield o.recvq_first.load()
        if not sd:
            break
        value = yield o.value.load()
        if (yield from gp_grant(p, o, sd, value + 1)):
            any_of_them = True
    if any_of_them:
        yield o.owner.store(0)
    return any_of_them


def grant_writer(p: Proc, o: Object) -> Steps:
    while True:
        sd = yield o.sendq_first.load()
        if not sd:
            break
        if (yield from gp_grant(p, o, sd, WRITER)):
            return
    yield from grant_readers(p, o)  # they queued behind writers that have given up


def rwmutex_step(p: Proc, o: Object, reader: bool) -> Steps:
    value = yield o.value.load()
    r = OK
    if value == WRITER and (yield from sync_objects.owner_died(p.w, o)):
        value = 0
        r = OWNER_DIED
    if reader:
        if value == WRITER or ((yield o.sendq_first.load()) and r == OK):
            return BLOCK
        yield from sync_objects.add_share(p, o, 1)
        yield tell(o, r)
        yield o.value.store(value + 1)
        yield o.owner.store(0)
        return r
    if value:
        return BLOCK
    yield from sync_objects.own(p, o)
    yield tell(o, r)
    yield o.value.store(WRITER)
    return r


def tell(o: Object, r: str) -> Step:
    """For the checks: the next taker is told of a writer that died, and nobody after it."""
    at = o.inside.at

    def run(s: bytearray) -> None:
        s[at] = s[at] or r == OWNER_DIED

    return note(f"{r}: the next taker of {o.name}", run)


def gp_rwmutex_unlock(p: Proc, o: Object, reader: bool) -> Steps:
    yield from gp_lock(p, o)
    value = yield o.value.load()
    if reader and 0 < value < WRITER:
        yield from sync_objects.take_share(p, o, 1)
        yield o.value.store(value - 1)  # COMMIT
        if value == 1:
            yield from grant_writer(p, o)
    elif not reader and value == WRITER:
        yield o.value.store(0)  # COMMIT
        yield o.owner.store(0)
        if not (yield from grant_readers(p, o)):
            yield from grant_writer(p, o)
    yield from gp_unlock(p, o)


def gp_sync_serve(p: Proc, o: Object) -> Steps:
    """A waiter has left."""
    value = yield o.value.load()
    if not p.w.keeps("a writer that gives up lets the readers go"):
        return
    if not value:
        yield from grant_writer(p, o)
    elif value < WRITER and not (yield o.sendq_first.load()):
        yield from grant_readers(p, o)


# ---- the coroner's part


def grant(w: World, o: Object, sd: int, value: int) -> Steps:
    if not (yield from gp_fire(w, o, sd, Tag.FIRED)):
        return False
    yield from gp_add_share(w, o, sd)
    yield o.value.store(value)
    yield o.owner.store(w.owner(sd).word)
    yield from gp_unlink(w, o, sd)
    yield from gp_tell(w, sd)
    return True


def serve_rwmutex(w: World, o: Object) -> Steps:
    value = yield o.value.load()
    word = yield o.owner.load()
    if value == WRITER and word and (yield sync_objects.gp_repair_died(w, word)):
        for send in range(2):
            sd = yield o.first(send).load()
            while sd:
                yield from sync_objects.fire(w, o, sd, Tag.RETRY)
                sd = yield o.first(send).load()
    elif not value:
        sd = yield o.sendq_first.load()
        while sd:
            if (yield from grant(w, o, sd, WRITER)):
                return
            sd = yield o.sendq_first.load()
    value = yield o.value.load()
    if value == WRITER or (yield o.sendq_first.load()):
        return
    any_of_them = False
    sd = yield o.recvq_first.load()
    while sd:
        value = yield o.value.load()
        if (yield from grant(w, o, sd, value + 1)):
            any_of_them = True
        sd = yield o.recvq_first.load()
    if any_of_them:
        yield o.owner.store(0)
