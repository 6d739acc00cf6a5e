"""A map over a channel: a message that the script cannot read is one failed item."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from goproc import Chan, Failure, PickleError, chan, go, pmap

TEXT = "the item cannot be read by the caller: ValueError: invalid literal"


class Unreadable:
    """Can be pickled, and not read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def square(x: int) -> int:
    return x * x


def sends(ch: Chan[Any], go_on: Chan[Any] | None) -> None:
    """Send six items, the third of which cannot be read, and the others after it only when told to."""
    for number in range(6):
        ch.send(Unreadable() if number == 2 else number)
        if number == 2 and go_on is not None:
            go_on.recv()
    ch.close()


def filled() -> Chan[Any]:
    ch: Chan[Any] = chan(6)
    go.on(1)(sends, ch, None).result()
    return ch


@pytest.mark.parametrize("options", [{}, {"chunk": 1}, {"chunk": 4}, {"key": lambda x: 0}, {"threads": 2}])
def test_an_item_that_the_script_cannot_read_fails_alone(runtime2: Any, options: Any) -> None:
    found = list(pmap(square, filled(), on_error="return", **options))
    failed = found.pop(2)
    assert found == [0, 1, 9, 16, 25]
    assert isinstance(failed, Failure) and failed.index == 2 and failed.attempts == 0
    assert isinstance(failed.error, PickleError) and str(failed.error).startswith(TEXT)


def test_an_item_that_cannot_be_read_comes_while_the_map_waits(runtime2: Any) -> None:
    ch, go_on = chan(), chan()
    sender = go.on(1)(sends, ch, go_on)
    found = pmap(square, ch, ordered=False, on_error="return")
    first = [next(found) for _ in range(3)]
    go_on.send(None)
    assert {x for x in first if not isinstance(x, Failure)} == {0, 1}
    assert sorted(found) == [9, 16, 25]
    sender.result()
    assert (found.stats().done, found.stats().failed) == (5, 1)


def test_an_item_that_cannot_be_read_is_raised_and_named(runtime2: Any) -> None:
    with pytest.raises(PickleError, match=TEXT) as raised:
        list(pmap(square, filled()))
    assert "item 2: '<an item that cannot be read>'" in raised.value.__notes__
    assert isinstance(raised.value.__cause__, ValueError)


def test_an_item_that_cannot_be_read_goes_to_the_dead_letters(runtime2: Any, tmp_path: Any) -> None:
    letters: Chan[Any] = chan(1)
    file = str(tmp_path / "job.db")
    assert list(pmap(square, filled(), on_error=letters, checkpoint=file)) == [0, 1, 9, 16, 25]
    assert letters.recv().index == 2
    assert list(pmap(square, filled(), on_error="skip", checkpoint=file)) == [0, 1, 9, 16, 25]


def test_an_item_that_cannot_be_read_in_an_async_for(runtime2: Any) -> None:
    async def main() -> list[Any]:
        return [x async for x in pmap(square, filled(), on_error="skip")]

    assert asyncio.run(main()) == [0, 1, 9, 16, 25]
