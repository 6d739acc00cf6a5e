"""A weak reference arrives with its object, and is weak there if the message brings the object in another way, too."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import programs
import pytest
from programs import Run

from goproc import chan, go


class Node:
    def __init__(self, name: str, parent: Node | None = None) -> None:
        self.name = name
        self.parent = None if parent is None else weakref.ref(parent)
        self.children: list[Node] = []
        if parent is not None:
            parent.children.append(self)

    def title(self) -> str:
        return self.name.title()

    def __call__(self) -> str:
        return self.name


class Keyed(weakref.ref):  # type: ignore[type-arg]
    __slots__ = ("key",)

    def __new__(cls, obj: Any, key: str) -> Keyed:
        return super().__new__(cls, obj)

    def __init__(self, obj: Any, key: str) -> None:
        super().__init__(obj)
        self.key = key


class Cache(weakref.WeakValueDictionary):  # type: ignore[type-arg]
    def __init__(self, title: str) -> None:
        super().__init__()
        self.title = title


def received(value: Any) -> Any:
    ch: Any = chan(1)
    ch.send(value)
    return ch.recv()


KINDS: dict[str, Any] = {
    "a reference": weakref.ref,
    "a reference with a callback": lambda node: weakref.ref(node, print),
    "a reference of the script's class": lambda node: Keyed(node, "k"),
    "a method": lambda node: weakref.WeakMethod(node.title),
    "a method with a callback": lambda node: weakref.WeakMethod(node.title, print),
}


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_its_object(runtime1: Any, kind: str) -> None:
    node = Node("a")
    reference = KINDS[kind](node)
    assert go(lambda: reference() is not None).result()
    back = received(received(reference))
    gc.collect()
    assert type(back) is type(reference)
    target = back()
    assert getattr(target, "__self__", target).name == "a"
    assert getattr(back, "key", "k") == "k"


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_weak_if_the_object_comes_in_another_way(runtime1: Any, kind: str) -> None:
    node = Node("a")
    reference, nodes = received((KINDS[kind](node), [node]))
    target = reference()
    assert getattr(target, "__self__", target) is nodes[0]
    del target, nodes[0]
    assert reference() is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_one_stays_dead(runtime1: Any, kind: str) -> None:
    reference = KINDS[kind](Node("a"))
    assert reference() is None
    assert go(lambda: reference()).result() is None
    assert type(received(reference)) is type(reference)


def test_a_proxy(runtime1: Any) -> None:
    node = Node("a")
    made, called = weakref.proxy(list), weakref.proxy(node)
    assert go(lambda: (called.name, called.title(), called(), made([1]))).result() == ("a", "A", "a", [1])
    back, nodes = received((weakref.proxy(node), [node]))
    nodes[0].name = "b"
    assert back.name == "b"
    nodes.clear()
    with pytest.raises(ReferenceError):
        print(back.name)
    back = received(back)
    with pytest.raises(ReferenceError):
        print(back.name)


def test_a_tree_with_references_to_parents(runtime1: Any) -> None:
    root = Node("root")
    leaf = Node("leaf", Node("middle", root))

    def path(node: Node) -> list[str]:
        found = [node.name]
        while node.parent is not None:
            above = node.parent()
            assert above is not None
            node = above
            found.append(node.name)
        return found

    def down(node: Node) -> bool:
        return all(child.parent() is node and down(child) for child in node.children)  # type: ignore[misc]

    assert go(path, leaf).result() == ["leaf", "middle", "root"]
    assert go(down, root).result()
    back = received(root)
    middle = back.children[0]
    del back
    assert middle.parent() is None


def test_an_object_that_refers_to_itself(runtime1: Any) -> None:
    node: Any = Node("a")
    node.own, node.again = weakref.ref(node), {"own": weakref.proxy(node)}
    for back in (received(node), received(node.own)(), go(lambda: node).result()):
        assert back.own() is back
        assert back.again["own"].name == "a"


def test_a_container_is_weak_if_its_objects_come_in_another_way(runtime1: Any) -> None:
    nodes = [Node("a"), Node("b")]
    kept, names = received((nodes[:1], weakref.WeakValueDictionary({node.name: node for node in nodes})))
    gc.collect()
    assert sorted(names) == ["a", "b"]
    kept.clear()
    assert sorted(names) == ["b"]


def test_a_container_of_a_class_of_its_own(runtime1: Any) -> None:
    node, cache = Node("a"), Cache("nodes")
    cache["a"] = node
    back, nodes = received((cache, [node]))
    assert (type(back), back.title, back["a"] is nodes[0]) == (Cache, "nodes", True)
    nodes.clear()
    assert len(back) == 0


def test_weak_references_that_a_script_reaches(run: Run) -> None:
    script = """
        import weakref
        from goproc import go
        class Base:
            kinds, live = [], []
            def __init_subclass__(cls): Base.kinds.append(weakref.ref(cls))
            def __init__(self, name): self.name = name; Base.live.append(weakref.ref(self))
            def get(self): return self.name
        class First(Base): pass
        class Second(Base): pass
        class Signal:
            def __init__(self): self.listeners = []
            def connect(self, method): self.listeners.append(weakref.WeakMethod(method))
            def fire(self): return [listener()() for listener in self.listeners]
        one, two = First("one"), Second("two")
        ONE, PROXY, GONE = weakref.ref(one), weakref.proxy(two), weakref.proxy(First("gone"))
        signal = Signal()
        signal.connect(one.get)
        signal.connect(two.get)
        def closure():
            own = First("own")
            own.ref = weakref.ref(own)
            return lambda: (own.ref() is own, [ref().name for ref in Base.live if ref() is not None])
        def f(): return ONE() is one, PROXY.get(), signal.fire(), [kind().__name__ for kind in Base.kinds]
        def gone():
            try: GONE.get()
            except ReferenceError: return "gone"
        print(*[go.on(proc)(f).result() for proc in (0, 1)])
        print(*[go.on(proc)(gone).result() for proc in (0, 1)])
        held = closure()
        print(*[go.on(proc)(held).result() for proc in (0, 1)])
    """
    found, live = (True, "two", ["one", "two"], ["First", "Second"]), (True, ["one", "two", "own"])
    assert programs.ok(run(script, procs=1)) == f"{found} {found}\ngone gone\n{live} {live}\n"


def test_in_a_large_table(runtime1: Any) -> None:
    root = Node("root")
    for i in range(20_000):
        Node(str(i), root).children.append(root)
    table = {child.name: child for child in root.children}

    def f(i: int) -> tuple[str, bool]:
        child = table[str(i)]
        parent = child.parent()  # type: ignore[misc]
        return child.name, parent is child.children[0] and len(parent.children) == 20_000

    assert [go(f, i).result() for i in (5, 6, 7)] == [("5", True), ("6", True), ("7", True)]
