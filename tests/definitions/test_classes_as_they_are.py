"""A class arrives as it is: what its definition ran in the script does not run again where it arrives."""

from __future__ import annotations

import textwrap

import pytest
from programs import Run, ok

HEAD = """
    import abc, collections, dataclasses, datetime, enum, operator
    from goproc import chan, go

    def everywhere(f, *args):
        found = [go.on(p)(f, *args).result(30) for p in (0, 1, 2)]
        return found[0] if found[0] == found[1] == found[2] else found
"""


def script(text: str) -> str:
    return textwrap.dedent(HEAD) + textwrap.dedent(text)


ENUMERATIONS = {
    "an alias": ("class E(enum.Enum): A = 1; B = 1", "E.B is E.A, E(1) is E.A, list(E.__members__)"),
    "a combination with a name": (
        "class E(enum.Flag): A = 1; B = 2; AB = A | B\nE.A | E.B; ~E.A",
        "(E.A | E.B) is E.AB, ~E.A is E.B, len(E)",
    ),
    "functions in values": (
        "class E(enum.Enum):\n    A = '+', lambda a, b: a + b\n    def __init__(self, sign, f): self.f = f",
        "E.A.f(1, 2), E['A'] is E.A, E.A.value[0]",
    ),
    "a __new__": (
        "class E(bytes, enum.Enum):\n    A = 1, 'one'\n    def __new__(cls, n, name):\n"
        "        made = bytes.__new__(cls, [n]); made._value_ = n; made.label = name; return made",
        "E.A == b'\\x01', E(1).label, E.A.name",
    ),
    "values of other types": (
        "class E(datetime.date, enum.Enum): A = 2020, 1, 1\nclass F(str, enum.Enum): A = 'a'",
        "E.A.year, F.A.upper(), F('a') is F.A",
    ),
    "values that cannot be hashed": ("class E(enum.Enum): A = [1]; B = {}", "E([1]) is E.A, E({}) is E.B"),
    "attributes that have changed": (
        "class E(enum.Enum): A = 1\nE.A.extra = [1]",
        "E.A.extra, len(vars(E.A))",
    ),
    "more values for a member": (
        "class E(enum.Enum):\n    A = 1, 'one'\n    def __new__(cls, n, name):\n"
        "        made = object.__new__(cls); made._value_ = n; cls._value2member_map_[name] = made; return made",
        "E('one') is E.A, E(1) is E.A",
    ),
    "an automatic value and a method": (
        "class E(enum.IntEnum):\n    A = enum.auto(); B = enum.auto()\n    @property\n    def next(self): return E.B",
        "E.A.next is E.B, E.B + 1, sorted(E)",
    ),
}


@pytest.mark.parametrize("kind", ENUMERATIONS)
def test_an_enumeration(run: Run, kind: str) -> None:
    definition, expression = ENUMERATIONS[kind]
    text = f"""
{definition}
def f(): return repr(({expression}))
print(everywhere(f) == f() or (everywhere(f), f()))
for p in (0, 1, 2):
    print(go.on(p)(lambda: E.A).result(30) is E.A, go.on(p)(lambda e: e is E.A, E.A).result(30))
"""
    assert ok(run(script("") + text)) == "True\n" + "True True\n" * 3


def test_a_member_of_an_enumeration_that_has_changed(run: Run) -> None:
    text = """
        class E(enum.Enum):
            A = 1
            def __init__(self, n): self.items, self.made, self.n = [], object, 0
        class F(enum.Enum):
            A = 1
            def __init__(self, n): self.deep = [[]]
        def f(): return E.A.items, E.A.n, F.A.deep
        print(everywhere(f))
        E.A.items.append(1)
        print(everywhere(f))
        E.A.n = 5
        F.A.deep[0].append(2)
        print(everywhere(f))
    """
    assert ok(run(script(text))) == "([], 0, [[]])\n([1], 0, [[]])\n([1], 5, [[2]])\n"


REGISTRIES = {
    "__init_subclass__": """
        made = []
        class Base:
            items = {}
            def __init_subclass__(cls, /, key=None, **kwargs):
                super().__init_subclass__(**kwargs)
                made.append(cls.__name__)
                Base.items[key or cls.__name__] = cls
            def run(self): return type(self).__name__
        class A(Base): ...
        class B(Base, key="bee"):
            def run(self): return super().run() + "!"
        def f(): return made, Base.items["bee"]().run(), A in Base.__subclasses__(), Base.items["A"] is A
    """,
    "a required argument": """
        class Base(Exception):
            def __init_subclass__(cls, code): cls.code = code
        class A(Base, code=5): ...
        class B(A, code=6): ...
        def f(): return A.code, B("x").code
    """,
    "a metaclass": """
        made = []
        class Meta(type):
            items = []
            def __new__(meta, name, bases, body, **kwargs):
                cls = super().__new__(meta, name, bases, body)
                meta.items.append(cls)
                cls.options = kwargs
                return cls
            def __init__(cls, name, bases, body, **kwargs):
                super().__init__(name, bases, body)
                made.append(name)
        class A(metaclass=Meta, table="a"): ...
        class B(A): ...
        def f(): return made, Meta.items == [A, B], A.options, B.options
    """,
    "a metaclass of abc": """
        class Meta(abc.ABCMeta):
            items = {}
            def __init__(cls, name, bases, body): cls.items[name] = cls
        class A(metaclass=Meta):
            @abc.abstractmethod
            def m(self): ...
        class B(A):
            def m(self): return list(type(type(self)).items)
        def f(): return B().m(), isinstance(B(), A), len(A.__abstractmethods__)
    """,
    "a metaclass that takes columns out": """
        class Column: ...
        class Meta(type):
            items = {}
            def __new__(meta, name, bases, body):
                columns = [key for key, value in body.items() if isinstance(value, Column)]
                cls = super().__new__(meta, name, bases, {k: v for k, v in body.items() if k not in columns})
                cls.columns = getattr(cls, "columns", []) + columns
                meta.items[name] = cls
                return cls
        class Model(metaclass=Meta): ...
        class User(Model): id = Column()
        class Admin(User): level = Column()
        def f(): return Admin.columns, list(Meta.items), hasattr(User, "id")
    """,
    "a metaclass that guards its classes": """
        class Meta(type):
            def __setattr__(cls, name, value): raise AttributeError(name)
            def __call__(cls): return super().__call__()
            def __getattr__(cls, name): return "no " + name
        class A(metaclass=Meta): n = 1
        def f(): return A.n, A.m, type(A()) is A
    """,
    "__set_name__": """
        made = []
        class Field:
            def __set_name__(self, owner, name): self.name = name; made.append(name)
            def __get__(self, obj, owner): return self.name
        class A: x = Field(); y = Field()
        def f(): return made, A.x, A().y
    """,
    "a decorator": """
        items = []
        def register(cls): items.append(cls); return cls
        @register
        class A: ...
        @register
        @dataclasses.dataclass
        class B(A): n: int = 1
        def f(): return len(items), items[0] is A, items[1] is B, items[1]() == B()
    """,
    "a generic base": """
        import typing
        T = typing.TypeVar("T")
        class Base(typing.Generic[T]):
            made = []
            def __init_subclass__(cls, **kwargs): super().__init_subclass__(**kwargs); Base.made.append(cls.__name__)
        class A(Base[int]): ...
        class P(typing.Protocol): ...
        def f(): return Base.made, str(A.__orig_bases__[0]), Base.__parameters__ == (T,), A.__parameters__
    """,
    "one instance": """
        class A:
            one = None
            def __new__(cls):
                if cls.one is None: cls.one = super().__new__(cls); cls.one.n = 0
                return cls.one
        A().n = 7
        def f(): return A() is A(), A() is A.one, A().n
    """,
}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_a_registry(run: Run, kind: str) -> None:
    text = script(REGISTRIES[kind]) + "print(everywhere(f) == f() or (everywhere(f), f()))\n"
    assert ok(run(text)) == "True\n"


def test_a_class_made_in_a_goroutine_runs_the_hooks_there(run: Run) -> None:
    text = """
        class Base:
            items = {}
            def __init_subclass__(cls): Base.items[cls.__name__] = cls
        class A(Base): ...
        def f():
            class B(Base): ...
            return sorted(Base.items), Base.items["B"] is B
        print(go.on(1)(f).result(30), sorted(Base.items))
        made = go.on(1)(lambda: type("C", (Base,), {"n": 1})).result(30)
        print(made.n, made.__mro__[1] is Base, sorted(Base.items))
    """
    assert ok(run(script(text))) == "(['A', 'B'], True) ['A']\n1 True ['A']\n"
