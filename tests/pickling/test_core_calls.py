"""The steps of a call that the core takes in place of Python."""

from __future__ import annotations

from contextvars import ContextVar
from types import CellType, FunctionType, SimpleNamespace
from typing import Any

import pytest

from goproc.shm import _core


class Handle:
    __goproc_handle__ = True


class Subclass(int):
    pass


LEAVES: tuple[Any, ...] = (1, 1.5, True, None, "x", b"x", 2j, ContextVar("v"), Handle())


@pytest.mark.parametrize(
    "container", [LEAVES, [*LEAVES], dict.fromkeys(range(99), 1), (), [[[[1]]]], ({"k": (1, [2])},)]
)
def test_plain(container: Any) -> None:
    assert _core.plain(container)


@pytest.mark.parametrize(
    "value",
    [
        {1},
        object(),
        Subclass(1),
        [[[[1]]]],
        [0] * 17,
        dict.fromkeys(range(17)),
        {(1, object()): 1},
        range(3),
        type,
    ],
)
def test_not_plain(value: Any) -> None:
    assert not _core.plain((value,)) and not _core.plain([1, value]) and not _core.plain({"k": value})


@pytest.mark.parametrize("value", [{1}, "text", 5, None])
def test_plain_takes_a_container(value: Any) -> None:
    with pytest.raises(TypeError, match="tuple, list or dict"):
        _core.plain(value)


def test_a_loop_is_not_plain() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert not _core.plain(loop)


# -- the copy of a function


def _facts(function: FunctionType) -> list[Any]:
    names = (
        "__name__",
        "__qualname__",
        "__doc__",
        "__module__",
        "__defaults__",
        "__kwdefaults__",
        "__closure__",
        "__globals__",
    )
    return [getattr(function, name) for name in (*names, "__annotations__", "__dict__", "__code__")]


def _sample(a: int, b: int = 2, *, c: int = 3) -> tuple[int, int, int]:
    """A doc."""
    return a, b, c


def test_a_function_is_as_python_makes_it() -> None:
    cell = CellType(7)

    def over(x: Any) -> Any:
        return cell, x

    namespace: dict[str, Any] = {"__name__": "somewhere"}
    for code, name, defaults, cells in (
        (_sample.__code__, "other", None, None),
        (_sample.__code__, "_sample", (8, 9), None),
        (over.__code__, "over", None, (CellType(1),)),
        (over.__code__, "over", (4,), (CellType(),)),
    ):
        for scope in (namespace, {}):
            made = _core.make_function(code, scope, name, defaults, cells)
            assert _facts(made) == _facts(FunctionType(code, scope, name, defaults, cells))
    assert _core.make_function(_sample.__code__, {}, "f", (5,), None)(1, c=6) == (1, 5, 6)
    assert _core.make_function(over.__code__, {}, "f", None, (CellType(1),))(2) == (1, 2)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((1, {}, "f", None, None), TypeError),
        ((_sample.__code__, (), "f", None, None), TypeError),
        ((_sample.__code__, {}, None, None, None), TypeError),
        ((_sample.__code__, {}, "f", [1], None), TypeError),
        ((_sample.__code__, {}, "f", None, (CellType(1),)), ValueError),
        ((_sample.__code__, {}, "f"), TypeError),
    ],
)
def test_a_function_of_wrong_parts(arguments: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        _core.make_function(*arguments)


def test_cells_are_cells() -> None:
    x = 1
    with pytest.raises(TypeError, match="cells"):
        _core.make_function((lambda: x).__code__, {}, "f", None, (5,))  # type: ignore[arg-type]


# -- the copy of a record


class Record:
    __slots__ = ("a", "b", "c")

    def __init__(self) -> None:
        self.a, self.b = 1, []


def test_a_twin_has_the_same_values() -> None:
    record = Record()
    twin = _core.twin(record)
    assert type(twin) is Record and twin is not record and twin.a == 1 and twin.b is record.b
    assert not hasattr(twin, "c")
    twin.a = 2
    assert record.a == 1


class Child(Record):
    __slots__ = ()


@pytest.mark.parametrize("thing", [Child(), Handle(), SimpleNamespace(), [1], 5, object()])
def test_a_twin_has_slots_alone(thing: Any) -> None:
    with pytest.raises(TypeError, match="slots"):
        _core.twin(thing)


# -- the release of globals


class Owner:
    def __init__(self, namespace: Any) -> None:
        self.namespace = namespace


def _over(namespace: dict[str, Any], *names: str) -> list[FunctionType]:
    made = [FunctionType(_sample.__code__, namespace, name) for name in names]
    namespace.update(zip(names, made, strict=True))
    return made


class Watched:
    gone = 0

    def __del__(self) -> None:
        Watched.gone += 1


@pytest.mark.parametrize("names", [(), ("f",), ("f", "g")])
def test_globals_that_nothing_else_reaches_are_emptied(names: tuple[str, ...]) -> None:
    owner = Owner({"watched": Watched()})
    _over(owner.namespace, *names)
    before = Watched.gone
    _core.release_namespace(owner, "namespace")
    assert owner.namespace is None and Watched.gone == before + 1


@pytest.mark.parametrize("kept", ["namespace", "function"])
def test_globals_that_are_in_use_stay(kept: str) -> None:
    owner = Owner({"x": 1})
    _over(owner.namespace, "f")
    held = owner.namespace if kept == "namespace" else owner.namespace["f"]
    _core.release_namespace(owner, "namespace")
    assert owner.namespace is None
    assert (held if kept == "namespace" else held.__globals__)["x"] == 1


def test_a_function_over_them_that_is_not_in_them_keeps_them() -> None:
    owner = Owner({"x": 1})
    held = FunctionType(_sample.__code__, owner.namespace)
    _core.release_namespace(owner, "namespace")
    assert held.__globals__["x"] == 1


def test_an_owner_without_globals() -> None:
    with pytest.raises(AttributeError):
        _core.release_namespace(object(), "namespace")
    owner = Owner(5)
    _core.release_namespace(owner, "namespace")
    assert owner.namespace is None
