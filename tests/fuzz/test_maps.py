"""Generated maps: pmap with its options, whose results a model in one process predicts.

The functions are slow now and then, fail for some items, and have results that cannot be sent or are large. Some maps are
left early, some are read slowly or in an event loop; the counts are asked for meanwhile. `--long` tries many more.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from generated import LONG, examples
from hypothesis import given
from hypothesis import strategies as st

from goproc import Failure, PMap, go, pmap, sleep


def number(*parts: int) -> int:
    """Return a number that depends on nothing else: the model and all processes find the same."""
    return zlib.crc32(repr(parts).encode())


class Failed(Exception):
    pass


class Work(NamedTuple):
    """The function of a map.

    Attributes:
        seed: of all that it does.
        pace: how slow it is, in ms.
        bad: some items fail.
    """

    seed: int
    pace: int
    bad: bool

    def fate(self, x: int) -> str:
        found = number(self.seed, 1, x) % 19
        return {0: "raises", 1: "cannot be sent"}.get(found, "well") if self.bad else "well"

    def __call__(self, x: int) -> Any:
        kind = number(self.seed, x) % 8
        if kind == 0:
            sleep(0.001 * self.pace)
        elif kind == 1:
            time.sleep(0.001 * self.pace)
        fate = self.fate(x)
        if fate == "raises":
            raise Failed
        if fate == "cannot be sent":
            return threading.Lock()
        value = x * 7 + self.seed
        return value if number(self.seed, 3, x) % 5 else (value, b"x" * (number(x) % 200_000))


class Case(NamedTuple):
    work: Work
    count: int
    options: dict[str, Any]
    manner: str

    @property
    def ordered(self) -> bool:
        return bool(self.options["ordered"])


def by_fives(x: int) -> int:
    return x % 5


def a_case(dice: random.Random) -> Case:
    count = dice.choice([1, 10, 60, 400, 2000])
    work = Work(dice.randrange(1000), dice.choice([0, 0, 1, 2]), dice.random() < 0.5)
    options: dict[str, Any] = {"ordered": dice.random() < 0.6, "ahead": dice.choice([None, None, 20, 200])}
    if work.bad:
        options["on_error"] = "return"
    placing = dice.choice(["workers", "threads", ""])
    if placing:
        options[placing] = dice.choice([1, 2, 3, 5])
    more: dict[str, Callable[[], Any]] = {
        "chunk": lambda: dice.choice([1, 7, 20]),
        "timeout": lambda: 60,
        "key": lambda: dice.choice([by_fives, abs]),
    }
    options |= {name: choose() for name, choose in more.items() if dice.random() < 0.2}
    return Case(
        work, count, options, dice.choice(["plain", "slow", "asked", "a thread asks", "async", "left"])
    )


async def read_async(results: PMap[Any], dice: random.Random, found: list[Any]) -> None:
    """Read the results in an event loop. Waits for some of them are cancelled, and begun again."""
    while True:
        wait = asyncio.ensure_future(results.__anext__())
        try:
            while True:
                try:
                    value = await asyncio.wait_for(wait, 0.0007 if dice.random() < 0.3 else 60)
                    break
                except TimeoutError:
                    if not wait.cancelled():  # the result has come in the moment of the time-out
                        value = wait.result()
                        break
                    wait = asyncio.ensure_future(results.__anext__())
        except StopAsyncIteration:
            return
        found.append(value)
        if dice.random() < 0.1:
            results.stats()


def ask(results: PMap[Any], over: list[bool], wait: Callable[[float], object]) -> None:
    while not over:
        results.stats()
        wait(0.0005)


def read(case: Case, dice: random.Random) -> list[Any]:
    """Read the results. Those of a map that is left are the first half."""
    results, found, over = pmap(case.work, range(case.count), **case.options), [], []
    asking = go.local(ask, results, over, sleep) if case.manner == "asked" else None
    thread = threading.Thread(target=ask, args=(results, over, time.sleep))
    if case.manner == "a thread asks":
        thread.start()
    try:
        if case.manner == "async":
            asyncio.run(read_async(results, dice, found))
        for value in results if case.manner != "async" else ():
            found.append(value)
            if case.manner == "slow" and len(found) % 30 == 0:
                sleep(0.003)
            if case.manner == "left" and len(found) > case.count // 2:
                results.close()
                break
    finally:
        over.append(True)
        if thread.is_alive():
            thread.join()
        if asking is not None:
            asking.result(timeout=60)
    return found


def told(value: Any) -> Any:
    if isinstance(value, Failure):
        return "failed", value.item
    return value[0] if isinstance(value, tuple) else value


@pytest.mark.watchdog(300 if not LONG else 3600)
@examples(40)
@given(st.integers(0, 2**32))
def test_results_are_those_of_the_model(runtime2: Any, seed: int) -> None:
    dice = random.Random(seed)
    case = a_case(dice)
    found = [told(value) for value in read(case, dice)]
    fates = [case.work.fate(x) for x in range(case.count)]
    model = [
        ("failed", x) if fate in ("raises", "cannot be sent") else x * 7 + case.work.seed
        for x, fate in enumerate(fates)
    ]
    if case.manner == "left":
        assert len(found) == case.count // 2 + 1, (seed, case)
        assert not Counter(found) - Counter(model), (seed, case)
        assert not case.ordered or found == model[: len(found)], (seed, case)
    elif case.ordered:
        assert found == model, (seed, case)
    else:
        assert Counter(found) == Counter(model), (seed, case)
