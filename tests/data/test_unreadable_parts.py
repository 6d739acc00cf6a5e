"""The error for an item or a result that cannot be read names the part that is to blame."""

from __future__ import annotations

import os
from typing import Any

import pytest

from goproc import PickleError, flow, pmap

np = pytest.importorskip("numpy", reason="NumPy is not installed")


class Unreadable:
    """Can be pickled, and not read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def name(x: Any) -> str:
    return type(x).__name__


HOST = os.getpid()


def made_elsewhere(x: int) -> Any:
    if os.getpid() == HOST:
        raise LookupError(f"{x} is not here")
    return Elsewhere(x)


class Elsewhere:
    """Can be read by workers, and not by the script."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        return made_elsewhere, (self.x,)


class Holder:
    def __init__(self, held: Any) -> None:
        self.held = held


class MadeOf(Holder):
    """Is made by a call when it is read."""

    def __reduce__(self) -> Any:
        return MadeOf, (self.held,)


class Refuses:
    """Does not take its state."""

    def __init__(self) -> None:
        self.state = 1

    def __setstate__(self, state: Any) -> None:
        raise LookupError("no state")


BROKEN = {
    "": Unreadable,
    " -> [1] -> ['x']": lambda: [1, {"x": Unreadable()}],
    " -> .held -> [0]": lambda: Holder([Unreadable()]),
    " -> .held -> argument 1 of MadeOf": lambda: Holder(MadeOf(Unreadable())),
    " -> [0] -> .held -> [1]": lambda: (MadeOf([0, Refuses()]), np.zeros(5000)),
    " -> [0]": lambda: [Refuses(), np.zeros(5000)],
}
SENDERS = {
    "the item": [
        lambda make, path: pmap(name, [make()]),
        lambda make, path: pmap(name, [1, 2, make()], chunk=3),
        lambda make, path: pmap(name, [make()], checkpoint=path),
        lambda make, path: flow([make()]).map(name),
        lambda make, path: flow([make()]).map(name, 2),
        lambda make, path: flow([make()]).map(name, timeout=60),
        lambda make, path: flow([make()]).tee(1)[0].map(name, timeout=60),
    ],
    "the result": [
        lambda make, path: pmap(lambda x: make(), [1]),
        lambda make, path: pmap(lambda x: make() if x == 19 else x, range(20), chunk=20),
        lambda make, path: pmap(lambda x: make(), [1], checkpoint=path),
        lambda make, path: flow([1]).map(lambda x: make()),
        lambda make, path: flow([1]).flat_map(lambda x: [make()], 2),
        lambda make, path: flow([1]).flat_map(lambda x: [make()], timeout=60),
    ],
}


@pytest.mark.parametrize("what", SENDERS)
@pytest.mark.parametrize("part", BROKEN)
def test_the_part_that_cannot_be_read_is_named(runtime2: Any, tmp_path: Any, what: str, part: str) -> None:
    for number, sender in enumerate(SENDERS[what]):
        with pytest.raises(PickleError) as raised:
            list(sender(BROKEN[part], tmp_path / f"{number}.db"))
        assert str(raised.value).startswith(f"{what}{part} cannot be read by the "), (number, raised.value)


LARGE = {
    "one list": lambda part: {"rows": [f"{n:99}" for n in range(20_000)], "last": [0, part]},
    "many objects": lambda part: {
        "rows": [{"n": n} for n in range(25_000)],
        "last": [0, part],
    },
}


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_the_part_of_a_large_item_that_a_worker_cannot_read_is_named(runtime2: Any, make: Any) -> None:
    (failed,) = pmap(name, [make(Unreadable())], on_error="return")
    assert str(failed.error).startswith(
        "the item -> ['last'] -> [1] cannot be read by the worker: ValueError"
    )


@pytest.mark.parametrize("make", LARGE.values(), ids=LARGE)
def test_the_part_of_a_large_result_that_the_script_cannot_read_is_named(runtime2: Any, make: Any) -> None:
    (failed,) = pmap(lambda x: make(Elsewhere(x)), [1], on_error="return")
    assert str(failed.error).startswith(
        "the result -> ['last'] -> [1] cannot be read by the caller: LookupError"
    )


@pytest.mark.parametrize("limit", ["_SECONDS", "_ALL_SECONDS"])
def test_an_item_that_is_too_large_to_look_for_the_part_says_so(
    runtime0: Any, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"goproc._pickling.salvage.{limit}", 0.0)
    (failed,) = pmap(name, [LARGE["one list"](Unreadable())], on_error="return")
    assert str(failed.error).startswith(
        "the item cannot be read by the worker (it is too large to look for the part that is to blame): ValueError"
    )
