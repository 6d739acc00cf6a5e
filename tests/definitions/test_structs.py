"""Classes of msgspec that a script defines are the same in every process, and their instances are whole."""

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


COUNTED = """
    import copy, gc, msgspec, weakref
    from typing import Optional, Union
    from goproc import chan, go

    class Plain(msgspec.Struct):
        x: int
        y: int = 0
        log: list = []
        def __post_init__(self): self.y += self.x; self.log.append("made")

    class Frozen(msgspec.Struct, frozen=True, kw_only=True, tag=True):
        text: str
        size: int = 0
        def __post_init__(self): msgspec.structs.force_setattr(self, "size", self.size + len(self.text))

    class Sub(Plain, tag="sub"):
        z: int = 1

    class Cyclic(msgspec.Struct, dict=True, weakref=True):
        value: int
        next: Optional["Cyclic"] = None
        def __post_init__(self): self.seen = 1
"""


def test_post_init_runs_where_an_instance_is_made_and_only_there(run: Run) -> None:
    script = f"""{COUNTED}
    plain, frozen, sub = Plain(1), Frozen(text="abc"), Sub(2)
    cyclic = Cyclic(1)
    cyclic.next = cyclic
    cyclic.seen = 9
    def look(plain, frozen, sub, cyclic):
        return (plain.y, plain.log, frozen.size, sub.y, sub.log, sub.z, cyclic.next is cyclic, cyclic.seen,
                type(plain) is Plain, type(sub) is Sub, Plain.__subclasses__() == [Sub], gc.is_tracked(copy.copy(plain)))
    def make():
        decoded = msgspec.json.decode(b'{{"type": "Frozen", "text": "ab"}}', type=Union[Frozen, Sub])
        return Plain(5), decoded, Sub(3), Plain(1, log=[]).y, Cyclic(1).seen
    print({{look(plain, frozen, sub, cyclic) == go.on(proc)(look, plain, frozen, sub, cyclic).result() for proc in (0, 1)}})
    print(look(plain, frozen, sub, cyclic))
    there = go.on(1)(make).result()
    print(there, there == make(), type(there[0]) is Plain)
    """
    seen = "(1, ['made'], 3, 2, ['made'], 1, True, 9, True, True, True, True)"
    made = (
        "(Plain(x=5, y=5, log=['made']), Frozen(text='ab', size=2), Sub(x=3, y=3, log=['made'], z=1), 1, 1)"
    )
    assert programs.ok(run(script, procs=1)) == f"{{True}}\n{seen}\n{made} True True\n"


def test_the_way_of_a_class_wins(run: Run) -> None:
    script = f"""{COUNTED}
    class Own(msgspec.Struct):
        x: int
        def __post_init__(self): self.x += 1
        def __reduce__(self): return Own, (10,)
    print([go.on(proc)(lambda own: own.x, Own(1)).result() for proc in (0, 1)])
    """
    assert programs.ok(run(script, procs=1)) == "[11, 11]\n"


def test_encoders_and_decoders_keep_their_options(run: Run) -> None:
    script = f"""{COUNTED}
    def as_text(value): return str(value)
    encoder, packer = msgspec.json.Encoder(enc_hook=as_text, order="sorted"), msgspec.msgpack.Encoder()
    decoder, unpacker = msgspec.json.Decoder(Union[Frozen, Sub]), msgspec.msgpack.Decoder(Plain, strict=False)
    class Reader:
        decoder = msgspec.json.Decoder(Frozen)
        def read(self, raw): return self.decoder.decode(raw)
    def f():
        raw = encoder.encode({{"b": 1, "a": range(2)}})
        return raw, decoder.decode(b'{{"type": "sub", "x": 1}}'), unpacker.decode(packer.encode({{"x": "3"}}))
    print([go.on(proc)(f).result() == f() for proc in (0, 1)], f()[0])
    print(go.on(1)(Reader().read, b'{{"type": "Frozen", "text": "abc"}}').result())
    """
    found = b'{"a":"range(0, 2)","b":1}'
    assert programs.ok(run(script, procs=1)) == f"[True, True] {found!r}\nFrozen(text='abc', size=3)\n"
