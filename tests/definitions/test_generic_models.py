"""A generic model of pydantic is, with the same arguments, the same class wherever its parametrization is written."""

from __future__ import annotations

import programs
import pytest
from programs import Run

pytest.importorskip("pydantic", reason="pydantic is not installed")

BEGIN = """
    from typing import Generic, List, Optional, TypeVar
    from pydantic import BaseModel, PrivateAttr, ValidationError, field_validator
    from goproc import chan, go
    T, K, V = TypeVar("T"), TypeVar("K"), TypeVar("V")
    class Tree(BaseModel, Generic[T]):
        value: T
        kids: List["Tree[T]"] = []
        _seen: int = PrivateAttr(default=0)
        def total(self): return 1 + sum(kid.total() for kid in self.kids)
        @classmethod
        def ints(cls): return Tree[int]
    class Pair(BaseModel, Generic[K, V]):
        key: K
        value: V
    class Item(BaseModel):
        name: str
        @field_validator("name")
        @classmethod
        def in_capitals(cls, value): return value.upper()
    class Sub(Pair[str, T], Generic[T]):
        more: int = 0
    class Uses(BaseModel):
        pair: Pair[str, Tree[int]]
        items: Optional[Tree[Item]] = None
    Ints = Tree[int]
"""

USES = """
    tree = Ints(value=1, kids=[{"value": 2}])
    tree._seen = 7
    uses = Uses(pair={"key": "x", "value": {"value": 3, "kids": [{"value": 4}]}}, items={"value": {"name": "a"}})
    def f(tree, uses):
        sub = Sub[Item](key="k", value={"name": "b"})
        return (Ints is Tree[int] is Tree.ints(), type(tree) is Ints, type(tree.kids[0]) is Ints, tree._seen, tree.total(),
                type(uses.pair) is Pair[str, Tree[int]], type(uses.pair.value.kids[0]) is Ints, type(uses.items) is Tree[Item],
                type(sub) is Sub[Item], sub.value.name, Tree[float](value="2").value, Ints.__name__)
    def wrong():
        try: Ints(value="x")
        except ValidationError as error: return error.title
    print(f(tree, uses))
    print([go.on(proc)(f, tree, uses).result() == f(tree, uses) for proc in (0, 1, 2)], go.on(1)(wrong).result())
"""


def test_it_is_one_class(run: Run) -> None:
    found = "(True, True, True, 7, 2, True, True, True, True, 'B', 2.0, 'Tree[int]')"
    assert programs.ok(run(BEGIN + USES, procs=2)) == f"{found}\n[True, True, True] Tree[int]\n"


def test_it_comes_back_as_the_scripts_class(run: Run) -> None:
    script = f"""{BEGIN}
    class Holder:
        model = Tree[float]
        def make(self): return self.model(value="2")
    def local():
        class Local(BaseModel, Generic[T]):
            value: T
        return Local[int](value="1")
    print([type(go.on(proc)(lambda: Tree[bytes](value=b"x")).result()) is Tree[bytes] for proc in (0, 1)])
    print(type(go.on(1)(Holder().make).result()) is Tree[float])
    made = go.on(1)(local).result()
    print(made, go.on(2)(lambda made: (made.value, type(made).__name__), made).result())
    ch = chan(2)
    ch.send(Tree[str])
    ch.send([Pair[int, str](key=1, value="a")])
    def receive(): return ch.recv() is Tree[str], type(ch.recv()[0]) is Pair[int, str]
    print(go.on(2)(receive).result())
    """
    out = "[True, True]\nTrue\nvalue=1 (1, 'Local[int]')\n(True, True)\n"
    assert programs.ok(run(script, procs=2)) == out


def test_a_change_of_the_generic_model_is_seen(run: Run) -> None:
    script = f"""{BEGIN}
    def f(): return Ints(value=1).total()
    seen = [go.on(1)(f).result()]
    Tree.total = lambda self: -1
    seen += [go.on(proc)(f).result() for proc in (0, 1)]
    print(seen)
    """
    assert programs.ok(run(script, procs=1)) == "[1, -1, -1]\n"


def test_a_function_whose_arguments_are_validated(run: Run) -> None:
    script = f"""{BEGIN}
    from pydantic import validate_call
    @validate_call
    def total(tree: Tree[int], more: int = 1) -> int: return tree.value + more
    class Holder:
        @validate_call
        def twice(self, value: int): return value * 2
    print([go.on(proc)(total, {{"value": "2"}}, "3").result() for proc in (0, 1)], go.on(1)(Holder().twice, "4").result())
    """
    assert programs.ok(run(script, procs=1)) == "[5, 5] 8\n"
