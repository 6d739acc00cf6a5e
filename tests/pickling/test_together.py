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


# -- the attributes of one class


def _watched(cls: type) -> Bindings:
    attributes = dict(cls.__dict__)
    lists = tuple([(value, value.copy()) for value in attributes.values() if type(value) is list])
    return Bindings(
        tuple(attributes),
        tuple(attributes.values()),
        copies=lists,
        size=len(attributes),
        title="",
        qualname=cls.__qualname__,
        bases=cls.__bases__,
    )


def test_every_change_of_a_class_is_seen() -> None:
    class Base:
        n = 1

    class Meta(type):
        m = 1

    class Child(Base, metaclass=Meta):
        items = [1, 2]  # noqa: RUF012

        def get(self) -> int:
            return self.n

    bindings = _watched(Child)
    items, get = Child.items, Child.get
    changes = [
        (lambda: setattr(Child, "items", [1, 2]), lambda: setattr(Child, "items", items)),
        (lambda: items.append(3), items.pop),
        (lambda: items.__setitem__(0, 7), lambda: items.__setitem__(0, 1)),
        (lambda: setattr(Child, "new", 1), lambda: delattr(Child, "new")),
        (lambda: setattr(Child, "get", lambda self: 2), lambda: setattr(Child, "get", get)),
        (lambda: setattr(Child, "__qualname__", "other"), lambda: setattr(Child, "__qualname__", qualname)),
        (lambda: delattr(Child, "get"), lambda: setattr(Child, "get", get)),
    ]
    qualname = Child.__qualname__
    for used in (False, True):  # Python numbers the state of a class when its attributes are looked up
        for change, undo in changes:
            for _ in range(3):
                assert bindings.hold(Child) and bindings.hold(Child)
                change()
                if used:
                    Child().n  # noqa: B018
                assert not bindings.hold(Child) and not bindings.hold(Child)
                undo()
                if used:
                    Child().n  # noqa: B018
    Base.n, Meta.m = 2, 2
    assert bindings.hold(Child)
    other = type("Child", (Base,), {"items": items, "get": get})
    assert not bindings.hold(other) and bindings.hold(Child) and not bindings.hold(Base)


def test_a_class_that_changes_often_is_compared_still() -> None:
    class Counter:
        n = 0

    bindings = _watched(Counter)
    for i in range(1, 3000):  # Python numbers only so many states of a class
        Counter.n = i
        assert Counter.n == i and not bindings.hold(Counter)
        Counter.n = 0
        assert Counter.n == 0 and bindings.hold(Counter) and bindings.hold(Counter)


def test_a_class_that_is_one_of_many_has_checks_of_its_own() -> None:
    made = [type("C", (), {"n": 1}) for _ in range(20)]
    bindings = [_watched(cls) for cls in made]
    for turn in range(20):
        for one, (check, cls) in enumerate(zip(bindings, made, strict=True)):
            if one == turn:
                cls.n = 2  # type: ignore[attr-defined]
            assert check.hold(cls) == (one > turn)
            assert not check.hold(made[one - 1])
