"""Selector: the same cases again and again, and their replacement; errors leave it usable."""

from __future__ import annotations

import gc
import weakref
from collections import Counter

import programs
import pytest
from peek import until, until_waiting, waiters

from goproc import ChanClosed, Selector, WaitGroup, chan, default, go, nil, yield_now


def test_sequence(runtime0):
    a, b = chan(1), chan(1)
    cases = [a, b.recv, (b.send, 1), nil, default]
    s = Selector(*cases)
    assert len(s) == 5
    assert [s[i] for i in range(5)] == cases == list(s)
    assert s[-1] is default and s[-5] is a
    for i in (5, -6, 10**9):
        with pytest.raises(IndexError):
            s[i]
        with pytest.raises(IndexError):
            s[i] = nil
    with pytest.raises(IndexError):
        del s[0]
    with pytest.raises((TypeError, OverflowError, IndexError)):
        s["0"] = nil
    assert len(Selector()) == 0 and Selector(default).select() == (0, None, False)


def test_default_in_any_place(runtime0):
    c = chan(1)
    for at in range(3):
        cases = [c, nil]
        cases.insert(at, default)
        s = Selector(*cases)
        assert s() == (at, None, False)
        c.send(at)
        assert s() == (cases.index(c), at, True)
        assert s() == (at, None, False)


def test_replacement(runtime0):
    a, b = chan(2), chan(2)
    s = Selector(a, b)
    a.send(1)
    s[0] = nil
    b.send(2)
    assert [s.select().value] == [2]
    with pytest.raises(TimeoutError):
        s.select(timeout=0.001)
    s[0] = a
    assert s.select() == (0, 1, True)
    s[0] = (a.send, "sent")
    assert s.select() == (0, None, True)
    s[1] = default
    assert s.select() == (0, None, True)
    assert s.select() == (1, None, False)
    s[-1] = a
    s[0] = nil
    assert s.select() == s.select() == (1, "sent", True)
    # to another kind of case, and with the order of refs reversed
    wg = WaitGroup()
    s[0] = wg
    assert s.select() == (0, None, True)
    s[0], s[1] = b, a
    b.send(3)
    assert s.select() == (0, 3, True)


@pytest.mark.parametrize("n", [3, 64, 70])
def test_replacement_that_is_refused_changes_nothing(runtime0, n):
    cs = [chan(1) for _ in range(n)]
    s = Selector(*cs[:-1], default)
    for bad, error in (
        (1, TypeError),
        (cs[0].send, TypeError),
        (cs[0].tx, TypeError),
        (default, ValueError),
        (None, TypeError),
    ):
        with pytest.raises(error):
            s[0] = bad
        assert s[0] is cs[0] and s[n - 1] is default and len(s) == n
        cs[0].send("v")
        assert s.select() == (0, "v", True)
        assert s.select() == (n - 1, None, False)
        cs[n - 2].send("w")
        assert s.select() == (n - 2, "w", True)
    s[n - 1] = cs[n - 1]
    s[0] = default
    assert s.select() == (0, None, False)


def test_again_after_errors(place):
    def use(a, b, full):
        s = Selector(a, b, (full.send, "v" * 100))
        said = []
        for _ in range(3):
            try:
                s.select(timeout=0.001)
            except TimeoutError:
                said.append("late")
            a.send(1)
            said.append(tuple(s.select()))
            s[2] = (full.send, (i for i in ()))
            try:
                s.select()
            except Exception as error:
                said.append(type(error).__name__ != "TimeoutError")
            s[2] = (full.send, "v" * 100)
            b.send(2)
            said.append(tuple(s()))
        full.close()
        for _ in range(2):
            try:
                s.select()
            except ChanClosed:
                said.append("closed")
        s[2] = nil
        b.send("end")
        said.append(tuple(s()))
        return said

    a, b, full = chan(1), chan(1), chan(1)
    full.send(1)
    once = ["late", (0, 1, True), True, (1, 2, True)]
    assert place.anyone(use, a, b, full).result(10) == [*once * 3, "closed", "closed", (1, "end", True)]
    assert waiters(a) == waiters(b) == waiters(full) == (0, 0)


def test_value_is_that_of_the_moment(runtime0):
    """A send case keeps the object, and sends what it is when it is chosen."""
    c, v = chan(1), [1]
    s = Selector((c.send, v))
    s.select()
    v.append(2)
    assert c.recv() == [1]
    s.select()
    assert c.recv() == [1, 2]


def test_closing_turns_cases_off(place):
    """The usual loop: what is closed is replaced by nil until none is left."""

    def drain(cs):
        s, left, got = Selector(*cs), len(cs), Counter()
        while left:
            at, value, ok = s.select()
            if ok:
                got[value] += 1
            else:
                s[at] = nil
                left -= 1
        return got

    def fill(c, k):
        for _ in range(20):
            c.send(k)
        c.close()

    cs = [chan(k % 3) for k in range(10)]
    g = place.receiver(drain, cs)
    for k, c in enumerate(cs):
        place.sender(fill, c, k)
    assert g.result(20) == dict.fromkeys(range(10), 20)


@pytest.mark.parametrize("n", [1, 2, 100])
def test_two_goroutines_at_once(runtime0, n):
    cs = [chan(1) for _ in range(n)]
    s = Selector(*cs)
    first = go.local(s.select)
    until_waiting(cs[0], receivers=1)
    for use in (s.select, s, lambda: s.select(timeout=0), lambda: s.__setitem__(0, nil)):
        with pytest.raises(RuntimeError, match="another goroutine is in this Selector"):
            use()
    assert len(s) == n and s[0] is cs[0]
    assert waiters(cs[0]) == (1, 0)
    cs[n - 1].send("v")
    assert first.result(10) == (n - 1, "v", True)
    s[0] = nil
    second = go.local(s.select)
    yield_now()
    second.cancel()
    assert second.exception(10) is not None
    s[0] = cs[0]
    cs[0].send("again")
    assert s.select() == (0, "again", True)
    assert {waiters(c) for c in cs} == {(0, 0)}


class Meddler:
    """A value that does something when it is serialised."""

    def __init__(self, *uses):
        self.uses, self.said = uses, []

    def __reduce__(self):
        for use in self.uses:
            try:
                use()
            except RuntimeError as error:
                self.said.append(str(error))
        return (int, ())


def test_while_a_value_is_serialised(runtime0):
    """Code that runs in the middle of a select cannot change it, nor start another on the same Selector."""
    c, meddler = chan(1), Meddler()
    s = Selector((c.send, meddler), nil)
    meddler.uses = (lambda: s.__setitem__(0, nil), s.select, lambda: s.__setitem__(1, c))
    assert s.select() == (0, None, True)
    assert len(meddler.said) == 3
    assert c.recv() == 0
    assert len(s) == 2 and s[1] is nil


def test_selector_keeps_its_channels_and_values(runtime0):
    s = Selector(chan(1), (chan(1).send, "kept"))
    gc.collect()
    assert s.select() == (1, None, True)
    with pytest.raises(TimeoutError):
        s.select(timeout=0.001)
    s[0].send("alive")
    assert s.select() == (0, "alive", True)


def test_is_collected_in_a_cycle(runtime0):
    class Box:
        pass

    box, c = Box(), chan(1)
    box.s = Selector((c.send, box), nil)
    gone = weakref.ref(box)
    del box
    gc.collect()
    assert gone() is None


def test_dropped_while_a_goroutine_is_in_it(runtime0):
    c, d = chan(), chan()
    g = go.local(lambda: Selector(c, d, (d.send, "x" * 1000)).select())
    until_waiting(c, receivers=1)
    gc.collect()
    c.send(1)
    assert g.result(10) == (0, 1, True)
    assert waiters(d) == (0, 0)


@pytest.mark.parametrize("n", [2, 70])
def test_over_two_runtimes(n):
    """One whose channels are all of a new runtime can be used further."""
    import goproc

    with goproc.runtime(procs=1):
        cs = [chan(1) for _ in range(n)]
        s = Selector(*cs)
        cs[-1].send(1)
        assert s.select() == (n - 1, 1, True)
    with goproc.runtime(procs=1):
        cs = [chan(1) for _ in range(n)]
        for i in range(n):
            with pytest.raises(goproc.GoprocError):
                s.select()
            s[i] = cs[n - 1 - i]  # in the opposite order of addresses
        for i in (0, n // 2, n - 1):
            cs[i].send(i)
            assert s.select() == (n - 1 - i, i, True)


def test_long_loop(place, long):
    n = 5000 if long else 500

    def recv(a, b, n):
        s, seen = Selector(a, b), Counter()
        for _ in range(2 * n):
            seen[s.select().index] += 1
        return seen

    a, b = chan(), chan(4)
    g = place.receiver(recv, a, b, n)
    gs = [place.sender(lambda c, n: [c.send(i) for i in range(n)] and None, c, n) for c in (a, b)]
    assert g.result(30) == {0: n, 1: n}
    for s in gs:
        s.result(10)
    until(lambda: waiters(a) == waiters(b) == (0, 0))


CONTEXT = """
    import goproc
    from goproc import Selector, chan, go, yield_now, nil

    class Ctx:
        '''A context of the program's own: done() is Python code that runs while a case is looked at.'''
        def __init__(self, f): self.f = f
        def done(self): return self.f()
        def err(self): return None
        def deadline(self): return None
        def value(self, key): return None

    n = 3000
    c = chan(1)
    s = None
    inside = False
"""


def test_a_context_that_changes_the_selector(tmp_path):
    """done() of a context of one's own must not get in between: refused, or at least harmless."""
    text = (
        CONTEXT
        + """
    def meddle():
        global inside
        if not inside:
            inside = True
            try: s[0] = c
            except RuntimeError: pass
            inside = False
        return c

    s = Selector(*[c] * n)
    try: s[n // 2] = Ctx(meddle)
    except RuntimeError: pass
    for i in range(20):
        c.send(i)
        assert s.select().value == i
    try: s.select(timeout=0)
    except TimeoutError: print("sound")
    """
    )
    done = programs.run(tmp_path, text, procs=1)
    assert (done.status, done.out) == (0, "sound\n"), done.err


def test_a_context_that_blocks_while_another_uses_the_selector(tmp_path):
    text = (
        CONTEXT
        + """
    gate = chan()
    def wait():
        gate.recv_ok()
        return c

    s = Selector(*[c] * n)
    g = go.local(s.__setitem__, n // 2, Ctx(wait))
    yield_now()
    for i in range(3):
        try: s[i] = nil
        except RuntimeError: pass
    gate.close()
    g.join()
    for i in range(20):
        c.send(i)
        assert s.select().value == i
    print("sound")
    """
    )
    done = programs.run(tmp_path, text, procs=1)
    assert (done.status, done.out) == (0, "sound\n"), done.err
