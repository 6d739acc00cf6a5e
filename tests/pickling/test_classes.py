"""Classes by value: one object per process, and their state in messages."""

from __future__ import annotations

import abc
import dataclasses
import enum

import pytest
from wire import Handle, run_main

from goproc._pickling import messages, store

LIMIT = 10


def test_main_classes(tmp_path):
    out = run_main(
        """
        import abc, dataclasses, enum, collections, functools, typing

        class Colour(enum.Enum):
            RED = 1
            BLUE = 2
            def other(self):
                return Colour.BLUE if self is Colour.RED else Colour.RED

        @dataclasses.dataclass
        class Point:
            x: int
            y: int = 2
            tags: list = dataclasses.field(default_factory=list)
            def moved(self):
                return Point(self.x + 1, self.y, self.tags)

        class Shape(abc.ABC):
            @abc.abstractmethod
            def area(self): ...
            def twice(self):
                return 2 * self.area()

        class Square(Shape):
            made = 0
            def __init__(self, a):
                self.a = a
                Square.made += 1
            def area(self):
                return self.a ** 2
            def twice(self):
                return "square", super().twice()
            @property
            def side(self):
                return self.a
            @staticmethod
            def make(a):
                return Square(a)
            @classmethod
            def unit(cls):
                return cls(1)
            @functools.cached_property
            def slow(self):
                return self.a + 100

        Pair = collections.namedtuple("Pair", "a b")

        class Slotted:
            __slots__ = ("a", "b")

        UserId = typing.NewType("UserId", int)

        @functools.lru_cache
        def fib(n):
            return n if n < 2 else fib(n - 1) + fib(n - 2)

        def uses_fib(n):
            return fib(n)

        send(Colour.RED)
        send((Point(1), Point(1).moved()))
        send(Square(3))
        send(Square(4))
        send((Pair(1, 2), Square, Shape))
        go(lambda p: p.moved(), Point(5))
        s = Slotted(); s.a = 1
        send(s)
        go(fib, 30)
        go(uses_fib, 30)
        go(Square(5).twice)
        """,
        """
        import dataclasses
        c = load(0)
        print(c, c.other(), c is load(0), type(c)(1) is c)
        p, q = load(1)
        print(p, q, p == load(1)[0], dataclasses.replace(p, x=7), dataclasses.asdict(p))
        a, b = load(2), load(3)
        print(type(a) is type(b), a.twice(), b.side, b.slow, type(a).make(2).area(), type(a).unit().a)
        pair, square, shape = load(4)
        print(pair, square is type(a), isinstance(a, shape), issubclass(square, shape))
        print(run(5), isinstance(run(5), type(p)))
        print(load(6).a, run(7), run(8), run(9))
        before = len(blobs)
        f = messages.dumps([p, square])
        print(len(blobs) == before, messages.loads(*f)[1] is square)
        """,
        tmp_path,
    )
    assert out.splitlines() == [
        "Colour.RED Colour.BLUE True True",
        "Point(x=1, y=2, tags=[]) Point(x=2, y=2, tags=[]) True Point(x=7, y=2, tags=[]) "
        "{'x': 1, 'y': 2, 'tags': []}",
        "True ('square', 18) 4 104 4 1",
        "Pair(a=1, b=2) True True True",
        "Point(x=6, y=2, tags=[]) True",
        "1 832040 832040 ('square', 50)",
        "True True",
    ]


def test_main_class_that_uses_handles_and_state(tmp_path):
    out = run_main(
        """
        results = Handle()
        results.n = 1
        config = {"k": 1}
        count = 0

        class Worker:
            def run(self):
                return results.n, config["k"]

        class Sub(Worker):
            def run(self):
                return "sub", *super().run()

        class Rebinds:
            def inc(self):
                global count
                count += 1

        class Owner:
            pipe = results
            def get(self):
                return self.pipe.n

        def work():
            Rebinds().inc()
            return count

        go(Worker().run)
        go(Sub().run)
        config["k"] = 2
        go(Sub().run)
        go(work)
        send(Owner())
        send((Worker, Sub))
        print([name for name in ("Handle",) if any(b"Handle" in b and b"run" in b for b in blobs.values())])
        """,
        """
        print(run(0), run(1), run(2), run(3), run(3), load(4).get())
        w, s = load(5)
        print(issubclass(s, w), w is load(5)[0])
        """,
        tmp_path,
    )
    assert out.splitlines() == ["[]", "(1, 1) ('sub', 1, 1) ('sub', 1, 2) 1 1 1", "True True"]


def test_class_keeps_its_identity(wire):
    class Local:
        def me(self):
            return Local

    assert wire.send(Local) is Local
    assert type(wire.send(Local())) is Local
    one, two = messages.dumps(Local()), messages.dumps([Local, Local()])
    wire.hop()
    a = messages.loads(*one)
    cls, b = messages.loads(*two)
    assert type(a) is cls and type(b) is cls and cls is not Local
    assert a.me() is cls
    assert isinstance(wire.send(a), cls)


def test_back_to_its_creator(wire):
    class Local:
        def __init__(self):
            self.v = 1

    mine = messages.dumps(Local())
    mine_alone = [cache.copy() for cache in store._caches]
    wire.hop()
    theirs = messages.dumps(messages.loads(*mine))
    for cache, state in zip(store._caches, mine_alone, strict=True):
        cache.clear()
        cache.update(state)
    assert type(messages.loads(*theirs)) is Local


def test_twins_stay_apart(wire):
    def make():
        class Twin:
            pass

        return Twin

    a, b = make(), make()
    blob = messages.dumps((a, b, a()))
    wire.hop()
    x, y, z = messages.loads(*blob)
    assert x is not y and type(z) is x


def test_class_changed_after_it_was_sent(wire):
    class Local:
        factor = 2

        def get(self):
            return self.factor * LIMIT

    global LIMIT
    first = messages.dumps(Local())
    Local.factor = 3
    second = messages.dumps(Local())
    LIMIT = 100
    third = messages.dumps(Local())
    LIMIT = 10
    wire.hop()
    assert messages.loads(*first).get() == 20
    assert messages.loads(*second).get() == 30
    assert messages.loads(*third).get() == 300
    assert type(messages.loads(*first)) is type(messages.loads(*third))


def test_classes_that_refer_to_each_other(wire):
    class A:
        def other(self):
            return B()

    class B:
        def other(self):
            return A()

    one, two = messages.dumps(A()), messages.dumps(B())
    wire.hop()
    b, a = messages.loads(*two), messages.loads(*one)
    assert type(a.other()) is type(b) and type(b.other()) is type(a)


def test_class_closure_and_super(wire):
    handle = Handle(3)
    seen = [1]

    class Base:
        def get(self):
            return handle.key

    class Local(Base):
        def get(self):
            return super().get(), list(seen), __class__.__name__

    one = messages.dumps(Local())
    seen.append(2)
    two = messages.dumps(Local())
    wire.hop()
    assert messages.loads(*one).get() == (3, [1], "Local")
    assert messages.loads(*two).get() == (3, [1, 2], "Local")
    assert all(b"Handle" not in blob for blob in wire.store.values())


def test_class_registers_abc_and_generic(wire):
    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self): ...

    @Shape.register
    class Alien:
        pass

    shape, alien = wire.send((Shape, Alien))
    blob = messages.dumps((Shape, Alien()))
    wire.hop()
    shape, alien = messages.loads(*blob)
    assert isinstance(alien, shape)
    with pytest.raises(TypeError, match="abstract"):
        shape()


def test_flag_and_str_enum(wire):
    class Mode(enum.Flag):
        R = 1
        W = 2

    class Level(enum.StrEnum):
        LOW = "low"

    blob = messages.dumps((Mode.R | Mode.W, Level.LOW))
    wire.hop()
    mode, level = messages.loads(*blob)
    assert mode.value == 3 and level == "low" and type(level)("low") is level


def test_frozen_dataclass_with_slots(wire):
    @dataclasses.dataclass(frozen=True, slots=True)
    class P:
        x: int
        y: int = 0

    blob = messages.dumps(P(1))
    wire.hop()
    p = messages.loads(*blob)
    assert (p.x, p.y) == (1, 0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        p.x = 2


def test_metaclass(wire):
    class Meta(type):
        def __call__(cls, *args):
            made = super().__call__(*args)
            made.tag = cls.__name__
            return made

    class Local(metaclass=Meta):
        pass

    blob = messages.dumps(Local)
    wire.hop()
    assert messages.loads(*blob)().tag == "Local"


def test_exception_class(wire):
    class Oops(ValueError):
        pass

    blob = messages.dumps(Oops("x"))
    wire.hop()
    assert repr(messages.loads(*blob)) == "Oops('x')"


def test_generic_hints_and_named_tuple(wire):
    from typing import Generic, NamedTuple, TypeVar

    T = TypeVar("T")

    class Box(Generic[T]):
        def __init__(self, item: T) -> None:
            self.item = item

    class Row(NamedTuple):
        a: int
        b: str = "x"

    blob = messages.dumps((Box[int](3), Row(1)))
    wire.hop()
    box, row = messages.loads(*blob)
    assert box.item == 3 and row == (1, "x") and row.b == "x"
