"""A weak container arrives with what it held: a registry of objects that the sender keeps alive."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import programs
import pytest
from programs import Run

from goproc import chan, go


class Node:
    """An object with a hash of its own."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Node) and self.name == other.name


def received(value: Any) -> Any:
    ch: Any = chan(1)
    ch.send(value)
    return ch.recv()


CONTAINERS = {
    "a set": weakref.WeakSet,
    "values": lambda nodes: weakref.WeakValueDictionary({node.name: node for node in nodes}),
    "keys": lambda nodes: weakref.WeakKeyDictionary({node: node.name for node in nodes}),
}


@pytest.mark.parametrize("kind", CONTAINERS)
def test_it_has_its_elements(runtime1: Any, kind: str) -> None:
    nodes = [Node("a"), Node("b")]
    container = CONTAINERS[kind](nodes)
    assert go(len, container).result() == 2
    back = received(received(container))
    gc.collect()
    assert len(back) == 2
    del nodes[0]
    gc.collect()
    assert (len(container), len(received(container)), len(back)) == (1, 1, 2)


def test_objects_added_later_are_held_weakly(runtime1: Any) -> None:
    node = Node("a")
    back = received(weakref.WeakSet([node]))
    other = Node("b")
    back.add(other)
    assert len(back) == 2
    del other
    gc.collect()
    assert len(back) == 1


def test_the_objects_are_one_in_a_message(runtime1: Any) -> None:
    node = Node("a")
    nodes, names = received(([node], weakref.WeakValueDictionary(a=node)))
    assert names["a"] is nodes[0]


def test_an_object_in_a_container_of_its_own(run: Run) -> None:
    script = """
        import weakref
        from goproc import go
        class Node:
            def __init__(self, name): self.name = name; self.peers = weakref.WeakSet([self])
            def __hash__(self): return hash(self.name)
            def __eq__(self, other): return self.name == other.name
        def f(node): return node in node.peers, [peer is node for peer in node.peers]
        print(go.on(1)(f, Node("a")).result())
    """
    assert programs.ok(run(script, procs=1)) == "(True, [True])\n"


def test_on_a_class_of_the_script(run: Run) -> None:
    script = """
        import weakref
        from goproc import go
        class C:
            all = weakref.WeakSet()
            by_name = weakref.WeakValueDictionary()
            def __init__(self, name): self.name = name; C.all.add(self); C.by_name[name] = self
        def f(): return sorted(c.name for c in C.all), sorted(C.by_name), C.by_name["a"].name
        kept = [C("a"), C("b")]
        print(*[go.on(proc)(f).result() for proc in (0, 1, 2)])
        kept.append(C("c"))
        del kept[1]
        print(*[go.on(proc)(f).result() for proc in (0, 1, 2)])
    """
    first, second = (["a", "b"], ["a", "b"], "a"), (["a", "c"], ["a", "c"], "a")
    assert programs.ok(run(script, procs=2)) == f"{first} {first} {first}\n{second} {second} {second}\n"
