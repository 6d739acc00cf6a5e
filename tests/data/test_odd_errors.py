"""Exceptions of users that are unlike others: without a text, with an attribute that cannot be set, ends of programs."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from goproc import Failure, PickleError, flow, pmap
from goproc.futures import Executor


class Untold(Exception):
    def __str__(self) -> str:
        raise TypeError("no text")

    __repr__ = __str__


class UntoldExit(SystemExit):
    def __str__(self) -> str:
        raise TypeError("no text")


@dataclass(frozen=True)
class Frozen(Exception):
    number: int


class NotWritten:
    """Cannot be pickled."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        raise self.kind("no")

    def __len__(self) -> int:
        return 99


def fail(kind: type[BaseException]) -> None:
    raise kind("no")


class NotRead:
    """Can be pickled, and not read."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.kind = kind

    def __reduce__(self) -> Any:
        return fail, (self.kind,)

    def __len__(self) -> int:
        return 99


RAISED = [Untold, UntoldExit, SystemExit, GeneratorExit]
MADE = [NotWritten, NotRead]


def raising(kind: type[BaseException]) -> Any:
    def f(x: int) -> int:
        if x == 1:
            raise kind("no")
        return x

    return f


def making(make: Any, kind: type[BaseException]) -> Any:
    def f(x: int) -> Any:
        return make(kind) if x == 1 else x

    return f


def shown(found: list[Any]) -> list[Any]:
    return ["failed" if isinstance(one, Failure) else one for one in found]


@pytest.fixture(params=[{}, {"threads": 2}, {"timeout": 30}, {"chunk": 8}, {"checkpoint": True}], ids=str)
def options(request: pytest.FixtureRequest, tmp_path: Any) -> dict[str, Any]:
    given: dict[str, Any] = dict(request.param)
    if "checkpoint" in given:
        given["checkpoint"] = tmp_path / "job.db"
    return given


@pytest.mark.parametrize("kind", RAISED)
def test_a_call_that_raises_it_is_one_failed_item(
    runtime2: Any, options: dict[str, Any], kind: type[BaseException]
) -> None:
    assert shown(list(pmap(raising(kind), range(3), on_error="return", **options))) == [0, "failed", 2]


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("make", MADE)
def test_a_result_whose_methods_raise_it_is_one_failed_item(
    runtime2: Any, options: dict[str, Any], make: Any, kind: type[BaseException]
) -> None:
    assert shown(list(pmap(making(make, kind), range(3), on_error="return", **options))) == [0, "failed", 2]


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("make", MADE)
def test_an_item_whose_methods_raise_it_is_one_failed_item(
    runtime2: Any, options: dict[str, Any], make: Any, kind: type[BaseException]
) -> None:
    if "checkpoint" in options:
        options["id"] = len
    found = list(pmap(len, ["", make(kind), "ab"], on_error="return", **options))
    assert shown(found) == [0, "failed", 2]
    assert isinstance(found[1].error, PickleError)


@pytest.mark.parametrize("kind", RAISED)
def test_it_is_raised_with_its_item(
    runtime2: Any, options: dict[str, Any], kind: type[BaseException]
) -> None:
    with pytest.raises(Exception) as raised:
        list(pmap(raising(kind), range(3), **options))
    assert "item 1: 1" in raised.value.__notes__


@pytest.mark.parametrize("given", [{}, {"threads": 2}, {"retries": 1}, {"workers": 0}], ids=str)
@pytest.mark.parametrize("kind", [*RAISED, Frozen, StopAsyncIteration])
def test_a_stage_that_raises_it_is_named(
    runtime2: Any, given: dict[str, Any], kind: type[BaseException]
) -> None:
    with pytest.raises(Exception) as raised:
        list(flow(range(3)).map(raising(kind), **given))
    assert any("in the stage 'f' of the flow" in note for note in raised.value.__notes__)


@pytest.mark.parametrize("given", [{}, {"threads": 2}, {"retries": 1}], ids=str)
@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("make", MADE)
def test_a_stage_whose_result_raises_it_is_named(
    runtime2: Any, given: dict[str, Any], make: Any, kind: type[BaseException]
) -> None:
    with pytest.raises(Exception) as raised:
        list(flow(range(3)).map(making(make, kind), **given))
    assert any("in the stage 'f' of the flow" in note for note in raised.value.__notes__)


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("make", MADE)
def test_an_item_of_a_flow_whose_methods_raise_it_is_one_failed_item(
    runtime2: Any, make: Any, kind: type[BaseException]
) -> None:
    assert shown(list(flow(["", make(kind), "ab"]).map(len, on_error="return"))) == [0, "failed", 2]


def test_a_stage_in_the_process_of_a_loop_does_not_end_the_loop_quietly(runtime2: Any) -> None:
    async def main() -> None:
        async for _ in flow(range(3)).map(raising(StopAsyncIteration), 0):
            pass

    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        asyncio.run(main())


@pytest.mark.parametrize("kind", RAISED)
@pytest.mark.parametrize("make", MADE)
def test_an_argument_of_an_executor_whose_methods_raise_it_fails_its_future(
    runtime2: Any, make: Any, kind: type[BaseException]
) -> None:
    with Executor(1) as executor:
        bad = executor.submit(len, make(kind))
        assert executor.submit(len, "ab").result(30) == 2
        assert isinstance(bad.exception(30), Exception)


def test_an_item_that_a_checkpoint_cannot_name_is_told_of(runtime2: Any, tmp_path: Any) -> None:
    with pytest.raises(TypeError, match="give id="):
        list(pmap(len, [NotWritten(Untold)], checkpoint=tmp_path / "job.db"))
