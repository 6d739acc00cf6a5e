"""Objects of the script's classes: large ones are read once, and any are whole where they arrive."""

from __future__ import annotations

import pytest
from programs import Run, ok

COUNTED = """
import builtins
from goproc import Atomic, go
reads = Atomic(0)
class {name}:
    def __init__(self): self.rows = [[float(i)] for i in range(100_000)]
    def row(self, i): return self.rows[i][0]
    {methods}
model = {name}()
def f(i): return model.row(i)
for call in (lambda i: (f, i), lambda i: (model.row, i), lambda i: (lambda m, i: m.row(i), model, i)):
    assert [go.on(1)(*call(i)).result(30) for i in range(5)] == list(range(5))
print(reads.load() + go.on(1)(lambda: getattr(builtins, 'reads', 0)).result(30) <= 6)
model.rows[3][0] = -1.0
print(go.on(1)(f, 3).result(30), go.on(1)(model.row, 3).result(30))
def write(): model.rows[4][0] = 0.5
go.on(1)(write).result(30)
print(go.on(1)(f, 4).result(30))
"""


def _counted(run: Run, name: str, methods: str) -> str:
    done = run(COUNTED.format(name=name, methods=methods))
    assert done.status == 0, done
    return done.out


def test_a_large_object_with_a_setstate_is_read_once(run: Run) -> None:
    methods = "def __setstate__(self, state): reads.add(1); vars(self).update(state)"
    assert _counted(run, "Model", methods) == "True\n-1.0 -1.0\n4.0\n"


def test_a_large_object_with_a_reduce_is_read_once(run: Run) -> None:
    methods = """
    def __reduce__(self): return restored, (self.rows,)
def restored(rows):
    builtins.reads = getattr(builtins, "reads", 0) + 1
    made = Model()
    made.rows = rows
    return made
"""
    assert _counted(run, "Model", methods) == "True\n-1.0 -1.0\n4.0\n"


def test_an_object_in_a_set_of_its_own(run: Run) -> None:
    text = """
from goproc import chan, go
class Node:
    def __init__(self, name): self.name = name; self.fill()
    def fill(self):
        name = vars(self).pop("name")
        self.peers = self.seen = None
        self.name = name
        self.peers, self.seen = {self}, {self: 1}
    def __hash__(self): return hash(self.name)
    def __eq__(self, other): return self.name == other.name
class Made(Node):
    def __new__(cls, *args): return super().__new__(cls)
a, b = Node("a"), Made("b")
a.peers.add(b)
b.peers.add(a)
def f(node): return sorted(n.name for n in node.peers), node in node.seen, all(node in n.peers for n in node.peers)
for p in (0, 1):
    print(go.on(p)(f, a).result(30), go.on(p)(lambda: f(b)).result(30))
ch = chan(1)
ch.send(a)
print(f(ch.recv()), f(go.on(1)(Node, "c").result(30)))
"""
    whole = "(['a', 'b'], True, True)"
    assert ok(run(text)) == f"{whole} {whole}\n" * 2 + f"{whole} (['c'], True, True)\n"


def test_an_exception_that_is_returned_keeps_its_notes(run: Run) -> None:
    text = """
from goproc import go
class E(Exception):
    def __init__(self, a, b): super().__init__(a + b); self.a, self.b = a, b
    def __reduce__(self): return E, (self.a, self.b)
def f():
    e = E("a", "b")
    e.add_note("note")
    return e
for e in (go.on(1)(f).result(30), go.on(1)(lambda e: e, f()).result(30)):
    print(repr(e), e.a, e.__notes__)
"""
    assert ok(run(text)) == "E('ab') a ['note']\n" * 2


def test_an_exception_of_a_class_in_c_keeps_its_attributes(run: Run) -> None:
    text = """
import json, pydantic
from goproc import go
def f(again):
    try:
        pydantic.TypeAdapter(int).validate_python("x")
    except pydantic.ValidationError as e:
        e.add_note("note")
        e.row = 5
        if again:
            raise
        return e
try:
    go.on(1)(f, True).result(30)
except pydantic.ValidationError as e:
    print(e.args, e.row, e.__notes__[0], e.error_count())
e = go.on(1)(f, False).result(30)
print(e.args, e.row, e.__notes__, e.error_count())
"""
    pytest.importorskip("pydantic", reason="pydantic is not installed")
    assert ok(run(text)) == "() 5 note 1\n() 5 ['note'] 1\n"


def test_a_descriptor_that_pickles_as_an_attribute_of_its_class(run: Run) -> None:
    text = """
from goproc import go
class Method:
    def __init__(self, f): self.f = f
    def __set_name__(self, owner, name): self.owner, self.name = owner, name
    def __get__(self, obj, owner): return self if obj is None else lambda *args: self.f(obj, *args)
    def __reduce__(self): return lookup, (self.owner, self.name)
def lookup(owner, name): return vars(owner)[name]
class A:
    @Method
    def get(self, x): return x * 2
for p in (0, 1):
    print(go.on(p)(lambda: A().get(3)).result(30), go.on(p)(lambda m: m is vars(A)["get"], vars(A)["get"]).result(30))
"""
    assert ok(run(text)) == "6 True\n" * 2


def test_the_key_of_a_function_that_compares(run: Run) -> None:
    done = run("""
    import functools
    from goproc import chan, go, pmap
    def backwards(a, b): return sign * (b - a)
    sign = 1
    key = functools.cmp_to_key(backwards)
    def by_global(values): return sorted(values, key=key)
    def by_argument(values, key, one): return sorted(values, key=key), one.obj, key(4) < one
    print(go.on(1)(by_global, [1, 3, 2]).result(), go.on(1)(by_argument, [1, 3, 2], key, key(3)).result())
    sign = -1
    print(go.on(1)(by_global, [1, 3, 2]).result(), go.on(1)(lambda: sorted([1, 3, 2], key=key)).result())
    ch = chan(1)
    ch.send({"key": key, "first": key(5)})
    got = go.on(1)(ch.recv).result()
    print(sorted([2, 1], key=got["key"]), got["first"].obj)
    """)
    assert ok(done) == "[3, 2, 1] ([3, 2, 1], 3, True)\n[1, 2, 3] [1, 2, 3]\n[1, 2] 5\n"
