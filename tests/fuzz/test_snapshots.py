"""Goroutines see objects given by reference as they were at the `go` line.

The limit from which on an object is large is lowered to a byte, so that every value of the generated programs has a copy.
"""

from __future__ import annotations

import array
import random
from collections import defaultdict
from functools import partial
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from goproc import chan, go
from goproc._pickling import carried, large
from tests.fuzz.test_programs import examples


class Box:
    """An object with attributes."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.note = "box"

    def look(self) -> str:
        return picture(self.value)

    def spoil(self, seed: int) -> str:
        return spoil(self.value, seed)


class Sealed(Box):
    """An object with a pickle of its own making."""

    def __reduce__(self) -> Any:
        return Sealed, (self.value,), {"note": self.note}


def picture(value: Any) -> str:
    """Text that is the same for two values if they are: types, elements, and which containers but buffers are one object."""
    seen: dict[int, int] = {}

    def draw(x: Any) -> str:
        kind = type(x).__name__
        if isinstance(x, numpy.ndarray):
            return f"{kind} {x.dtype} {x.shape} {x.tolist()}"
        if isinstance(x, (list, dict, set, Box)):
            if id(x) in seen:
                return f"<{seen[id(x)]}>"
            seen[id(x)] = len(seen)
        if isinstance(x, Box):
            return f"{kind} {draw(vars(x))}"
        if isinstance(x, (list, tuple)):
            return f"{kind} [{', '.join([draw(item) for item in x])}]"
        if isinstance(x, dict):
            return f"{kind} {{{', '.join([f'{draw(k)}: {draw(v)}' for k, v in x.items()])}}}"
        if isinstance(x, (set, frozenset)):
            return f"{kind} {sorted([draw(item) for item in x])}"
        return f"{kind} {x!r}"

    return draw(value)


def spoil(value: Any, seed: int) -> str:
    """Change the value, after having looked at it."""
    seen = picture(value)
    change(value, random.Random(seed))
    return seen


def containers(value: Any) -> list[Any]:
    """All that can be changed in the value."""
    found: list[Any] = []
    todo = [value]
    for x in todo:
        if isinstance(x, (list, dict, set, Box, numpy.ndarray, bytearray, array.array)):
            if any(x is y for y in found):
                continue
            found.append(x)
        if isinstance(x, Box):
            todo.append(x.value)
        elif isinstance(x, dict):
            todo += x.values()
        elif isinstance(x, (list, tuple)):
            todo += x
    return found


LEAVES = (
    0,
    1,
    1.0,
    True,
    False,
    None,
    "a",
    "1",
    b"1",
    2**70,
    0.0,
    -0.0,
    (1, 2),
    ("a", (1.0,)),
    frozenset({1}),
)


def change(value: Any, rng: random.Random) -> None:
    """Change something, somewhere in the value."""
    among = containers(value)
    if not among:
        return
    x = rng.choice(among)
    leaf = rng.choice(LEAVES)
    if isinstance(x, Box):
        x.note = repr(leaf)
    elif isinstance(x, numpy.ndarray):
        place = rng.randrange(x.size)
        x.flat[place] = x.flat[place] == 0  # no overflow
    elif isinstance(x, (bytearray, array.array)):
        if x and rng.random() < 0.7:
            x[rng.randrange(len(x))] ^= 1
        else:
            x.append(7)
    elif isinstance(x, set):
        x.discard(leaf) if leaf in x else x.add(leaf)
    elif isinstance(x, dict):
        keys = list(x)
        action = rng.randrange(4)
        if keys and action == 0:
            del x[rng.choice(keys)]
        elif keys and action == 1:
            key = rng.choice(keys)
            x[key] = x.pop(key)  # goes to the end
        elif keys and action == 2:
            x[rng.choice(keys)] = leaf
        else:
            x[repr(leaf)] = leaf
    else:
        action = rng.randrange(5)
        if x and action == 0:
            del x[rng.randrange(len(x))]
        elif x and action == 1:
            x[rng.randrange(len(x))] = leaf
        elif x and action == 2:
            x.append(x[0])
        elif len(x) > 1 and action == 3:
            x.reverse()
        else:
            x.append([leaf])


leaves = st.sampled_from(LEAVES) | st.integers() | st.text(max_size=3)
hashables = st.sampled_from([leaf for leaf in LEAVES if leaf == leaf])
arrays = st.sampled_from(["i8", "f4", "u1"]).flatmap(
    lambda dtype: st.sampled_from([3, 100, 9000]).map(partial(numpy.arange, dtype=dtype))
)
buffers = arrays | st.binary(min_size=1).map(bytearray) | st.just(b"\1\2").map(partial(array.array, "B"))
values = st.recursive(
    leaves | buffers | st.sets(hashables, max_size=4),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.dictionaries(st.text(max_size=2), inner, max_size=3).map(partial(defaultdict, list)),
        inner.map(Box),
        inner.map(Sealed),
        inner.map(lambda x: [x, x, {"again": x}]),
    ),
    max_leaves=8,
)
ROUTES = ("globals", "global", "closure", "default", "argument", "method", "channel", "both")


def looker(route: str, value: Any) -> Any:
    """Return a function that starts a goroutine which looks at the value, changes its own, and says what it saw."""
    text = {
        "global": "def look(seed): return spoil(VALUE, seed)",
        "globals": "def look(seed): assert picture((VALUE, OTHER)) == PICTURE; return spoil(VALUE, seed)",
        "both": "def look(value, seed): assert value is VALUE or not hasattr(value, '__dict__'); return spoil(VALUE, seed)",
    }
    if route in text:
        namespace = {"VALUE": value, "spoil": spoil, "__name__": "__main__"}
        exec(text[route], namespace)
        args = (value,) if route == "both" else ()
        if route == "globals":
            namespace |= {"OTHER": [*containers(value)[::-1], "other"], "picture": picture}

        def start(seed: int) -> Any:
            if route == "globals":
                namespace["PICTURE"] = picture((value, namespace["OTHER"]))
            return go.on(1)(namespace["look"], *args, seed)

        return start
    if route == "closure":
        return lambda seed: go.on(1)(lambda: spoil(value, seed))
    if route == "default":

        def look(seed: int, value: Any = value) -> str:
            return spoil(value, seed)

        return lambda seed: go.on(1)(look, seed)
    if route == "argument":
        return lambda seed: go.on(1)(spoil, value, seed)
    if route == "method":
        box = Box(value)
        return lambda seed: go.on(1)(box.spoil, seed)
    ch = chan(1)

    def receive(seed: int) -> Any:
        ch.send(value)
        return go.on(1)(lambda: spoil(ch.recv(), seed))

    return receive


@pytest.mark.watchdog(600)  # for --long
@pytest.mark.filterwarnings("ignore::goproc.CopiedAgain")
@given(
    value=values, route=st.sampled_from(ROUTES), seeds=st.lists(st.integers(0, 999), min_size=2, max_size=6)
)
@examples(60)
def test_a_goroutine_sees_the_state_of_its_go_line(
    runtime1: Any, value: Any, route: str, seeds: list[int]
) -> None:
    limit, large.LARGE = large.LARGE, 1
    try:
        look = looker(route, value)
        for seed in seeds:
            expected = picture(value)
            for turn in range(1 + seed % 3):  # unchanged in between, if more than one
                assert look(seed + turn).result() == expected
                assert picture(value) == expected
            change(value, random.Random(seed))
    finally:
        large.LARGE = limit
        carried.entries.clear()
