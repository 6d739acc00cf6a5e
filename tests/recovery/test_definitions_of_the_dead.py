"""The replacement of a worker uses the definitions that its predecessors have stored."""

from __future__ import annotations

from programs import Run
from replacing import output

WORK = """
    def nested(n):
        found = [go(lambda a: a + n, 1).result() for _ in range(2)]
        return [*found, go(lambda a: a + 1, n).result()]    # one without a closure has an identity of its own

    def replaced(p):
        pid = go.on(p)(os.getpid).result()
        recycle(p)
        assert go.on(p)(os.getpid).result() != pid
"""


def test_equal_ones_are_stored_once(run: Run) -> None:
    text = """
    before = []
    for n in range(6):
        for p in workers(): assert go.on(p)(nested, n).result() == [1 + n] * 3
        before.append(_core.census()["definitions"])
        for p in workers(): replaced(p)
    assert before[0] > 2, before          # the place where the goroutine is made, and the function
    print(before[-1] - before[1])          # the first round has added those of main
    """
    assert output(run, WORK + text) == "0\n"


def test_a_replacement_stores_no_others_when_there_are_very_many(run: Run) -> None:
    """They travel inside their messages then."""
    text = """
    def many(first):
        refs = {_core.definition_put(b"%d" % n) for n in range(first, first + 5_000)}
        return len(refs), 0 in refs
    assert go.on(1)(many, 0).result() == (5_000, False)
    replaced(1)
    assert go.on(1)(many, 0).result() == (5_000, False)
    assert go.on(1)(many, 5_000).result()[1]
    known = []
    for n in range(3):
        replaced(1)
        assert go.on(1)(nested, n).result() == [1 + n] * 3
        known.append(_core.census()["definitions"])
    print(known[-1] - known[0])            # the first round has added those of main
    """
    assert output(run, WORK + text) == "0\n"


def test_a_replacement_uses_the_pages_that_are_there(run: Run) -> None:
    text = """
    def kept(n): assert _core.definition_put(b"%700d" % n)
    def fill():
        for n in range(85 + 77): kept(n)    # a page is full, and the next one nearly
    go.on(1)(fill).result()
    committed = []
    for n in range(200, 216):
        go.on(1)(kept, n).result()
        committed.append(_core.census()["committed"])
        replaced(1)
    print((min(committed[-5:]) - max(committed[:5])) // 65536 <= 4)   # not 11: one for each
    """
    assert output(run, WORK + text) == "True\n"
