"""A lock whose holder's process died: whoever takes it next is told, once, and it does not stay locked.

The dead owner is written into the lock, as goproc/shm/layout.h has it: a process that exists, in an incarnation that
does not.
"""

from __future__ import annotations

import ctypes

import peek
import pytest
from peek import until, waiters

from goproc import Atomic
from goproc.errors import OwnerDied
from goproc.sync import Cond, Mutex, Once, RWMutex

_OWNER = 120  # of struct gp_object: layout.h asserts it


def bury(lock):
    """Let its holder have died."""
    word = ctypes.c_uint32.from_address(peek._base() + 64 * lock._ref + _OWNER)
    assert word.value & 1023, "nobody holds it"
    word.value ^= 1 << 20  # another incarnation of the same process


def taken(lock, name):
    """Take the lock; return the text of the OwnerDied, or None."""
    try:
        assert getattr(lock, name)() is not False
    except OwnerDied as error:
        return str(error)
    return None


TAKES = {
    "lock": (Mutex, "lock", "lock", "unlock"),
    "try_lock": (Mutex, "lock", "try_lock", "unlock"),
    "writer lock": (RWMutex, "lock", "lock", "unlock"),
    "writer try_lock": (RWMutex, "lock", "try_lock", "unlock"),
    "reader rlock": (RWMutex, "lock", "rlock", "runlock"),
    "reader try_rlock": (RWMutex, "lock", "try_rlock", "runlock"),
}


@pytest.mark.parametrize("how", TAKES)
def test_the_next_taker_is_told_once_and_has_it(place, how):
    kind, hold, take, give = TAKES[how]
    m = kind()
    getattr(m, hold)()
    bury(m)
    told = place.anyone(taken, m, take).result(10)
    assert told and "died" in told
    assert not m.try_lock()
    place.anyone(getattr(m, give)).result(10)
    assert place.anyone(taken, m, take).result(10) is None
    getattr(m, give)()
    assert m.try_lock()
    m.unlock()


@pytest.mark.parametrize("what", ["mutex", "writer", "reader", "cond"])
def test_a_with_block_that_is_not_entered_leaves_it_free(place, what):
    """Nobody would unlock it."""
    m = Mutex() if what in ("mutex", "cond") else RWMutex()
    side = {"mutex": m, "cond": Cond(m) if what == "cond" else m}.get(what) or getattr(m, what)

    def enter(side):
        try:
            with side:
                return "entered"
        except OwnerDied:
            return "told"

    m.lock()
    bury(m)
    assert place.anyone(enter, side).result(10) == "told"
    m.lock(timeout=5)
    m.unlock()


def test_waiters_behind_the_next_taker(place):
    """They are not told: the one that was has it, and hands it on."""
    m = Mutex()
    m.lock()
    bury(m)
    assert place.anyone(taken, m, "lock").result(10)
    gs = [place.anyone(taken, m, "lock") for _ in range(3)]
    until(lambda: sum(waiters(m)) == 3)
    for _ in range(4):
        until(lambda: m.locked)  # the one that was told has left the queue before it locks
        place.anyone(m.unlock).result(10)
    assert [g.result(10) for g in gs] == [None] * 3
    assert not m.locked


def test_condition_locks_again(place):
    """A signalled waiter that finds the holder dead is told, and holds the lock as after any wait()."""

    def wait(cond):
        cond.mutex.lock()
        try:
            cond.wait()
        except OwnerDied:
            return cond.mutex.locked
        finally:
            cond.mutex.unlock()

    cond = Cond(Mutex())
    g = place.anyone(wait, cond)
    until(lambda: waiters(cond) == (1, 0))
    cond.mutex.lock()
    bury(cond.mutex)
    cond.signal()
    assert g.result(10) is True
    assert cond.mutex.try_lock()
    cond.mutex.unlock()


def test_once_whose_doer_died(place):
    """The next one does it: it was not done. And nobody waits for the dead."""
    once, n = Once(), Atomic(0)
    once._lock()
    bury(once)

    def do(once, n):
        try:
            once.do(n.add, 1)
        except OwnerDied:
            return "told"

    place.anyone(do, once, n).result(10)
    gs = [place.anyone(do, once, n) for _ in range(2)]
    for g in gs:
        assert g.result(10) is None
    assert n.load() == 1


def test_readers_of_a_lock_whose_owner_died_are_told_once(place):
    m = RWMutex()
    m.lock()
    bury(m)
    told = [place.anyone(taken, m, "rlock").result(10) for _ in range(3)]
    assert bool(told[0]) and told[1:] == [None, None]
    for _ in range(3):
        m.runlock()
    assert m.try_lock()
    m.unlock()
