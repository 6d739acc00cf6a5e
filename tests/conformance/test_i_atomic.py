"""I: atomics. Pool and Map (I01 to I10) have no counterpart: objects are not shared between processes."""

from __future__ import annotations

from goproc import Atomic


def test_I11_atomic_returns(place, long):
    def operations(a):
        return [
            a.add(3),
            a.add(-1),
            a.and_(0b1010),
            a.or_(0b0101),
            a.cas(0b0111, 9),
            a.cas(0b0111, 10),
            a.swap(4),
            a.load(),
        ]

    a = Atomic(0b0101)
    # 5 -> 8 -> 7 -> (old 7) 2 -> (old 2) 7 -> 9 -> refused -> (old 9) 4
    assert place.anyone(operations, a).result(10) == [8, 7, 7, 2, True, False, 9, 4]
    assert a.load() == 4

    def count(a, n):
        for _ in range(n):
            a.add(1)

    a, n = Atomic(0), 10_000 if long else 2500
    gs = [place.anyone(count, a, n) for _ in range(4)]
    for g in gs:
        g.result(40)
    assert a.load() == 4 * n
