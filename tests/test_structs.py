"""Classes of msgspec that a script defines are the same in every process."""

from __future__ import annotations

import programs
import pytest
from programs import Run

pytest.importorskip("msgspec", reason="msgspec is not installed")

BEGIN = """
    import msgspec
    from typing import ClassVar
    from goproc import chan, go

    class Base(msgspec.Struct, tag="b", rename="camel"):
        some_name: int
        more: list[int] = []
        third: dict = msgspec.field(default_factory=dict, name="drei")
        LIMIT: ClassVar[int] = 7

    class Node(Base, kw_only=True, omit_defaults=True, weakref=True):
        a: int
        next_one: "Node | None" = None
        def total(self): return self.a + K + self.LIMIT
        def __post_init__(self): self.a = int(self.a)

    class Point(msgspec.Struct, frozen=True, order=True, dict=True, array_like=True):
        x: float
        y: float = 0.0

    class Leaf(Node):
        z: int = 9

    class Empty(msgspec.Struct): ...

    K = 100
"""

USES = {
    "an instance": """
    def f(node=Node(some_name=1, a=2, more=[4])):
        raw = msgspec.json.encode(node)
        return node.total(), raw, msgspec.json.decode(raw, type=Node) == node, type(node) is Node
    """,
    "fields that refer to the class": """
    def f(): return msgspec.json.decode(b'{"type":"b","someName":1,"a":1,"nextOne":{"type":"b","someName":2,"a":5}}', type=Node)
    """,
    "the options": """
    def f():
        found = [Point(1.5, 2) < Point(2.5), hash(Point(1)) == hash(Point(1)), msgspec.json.encode(Point(1))]
        for wrong in (lambda: setattr(Point(1), "x", 2), lambda: Node(1, 2), lambda: Point()):
            try: wrong()
            except Exception as e: found.append(repr(e))
        point = Point(1)
        return found, Empty(), Empty.__struct_config__.frozen, Point.__struct_config__.dict
    """,
    "a subclass, and one made there": """
    def f():
        class Here(Leaf):
            w: int = 3
        return Leaf(some_name=1, a=2), Here(some_name=1, a=2), Leaf.__mro__[1] is Node, Leaf.__struct_fields__
    """,
    "defaults are not shared": """
    def f():
        Node(some_name=1, a=1).more.append(1)
        return Node(some_name=1, a=1).more
    """,
}


@pytest.mark.parametrize("what", USES)
def test_it_is_the_same_class(run: Run, what: str) -> None:
    script = f"""{BEGIN}{USES[what]}
    print(repr(f()) == repr(go.on(1)(f).result()) == repr(go.on(2)(f).result()) == repr(go.on(0)(f).result()))
    """
    assert programs.ok(run(script, procs=2)) == "True\n"


def test_an_instance_comes_back_as_the_scripts_class(run: Run) -> None:
    script = f"""{BEGIN}
    def echo(source, to): to.send([source.recv()])
    here, there = chan(1), chan(1)
    go.on(1)(echo, there, here)
    node = Node(some_name=1, a=2)
    there.send(node)
    back = here.recv()[0]
    print(type(back) is Node, back == node, type(go.on(1)(Leaf, some_name=1, a=2).result()) is Leaf)
    """
    assert programs.ok(run(script, procs=1)) == "True True True\n"


def test_a_changed_method_is_seen(run: Run) -> None:
    script = f"""{BEGIN}
    def f(node): return node.total()
    node = Node(some_name=1, a=2)
    seen = [go.on(1)(f, node).result()]
    K = 200
    seen.append(go.on(1)(f, node).result())
    Node.total = lambda self: -1
    seen.append(go.on(1)(f, node).result())
    print(seen)
    """
    assert programs.ok(run(script, procs=1)) == "[109, 209, -1]\n"
