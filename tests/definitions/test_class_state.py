"""On a worker the attributes of a class, and what hangs on them, are as of the latest `go` line that has arrived there."""

from __future__ import annotations

import textwrap

import pytest
from programs import Run, ok

HEAD = """
    import abc
    from goproc import chan, go

    def everywhere(f, *args):
        found = [go.on(p)(f, *args).result(30) for p in (0, 1, 2)]
        return found[0] if found[0] == found[1] == found[2] else found
"""


def script(text: str) -> str:
    return textwrap.dedent(HEAD) + textwrap.dedent(text)


OBJECT = "class Obj:\n    def __init__(self): self.n, self.items = 0, []\n"
CHANGES = {
    "an instance of another class": ("class C: inst = Obj()", "C.inst.n, C.inst.items", "C.inst.n += 1"),
    "an instance in a dict of a base": (
        "class B: items = {'a': Obj()}\nclass C(B): ...",
        "C.items['a'].n, C().items['a'].items",
        "B.items['a'].items.append(1); B.items['a'].n += 1",
    ),
    "an instance in a dict of a metaclass": (
        "class M(type):\n    made = {}\n    def __call__(cls):\n"
        "        if cls not in cls.made: cls.made[cls] = super().__call__()\n        return cls.made[cls]\n"
        "class C(metaclass=M):\n    def __init__(self): self.n = 0",
        "C().n, C() is C()",
        "C().n += 1",
    ),
    "an attribute of a metaclass": (
        "class M(type): settings = {'n': 0}\nclass C(metaclass=M): ...",
        "C.settings['n']",
        "M.settings['n'] += 1",
    ),
    "an attribute that is deleted": (
        "class C: ...",
        "[k for k in vars(C) if k[0] == 'x']",
        "setattr(C, 'x', 1) if turn % 2 else delattr(C, 'x')",
    ),
    "the order of attributes": (
        "class C: ...\nC.xa = C.xb = 0",
        "[k for k in vars(C) if k[0] == 'x']",
        "del C.xa; C.xa = turn",
    ),
    "a registered subclass": (
        "class C(abc.ABC): ...\nclass D: ...",
        "isinstance(D(), C), issubclass(D, C)",
        "C.register(D) if turn == 2 else None",
    ),
    "another base": (
        "class A:\n    def who(self): return 'a'\nclass B:\n    def who(self): return 'b'\nclass C(A): ...",
        "C().who(), C.__mro__[1].__name__",
        "C.__bases__ = (B,) if turn % 2 else (A,)",
    ),
    "a method that is deleted": (
        "class B:\n    def n(self): return 'b'\nclass C(B):\n    def n(self): return 'c'",
        "C().n()",
        "vars(C).get('n') and delattr(C, 'n')",
    ),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_change_is_seen_by_the_next_goroutine(run: Run, kind: str) -> None:
    definition, expression, change = CHANGES[kind]
    text = f"""
{OBJECT}
{definition}
def f(): return repr(({expression}))
print(everywhere(f) == f())
for turn in range(1, 5):
    {change}
    print(everywhere(f) == f() or (everywhere(f), f()))
"""
    assert ok(run(script("") + text)) == "True\n" * 5


def test_attribute_set_by_a_goroutine_goes_with_the_goroutines_that_it_starts(run: Run) -> None:
    text = """
        class Base: shared = []
        class C(Base):
            n, items, d = 1, [], {}
            def get(self): return self.n
        class User:
            def get(self): return C.n
        def inner(): return C.n, C.items, C.d, C.shared, getattr(C, "new", None), C().get(), User().get()
        def outer(to):
            C.n = 7
            C.items.append(1)
            C.d["a"] = 1
            Base.shared.append(2)
            C.new = [3]
            C.get = lambda self: -self.n
            return go.on(to)(inner).result(30)
        print(go.on(1)(outer, 2).result(30))
        print(go.on(1)(outer, 1).result(30))
        print(go.on(2)(lambda: go.on(1)(outer, 2).result(30)).result(30))
        print(everywhere(inner))
        print(go.on(1)(lambda: (delattr(C, "n"), go.on(2)(lambda: hasattr(C, "n")).result(30))[1]).result(30))
        print(everywhere(inner), inner()[0])
    """
    seen = "(7, [1], {'a': 1}, [2], [3], -7, 7)\n"
    plain = "(1, [], {}, [], None, 1, 1)"
    assert ok(run(script(text))) == f"{seen}{seen}{seen}{plain}\nFalse\n{plain} 1\n"


def test_attribute_set_by_a_goroutine_stays_until_the_next_go_line(run: Run) -> None:
    text = """
        class Register:
            items = {}
        def write():
            Register.items["a"] = Register.n = 1
        def read():
            return dict(Register.items), getattr(Register, "n", None)
        go.on(1)(write).result(30)
        print(read(), go.on(1)(read).result(30))
        Register.items["b"] = 2
        print(go.on(1)(read).result(30))
        go.on(0)(write).result(30)
        print(read())
    """
    assert ok(run(script(text))).splitlines() == [
        "({}, None) ({}, None)",
        "({'b': 2}, None)",
        "({'b': 2, 'a': 1}, 1)",
    ]


def test_attributes_that_libraries_keep_on_a_class_stay(run: Run) -> None:
    text = """
        class C: n = 1
        def f():
            C.__cached__ = C.__annotations__
            return C.n
        def g(): return hasattr(C, "__cached__"), C.n
        print(go.on(1)(f).result(30), go.on(1)(g).result(30), go.on(1)(g).result(30), go.on(2)(g).result(30))
    """
    assert ok(run(script(text))) == "1 (True, 1) (True, 1) (False, 1)\n"


def test_functions_that_use_one_class_see_its_changes_in_any_order(run: Run) -> None:
    """Also a change that is undone, after another function has sent it: each function has its own check."""
    text = """
        class Part: n = 0
        class C:
            n, items, part = 0, [0], Part
            def get(self): return C.n, C.items[0], C.part.n, Part.n
        class Late: n = 0
        def f(): return C().get()
        def g(): return C().get(), Late.n
        def h(): return [C.n, C.items[0], Part.n, Part.n]
        def writes():
            C.n = C.items[0] = Part.n = 9
            Late.n = 9
            return C().get()
        wrong = []
        for turn, (n, order) in enumerate(zip([0, 1, 0, 2, 0, 0, 2, 1], ["fgh", "f", "gh", "h", "fg", "fgh", "g", "hfg"])):
            (setattr(C, "n", n), C.items.__setitem__(0, n), setattr(Part, "n", n))[turn % 3]
            C.n, C.items[0], Part.n = (n, n, n) if turn % 2 else (n, C.items[0], Part.n)
            for name in order:
                function = globals()[name]
                for p in (0, 1, 2):
                    if go.on(p)(function).result(30) != function():
                        wrong.append((turn, name, p))
                if go.on(1)(writes).result(30) != (9, 9, 9, 9):
                    wrong.append((turn, name, "writes"))
        print(wrong)
    """
    assert ok(run(script(text))) == "[]\n"


def test_a_class_that_arrives_as_an_argument_is_as_of_the_go_line(run: Run) -> None:
    """The function reaches no class by itself: the arguments bring it, in any place."""
    text = """
        class C:
            n = 1
            def __init__(self, m=0): self.m = m
            def get(self): return self.n
        def write(c): (c if isinstance(c, type) else type(c)).n = 7
        def read(*args, **kwargs): return [x.n for x in (*args, *kwargs.values())]
        for send in (lambda f: go.on(1)(f, C), lambda f: go.on(1)(f, C()), lambda f: go.on(1)(f, c=C()) if f is read else go.on(1)(f, C)):
            send(read).result(30)
            send(write).result(30)
            print(send(read).result(30), end=" ")
        go.on(1)(write, C).result(30)
        print(go.on(1)(C(3).get).result(30))
    """
    assert ok(run(script(text))) == "[1] [1] [1] 1\n"


def test_a_class_is_as_of_the_go_line_if_a_closure_holds_its_object(run: Run) -> None:
    text = """
        class C:
            n = 1
            def get(self): return self.n
        def write(c): type(c).n = 7
        def over(*values):
            first, second = values
            def closed(): return first.n, second and second.n
            return closed
        def bound(f): return lambda: f()
        for f in (over(C(), None), over(C(), C()), over(C, C()), bound(C().get)):
            go.on(1)(write, C()).result(30)
            print(go.on(1)(f).result(30), end=" ")
        go.on(1)(write, C()).result(30)
        print(go.on(1)(lambda f: f(), C().get).result(30))
    """
    assert ok(run(script(text))) == "(1, None) (1, 1) (1, 1) 1 1\n"


@pytest.mark.parametrize(
    "where", ["[[x]]", "{'k': {'in': x}}", "(1, [x])", "Box(x)", "Box([C])", "lambda: x"]
)
@pytest.mark.parametrize("how", ["argument", "keyword", "global", "cell"])
def test_a_class_deep_inside_a_value(run: Run, where: str, how: str) -> None:
    """An earlier goroutine has written to the class. The next one gets the class as of its `go` line."""
    text = f"""
    class C: items, n = [], 0
    class Box:
        def __init__(self, inner): self.inner = inner
    def write(x):
        C.n += 1
        C.items.append(C.n)
    x = C()
    value = {where}
    def find(value):
        if callable(value) and not isinstance(value, type): return value()
        if isinstance(value, Box): return find(value.inner)
        if isinstance(value, dict): return find(list(value.values()))
        return find(value[-1]) if isinstance(value, (list, tuple)) else value
    if {how!r} == "argument":
        def look(value): return getattr(find(value), "n"), getattr(find(value), "items")
        call = lambda: go.on(1)(look, value)
    elif {how!r} == "keyword":
        def look(*, value): return getattr(find(value), "n"), getattr(find(value), "items")
        call = lambda: go.on(1)(look, value=value)
    elif {how!r} == "global":
        def look(): return getattr(find(value), "n"), getattr(find(value), "items")
        call = lambda: go.on(1)(look)
    else:
        def make(value):
            return lambda: (getattr(find(value), "n"), getattr(find(value), "items"))
        inner = make(value)
        call = lambda: go.on(1)(inner)
    for _ in range(2):
        go.on(1)(write, x).result(30)
        print(call().result(30))
    """
    assert ok(run(script(text), procs=1)) == "(0, [])\n(0, [])\n"


def test_calls_that_do_not_reach_a_class_leave_its_state(run: Run) -> None:
    """A goroutine has received objects of the class, and written to the class. Other calls arrive beside it."""
    text = """
    class C: n = 0
    def plain(i): return i
    def first(values): return values[0]
    def f(ch, back):
        ch.recv()
        [[x]] = ch.recv()
        C.n += 1
        back.send(x.n)
        ch.recv()
        return x.n
    ch, back = chan(), chan()
    g = go.on(1)(f, ch, back)
    ch.send([[C()]])
    ch.send([[C()]])
    print(back.recv(), [go.on(1)(plain, i).result() for i in (1, 2)], go.on(1)(first, [3]).result())
    ch.send(0)
    print(g.result())
    """
    assert ok(run(script(text), procs=1)) == "1 [1, 2] 3\n1\n"
