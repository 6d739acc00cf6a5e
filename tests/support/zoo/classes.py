"""Classes of users: their constructors, attributes and texts."""

from __future__ import annotations

import dataclasses
import functools

from zoo.registry import case


class Plain(Exception):
    """A custom exception."""


@case
def plain():
    raise Plain("x")


@case
def class_as_argument():
    raise TypeError(int, Plain, functools.partial(max, 1))


class HttpError(Exception):
    def __init__(self, status, url):
        super().__init__(f"{status} at {url}")
        self.status, self.url = status, url


@case
def other_arguments():
    raise HttpError(404, "http://x")


class NoSuper(Exception):
    def __init__(self, code, *, detail):
        self.code, self.detail = code, detail


@case
def constructor_without_super():
    raise NoSuper(5, detail={"a": [1]})


class KeywordOnly(ValueError):
    def __init__(self, *, field, problem):
        super().__init__(f"{field}: {problem}")
        self.field = field


@case
def keyword_only():
    raise KeywordOnly(field="f", problem="p")


class Counted(Exception):
    made = 0

    def __init__(self, *args):
        type(self).made += 1
        super().__init__(*args)
        self.number = "first"


@case
def changed_after_construction():
    error = Counted(1)
    error.number, error.args = "second", ("other",)
    raise error


class Raising(Exception):
    def __init__(self, text):
        if text != "good":
            raise RuntimeError("never call this in the reader")
        super().__init__("bad", text)


@case
def constructor_that_raises():
    raise Raising("good")


class Slots(Exception):
    __slots__ = ("__private", "a", "unset")

    def __init__(self, a):
        super().__init__("slots")
        self.a, self.__private = a, [a]


class MoreSlots(Slots):
    __slots__ = ("b",)

    def __init__(self, a, b):
        super().__init__(a)
        self.b = b
        self.in_dict = None


@case
def slots():
    raise Slots({"x": 1})


@case
def inherited_slots():
    raise MoreSlots(1, None)


@dataclasses.dataclass
class Data(Exception):
    code: int
    text: str = "t"
    items: list = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int
    text: str = "t"


@dataclasses.dataclass(frozen=True, slots=True)
class FrozenSlots(Exception):
    code: int
    text: str


@dataclasses.dataclass(kw_only=True, eq=False)
class KeywordData(Exception):
    code: int
    secret: str = dataclasses.field(default="s", repr=False)

    def __post_init__(self):
        super().__init__(f"code {self.code}")


@case
def data_class():
    raise Data(1, items=[2])


@case
def frozen():
    raise Frozen(2, text="z")


@case
def frozen_with_cause():
    try:
        raise KeyError("k")
    except KeyError as error:
        frozen = Frozen(2)
        BaseException.__cause__.__set__(frozen, error)
        raise frozen


@case
def frozen_slots():
    raise FrozenSlots(3, "u")


@case
def keyword_data():
    raise KeywordData(code=4)


class Refusing(Exception):
    """Like models of validation libraries: a constructor of keywords, and attributes in a place of its own."""

    __slots__ = ("__fields_set__",)

    def __init__(self, **data):
        object.__setattr__(self, "__fields_set__", set(data))
        self.__dict__.update(data)

    def __setattr__(self, name, value):
        raise TypeError(f"{name} cannot be set")

    def __delattr__(self, name):
        raise TypeError(f"{name} cannot be deleted")

    def __str__(self):
        return ", ".join(f"{name}={value}" for name, value in sorted(self.__dict__.items()) if name[0] != "_")


@case
def refuses_attributes():
    raise Refusing(a=1, b="2")


class Guarded(Exception):
    def __getattribute__(self, name):
        if name in ("args", "__dict__", "__cause__"):
            raise RuntimeError("not for you")
        return super().__getattribute__(name)


@case
def refuses_to_be_read():
    raise Guarded("x")


class Computed(Exception):
    @property
    def args(self):
        return ("computed",)

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return f"no {name}"


@case
def computed_attributes():
    raise Computed("real")


class Delegating(Exception):
    def __init__(self, inner):
        self.inner = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)


@case
def delegating():
    raise Delegating(HttpError(1, "u"))


class Client:
    class Error(Exception):
        def __init__(self, client, /, *, why):
            super().__init__(type(client).__name__, why)
            self.client = client

    def fail(self):
        raise self.Error(self, why="w")

    def __eq__(self, other):
        return type(other) is Client

    __hash__ = None


@case
def nested_class():
    Client().fail()


class Falsy(Exception):
    def __bool__(self):
        raise RuntimeError("neither true nor false")

    def __eq__(self, other):
        raise RuntimeError("not to be compared")

    def __len__(self):
        return 0

    __hash__ = None


@case
def neither_true_nor_false():
    try:
        raise Falsy(1)
    except Falsy as error:
        raise Falsy(2) from error


class Object:
    pass


class Unstable(Exception):
    pass


@case
def text_with_an_address():
    raise Unstable(Object())


@case
def key_with_an_address():
    {}[Object()]


@case
def text_of_a_set():
    raise ValueError("unknown columns", {"alpha", "beta", "gamma", "delta", "epsilon"})


class BadText(Exception):
    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


class WorseText(Exception):
    def __str__(self):
        raise SystemExit(3)


class NoText(Exception):
    def __str__(self):
        return None


class OddText(str):
    pass


class TextOfASubclass(Exception):
    def __str__(self):
        return OddText("odd")


class TextOfAttributes(Exception):
    def __init__(self, host):
        self.host = host

    def __str__(self):
        return f"cannot reach {self.host}"


@case
def text_that_raises():
    raise BadText("x")


@case
def text_that_exits():
    raise WorseText("x")


@case
def text_that_is_none():
    raise NoText("x")


@case
def text_of_a_subclass():
    raise TextOfASubclass("x")


@case
def text_of_attributes():
    raise TextOfAttributes("h")


@case
def surrogates():
    raise ValueError("\udcff" * 5)


@case
def long_text():
    raise ValueError("x" * 300_000)
