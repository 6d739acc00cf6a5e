"""Several checks of definitions that the core makes as one."""

from __future__ import annotations

from typing import Any

import pytest

from goproc.shm import _core
from goproc.shm._core import Bindings, Together


def _now(*checks: Any) -> Together:
    return Together(checks, _core.definitions())


class Thing:
    n = 1

    def method(self) -> None:
        """Do nothing."""


def test_all_checks_count() -> None:
    namespace: dict[str, Any] = {"a": 1}
    same = Bindings(("a",), (1,)), namespace
    of_class = Bindings(("n",), (1,)), Thing
    assert _now().unchanged() and _now(same).unchanged() and _now(same, of_class, same).unchanged()
    together = _now(of_class, same)
    namespace["a"] = 2
    assert not together.unchanged() and not _now(same).unchanged()
    namespace["a"] = 1
    assert together.unchanged()
    Thing.n = 2
    assert not together.unchanged()
    Thing.n = 1
    assert together.unchanged()


def test_a_definition_ends_all_checks() -> None:
    together = _now()
    assert together.unchanged()
    _core.redefined()
    assert not together.unchanged() and _now().unchanged()


def test_a_check_that_was_collected_before_a_definition() -> None:
    before = _core.definitions()
    _core.redefined()
    assert not Together((), before).unchanged() and not Together((), -1).unchanged()


def test_a_check_may_be_a_function() -> None:
    asked: list[Any] = []

    def holds(cls: type) -> bool:
        asked.append(cls)
        return len(asked) < 2

    together = _now((holds, Thing))
    assert together.unchanged() and not together.unchanged() and asked == [Thing, Thing]
    with pytest.raises(ZeroDivisionError):
        _now((lambda _: 1 / 0, Thing)).unchanged()
    with pytest.raises(TypeError, match="a dict or a class"):
        _now((Bindings((), ()), 5)).unchanged()


@pytest.mark.parametrize("arguments", [(), ((),), ([], 0), (((1,),), 0), ((1,), 0), (((1, 2, 3),), 0)])
def test_its_arguments_are_checked(arguments: Any) -> None:
    with pytest.raises(TypeError):
        Together(*arguments)


@pytest.mark.parametrize("part", [(Thing,), (1, Thing()), {"k": Thing}, {"k": Thing()}, (Thing().method,)])
def test_a_message_brings_a_class(part: Any) -> None:
    table = {id(Thing): None}
    assert _core.brings((1, part, None), table) and not _core.brings((1, part, None), {id(int): None})


@pytest.mark.parametrize("part", [(), None, (1, "x", None, [Thing]), ((Thing,),), {Thing: 1}, [Thing]])
def test_only_the_items_of_a_message_count(part: Any) -> None:
    assert not _core.brings((part, part), {id(Thing): None})


def test_brings_checks_its_arguments() -> None:
    for arguments in (((),), ([], {}), ((), [])):
        with pytest.raises(TypeError):
            _core.brings(*arguments)  # type: ignore[arg-type, call-arg]
