"""The owner of a lock has died and is being repaired, and nobody takes its place (--on-death=continue): a taker is told at once."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import peek
import pytest

from goproc import OwnerDied, chan, go
from goproc.sync import Mutex, RWMutex

pytestmark = pytest.mark.usefixtures("runtime2")
LIVE, DEAD, GONE = 2, 3, 4  # enum gp_proc_state


@contextmanager
def _state(proc: int, state: int) -> Iterator[None]:
    """The worker has the state for a moment. It sleeps, and does not know."""
    word = ctypes.c_uint32.from_address(peek._base() + 4096 + 4096 * proc)
    assert word.value == LIVE
    word.value = state
    try:
        yield
    finally:
        word.value = LIVE


def _take(lock: Any, taken: Any, gate: Any) -> None:
    lock.lock()
    taken.send(1)
    gate.recv()


@pytest.mark.parametrize("state", [DEAD, GONE])
@pytest.mark.parametrize("kind", [Mutex, RWMutex])
def test_a_taker_is_told(kind: type, state: int) -> None:
    lock, taken, gate = kind(), chan(), chan()
    g = go.on(2)(_take, lock, taken, gate)
    taken.recv()
    assert not lock.try_lock()
    peek.until_waiting(gate, 1)
    peek.until_asleep(2)
    with _state(2, state), pytest.raises(OwnerDied):
        lock.try_lock()
    lock.unlock()
    gate.send(1)
    g.join()
