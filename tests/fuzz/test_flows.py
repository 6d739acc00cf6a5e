"""Generated flows: chains of stages with options, whose results a model in one process predicts.

The functions are slow now and then, fail for some items, and have results that cannot be sent. Some flows are left early;
some are read slowly; in some another map runs in the middle, or the counts are asked for all the time. `--long` tries
many more.
"""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from generated import LONG, examples
from hypothesis import given
from hypothesis import strategies as st

from goproc import Flow, flow, go, pmap, sleep

PRIME = 1_000_003


def number(*parts: int) -> int:
    """Return a number that depends on nothing else: the model and all processes find the same."""
    return zlib.crc32(repr(parts).encode())


class Failed(Exception):
    pass


class Work(NamedTuple):
    """The function of a stage.

    Attributes:
        seed: of all that it does.
        pace: how slow it is, in ms.
        bad: 0: no item fails; 1: some raise; 2: or have a result that cannot be sent.
        most: values of an item of flat_map().
    """

    seed: int
    pace: int
    bad: int
    most: int = 1

    def fate(self, x: int) -> str:
        found = number(self.seed, 1, x) % 23
        if found == 0 and self.bad:
            return "raises"
        return "cannot be sent" if found == 1 and self.bad == 2 else "well"

    def value(self, x: int) -> int:
        return (x * 31 + self.seed) % PRIME

    def meet(self, fate: str) -> Any:
        if fate == "raises":
            raise Failed
        return threading.Lock()

    def wait(self, *parts: int) -> None:
        kind = number(self.seed, *parts) % 8
        if kind == 0:
            sleep(0.001 * self.pace)
        elif kind == 1:
            time.sleep(0.001 * self.pace)
        elif kind == 2:
            until = time.perf_counter() + 0.0005 * self.pace
            while time.perf_counter() < until:
                pass


class Map(Work):
    def __call__(self, x: int) -> Any:
        self.wait(x)
        fate = self.fate(x)
        return self.value(x) if fate == "well" else self.meet(fate)

    def model(self, x: int) -> list[int]:
        return [self.value(x)] if self.fate(x) == "well" else []


class Each(Map):
    def model(self, x: int) -> list[int]:
        return [x] if self.fate(x) != "raises" else []


class Keep(Map):
    def value(self, x: int) -> int:
        return number(self.seed, x) % 3

    def model(self, x: int) -> list[int]:
        return [x] if self.fate(x) != "raises" and (self.value(x) or self.fate(x) != "well") else []


class Spread(Work):
    def count(self, x: int) -> int:
        """Return how many values come of an item, or come before its failure."""
        return number(self.seed, 2, x) % (self.most + 1)

    def __call__(self, x: int) -> Iterator[Any]:
        for i in range(self.count(x)):
            self.wait(x, i)
            yield self.value(x) + i
        fate = self.fate(x)
        if fate != "well":
            yield self.meet(fate)

    def model(self, x: int) -> list[int]:
        return [self.value(x) + i for i in range(self.count(x))]


def following(rx: Any, tx: Any) -> None:
    for value in rx:
        tx.send(value + 1)


class Case(NamedTuple):
    flow: Flow[int]
    model: list[int]
    ordered: bool
    text: str


def calling(dice: random.Random, case: Case) -> Case:
    """Add a stage that calls a function."""
    kinds: dict[str, Callable[..., Any]] = {"map": Map, "each": Each, "filter": Keep, "flat_map": Spread}
    kind = dice.choice([*kinds, "flat_map", "map"])
    workers = dice.choice([None, None, 0, 1, 2, 3])
    bad = dice.choice([0, 0, 1, 2]) if workers != 0 else 0
    most = dice.choice([3, 3, 70, 150]) if len(case.model) < 150 else 2
    work = kinds[kind](dice.randrange(1 << 20), dice.choice([0, 0, 1, 1, 3]) if most < 10 else 0, bad, most)
    options: dict[str, Any] = {"ordered": dice.random() < 0.7}
    if bad:
        options["on_error"] = "skip"
    if workers != 0 and dice.random() < 0.25:
        options["threads"] = dice.choice([1, 2, 4])
    if workers != 0 and dice.random() < 0.2:
        options["timeout"] = 60
    if workers != 0 and dice.random() < 0.2:
        options |= {"retries": 1, "retry_on": ZeroDivisionError}
    model = []
    for x in case.model:
        values = work.model(x)
        # With retries the values of an item that fails are not handed on.
        model += values if kind != "flat_map" or "retries" not in options or work.fate(x) == "well" else []
    return Case(
        getattr(case.flow, kind)(work, workers, **options),
        model,
        case.ordered and options["ordered"],
        f"{case.text}.{kind}({work}, {workers}, {options})",
    )


def counting(dice: random.Random, case: Case) -> Case:
    """Add a stage that takes, skips or collects items."""
    n = dice.randint(1, 40)
    kind = dice.choice(["batch", "skip", "take"] if case.ordered else ["batch"])
    text = f"{case.text}.{kind}({n})"
    if kind == "take":
        return case._replace(flow=case.flow.take(n), model=case.model[:n], text=text)
    if kind == "skip":
        return case._replace(flow=case.flow.skip(n), model=case.model[n:], text=text)
    return case._replace(flow=case.flow.batch(n).flat_map(list, 0), text=text)


def plain(dice: random.Random, case: Case) -> Case:
    """Add a stage that is a goroutine, or two."""
    workers = dice.choice([1, 2])
    return Case(
        case.flow.stage(following, workers),
        [x + 1 for x in case.model],
        case.ordered and workers == 1,
        f"{case.text}.stage({workers})",
    )


def a_case(dice: random.Random) -> Case:
    n = dice.choice([5, 20, 60, 150])
    case = Case(flow(range(n)), list(range(n)), True, f"flow(range({n}))")
    for _ in range(dice.randint(1, 4)):
        case = dice.choices([calling, counting, plain], [7, 2, 1])[0](dice, case)
    return case


def ask(results: Any, over: list[bool]) -> None:
    while not over:
        results.stats()
        sleep(0.0005)


def read(dice: random.Random, case: Case, manner: str) -> list[int]:
    """Read the results. Those of a flow that is left are the first half."""
    most = len(case.model) // 2 if manner == "left" else len(case.model) + 1
    found: list[int] = []
    results, over = iter(case.flow), []
    asking = go.local(ask, results, over) if manner == "asked" else None
    for value in results:
        found.append(value)
        if len(found) >= most:
            break
        if manner == "slow" and len(found) % 16 == 0:
            sleep(0.004)
        if manner == "another map" and len(found) % 50 == 1:
            assert list(pmap(abs, range(5))) == list(range(5))
    results.close()
    over.append(True)
    if asking is not None:
        asking.result(timeout=60)
    return found


@pytest.mark.watchdog(300 if not LONG else 3600)
@examples(40)
@given(st.integers(0, 2**32))
def test_results_are_those_of_the_model(runtime2: Any, seed: int) -> None:
    dice = random.Random(seed)
    case = a_case(dice)
    manner = dice.choice(["plain", "plain", "left", "slow", "another map", "asked"])
    found = read(dice, case, manner)
    about = (seed, manner, case.text)
    if manner == "left":
        assert len(found) >= len(case.model) // 2, about
        assert not Counter(found) - Counter(case.model), about
        assert not case.ordered or found == case.model[: len(found)], about
    elif case.ordered:
        assert found == case.model, about
    else:
        assert Counter(found) == Counter(case.model), about
