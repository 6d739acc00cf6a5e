"""A timer is set anew while somebody waits for it and for a channel: the wake-up for that is none for the channel."""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Any

import peek
import pytest

from goproc import Atomic, Selected, Timer, chan, go, select
from goproc.shm import _core

pytestmark = pytest.mark.usefixtures("runtime2")
WAITING, FIRED = 1, 2
LOCKED_BY_OTHERS = 0x80000000  # GP_LOCK_WAITERS


class _Segment:
    """Words of the segment, as layout.h has them."""

    def __init__(self) -> None:
        self.base = peek._base()
        self.waiters_at = 4096 + 2097152 // 8  # GP_PART_WAITERS

    def u64(self, at: int) -> Any:
        return ctypes.c_uint64.from_address(self.base + at)

    def u32(self, at: int) -> Any:
        return ctypes.c_uint32.from_address(self.base + at)

    def partition(self, proc: int) -> int:
        return int(self.u64(32).value + proc * self.u64(40).value)

    def lock_word_of(self, proc: int) -> int:
        return int(self.u32(4096 + proc * 4096 + 4).value & 0x1FFFFF) << 10 | (proc + 1)


class _Sender:
    """A sender to a channel that is held up in the middle of a hand-off to the receiver that waits."""

    def __init__(self, channel: Any) -> None:
        self.segment = segment = _Segment()
        self.object = channel._ref * 64
        first = segment.u32(self.object + 40).value
        proc, index = first >> 24, (first & 0xFFFFFF) - 1
        self.sudog = segment.partition(proc) + segment.waiters_at + 64 * segment.u32(96).value + 128 * index
        waiter = segment.u32(self.sudog + 8).value
        self.state = segment.partition(proc) + segment.waiters_at + 64 * waiter
        self.lock = segment.u32(self.object + 16)

    def begin(self, value: int) -> None:
        """Lock the channel, hand the value over, fire the receiver."""
        assert self.lock.value == 0
        self.lock.value = self.segment.lock_word_of(0)
        self.segment.u64(self.sudog + 64).value = 3 | 8 << 8  # GP_CODEC_INT, of 8 bytes
        self.segment.u64(self.sudog + 72).value = value
        word = self.segment.u64(self.state)
        assert word.value & 0xFF == WAITING
        case = self.segment.u32(self.sudog + 12).value >> 16
        word.value = word.value >> 24 << 24 | case << 8 | FIRED

    def end(self) -> None:
        """Take the receiver out of the queue, and let the lock go."""
        self.segment.u64(self.object + 40).value = 0
        self.segment.u32(self.sudog + 36).value = 0
        self.lock.value = 0


def _stop(pid: int) -> None:
    peek.until_asleep(1)  # a receiver that is seen to wait may still hold the lock of the timer
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    peek.until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")


def _wait(timer: Timer, channel: Any, over: Atomic) -> tuple[int, Any]:
    chosen: Selected = select(timer.c, channel)
    over.store(1)
    return chosen.index, chosen.value


def test_the_receiver_waits_for_the_sender_to_finish() -> None:
    timer, channel, over = Timer(1000.0), chan(), Atomic(0)
    g = go.on(1)(_wait, timer, channel, over)
    peek.until_waiting(channel, 1)
    sender = _Sender(channel)
    pid = _core.pids()[1]
    _stop(pid)
    try:
        timer.reset(900.0)  # wakes the receiver, and fires nobody
        sender.begin(7)
    finally:
        os.kill(pid, signal.SIGCONT)
    peek.until(lambda: sender.lock.value & LOCKED_BY_OTHERS or over.load())
    early = over.load()
    sender.end()
    assert g.result(20) == (1, 7)
    assert not early, "the receiver went on while the sender still had its record"


def test_nothing_is_left_for_the_next_use_of_the_record() -> None:
    """The timer is set anew while the receiver is fired already: its note goes with the wait."""
    timer, channel, over = Timer(1000.0), chan(), Atomic(0)
    g = go.on(1)(_wait, timer, channel, over)
    peek.until_waiting(channel, 1)
    sender = _Sender(channel)
    pid = _core.pids()[1]
    _stop(pid)
    try:
        channel.send(1)
        timer.reset(900.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert g.result(20) == (1, 1)
    assert sender.segment.u32(sender.state + 12).value == 0  # rethink
