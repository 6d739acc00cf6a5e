"""Exceptions as users and libraries define and raise them: each function of `CASES` raises one.

The file is imported by tests, and run as a script, whose classes travel by value. It imports nothing of the tests.
"""

from __future__ import annotations

import abc
import asyncio
import collections
import concurrent.futures
import configparser
import contextlib
import copyreg
import dataclasses
import datetime
import decimal
import enum
import functools
import io
import json
import os
import pathlib
import re
import shutil
import sqlite3
import struct
import subprocess
import threading
import typing
import urllib.error
import uuid
import xml.etree.ElementTree
import zlib

CASES: dict[str, typing.Callable[[], None]] = {}
BY_CLASS: set[str] = set()  # their class says how they are pickled, and leaves out links
NOT_SENT: set[str] = set()  # pickle alone cannot send them in a message


def case(f, by_class=False, not_sent=False):
    CASES[f.__name__] = f
    if by_class or not_sent:
        BY_CLASS.add(f.__name__)
    if not_sent:
        NOT_SENT.add(f.__name__)
    return f


by_class = functools.partial(case, by_class=True)
not_sent = functools.partial(case, not_sent=True)


# -- Built-in exceptions ----------------------------------------------------------------------------------------------


@case
def value_error():
    raise ValueError("x", 1, None, b"y", 2.5)


@case
def no_arguments():
    raise ValueError


@case
def arguments_of_all_kinds():
    raise ValueError(
        [1, {2}], {"a": (3,)}, pathlib.Path("x"), decimal.Decimal("1.5"), datetime.date(2024, 1, 1)
    )


@case
def key_error():
    {}["k"]


@case
def file_not_found():
    os.stat("/does/not/exist")


@case
def os_error_of_two_files():
    os.rename("/does/not/exist", "/nor/this")


@case
def os_error_with_text_only():
    raise OSError("text")


@case
def os_error_with_none():
    raise OSError(None, "text")


@case
def os_error_changed():
    try:
        raise PermissionError(13, "Permission denied", "/a")
    except OSError as error:
        error.filename = "/b"
        error.extra = 1
        raise


@case
def blocking():
    raise BlockingIOError(11, "again", 7)


@case
def decode_error():
    b"ab\xff".decode("utf-8")


@case
def encode_error():
    "a\u20ac".encode("ascii")


@case
def translate_error():
    raise UnicodeTranslateError("text", 1, 2, "why")


@case
def syntax_error():
    compile("x = = 1\n", "file.py", "exec")


@case
def indentation_error():
    compile("if 1:\nx\n", "file.py", "exec")


@case
def syntax_error_changed():
    error = SyntaxError("no", ("f.py", 1, 2, "text", 3, 4))
    error.lineno, error.end_offset, error.print_file_and_line = 10, 11, True
    raise error


@case
def module_not_found():
    import no_such_module  # noqa: F401


@case
def import_error():
    from os import no_such_name  # noqa: F401


@case
def import_error_made():
    raise ImportError("text", name="n", path="/p")


@case
def stop_iteration():
    raise StopIteration({"v": 1})


@case
def stop_iteration_of_nothing():
    raise StopIteration


@case
def generator_return():
    def numbers():
        yield 1
        return [2]

    made = numbers()
    next(made)
    next(made)


@case
def attribute_error():
    [1, 2].no_such_name  # noqa: B018


@case
def attribute_error_of_a_module():
    os.no_such_name  # noqa: B018


@case
def name_error():
    no_such_name  # noqa: B018, F821


@case
def unbound_local():
    print(later)  # noqa: F821
    later = 1  # noqa: F841


@case
def division():
    1 / 0  # noqa: B018


@case
def recursion():
    def down():
        down()

    down()


@case
def assertion():
    raise AssertionError({"expected": [1], "got": (2,)})


@case
def lambda_as_argument():
    raise TypeError(lambda: 1)


@case
def module_as_argument():
    raise TypeError(os, zoo_globals)


def zoo_globals():
    return ATOM


ATOM = 1


@case
def class_as_argument():
    raise TypeError(int, Plain, functools.partial(max, 1))


# -- Classes of users -------------------------------------------------------------------------------------------------


class Plain(Exception):
    """A custom exception."""


@case
def plain():
    raise Plain("x")


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


class WithNew(Exception):
    def __new__(cls, a, b):
        self = super().__new__(cls, a)
        self.pair = (a, b)
        return self

    def __init__(self, a, b):
        super().__init__(a)


class NewOfOtherArguments(Exception):
    def __new__(cls, *, code):
        self = super().__new__(cls)
        self.code = code
        return self

    def __init__(self, *, code):
        super().__init__("text")


class NewWithArguments(Exception):
    def __new__(cls, a):
        self = super().__new__(cls)
        self.a = a
        return self

    def __init__(self, a):
        super().__init__("text")

    def __getnewargs__(self):
        return (self.a,)


class Factory(Exception):
    def __new__(cls, code):
        return super().__new__(Missing if code == 404 else cls, code)


class Missing(Factory):
    pass


@case
def own_new():
    raise WithNew(1, 2)


@case
def own_new_of_keywords():
    raise NewOfOtherArguments(code=1)


@case
def own_new_arguments():
    raise NewWithArguments([1])


@case
def made_by_a_factory():
    raise Factory(404)


class KeyAndAttribute(KeyError, AttributeError):
    def __init__(self, key):
        super().__init__(key)
        self.name = "n"


class ValueAndOS(ValueError, OSError):
    pass


class FieldAndValue(Plain, ValueError):
    def __init__(self, field):
        Plain.__init__(self, "bad")
        self.field = field


class Numbered(OSError):
    def __init__(self, number, host):
        super().__init__(number, os.strerror(number), host)
        self.host = host


class MyOSError(OSError):
    def __init__(self, text, *, code):
        super().__init__(text)
        self.code = code


class MyUnicode(UnicodeDecodeError):
    def __init__(self, data):
        super().__init__("utf-8", data, 1, 2, "mine")
        self.more = len(data)


class MySyntax(SyntaxError):
    def __init__(self, token):
        super().__init__("bad token", ("f", token, 2, "text"))
        self.token = token


class MyImport(ImportError):
    def __init__(self, plugin):
        super().__init__(f"no {plugin}", name=plugin, path="/p")


class MyStop(StopIteration):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


class MyName(NameError):
    def __init__(self, where):
        super().__init__("text", name="v")
        self.where = where


class MyAttribute(AttributeError):
    def __init__(self, owner):
        super().__init__("text", name="v", obj=owner)


@case
def key_and_attribute():
    raise KeyAndAttribute("k")


@case
def value_and_os():
    raise ValueAndOS(2, "text", "/f")


@case
def field_and_value():
    raise FieldAndValue("f")


@case
def os_error_by_number():
    raise Numbered(111, "h")


@case
def os_error_with_code():
    raise MyOSError("t", code=[1])


@case
def own_unicode():
    raise MyUnicode(b"abc")


@case
def own_syntax():
    raise MySyntax(7)


@case
def own_import():
    raise MyImport("m")


@case
def own_stop():
    raise MyStop(1, 2)


@case
def own_name():
    raise MyName("w")


@case
def own_attribute():
    raise MyAttribute({"a": 1})


class Cooperative(Exception, metaclass=abc.ABCMeta):
    @property
    @abc.abstractmethod
    def code(self): ...

    def __init__(self, **kwargs):
        self.kwargs = kwargs
        super().__init__(type(self).__name__, self.code)


class Concrete(Cooperative):
    code = 7


T = typing.TypeVar("T")


class Generic(Exception, typing.Generic[T]):
    def __init__(self, value: T, by: str):
        super().__init__(by)
        self.value = value


class Code(enum.IntEnum):
    BAD = 1


class Coded(Exception):
    default = Code.BAD

    def __init__(self, code=None):
        self.code = code or self.default
        super().__init__(self.code.name, self.code.value)


Point = collections.namedtuple("Point", "x y")


@case
def abstract_base():
    raise Concrete(a=1)


@case
def generic():
    raise Generic[int](5, by="b")


@case
def with_an_enum():
    raise Coded


@case
def with_values_of_users():
    error = Plain(Point(1, 2))
    error.data, error.when = Data(1), datetime.timedelta(1)
    raise error


@case
def local_class():
    class Local(Exception):
        def __init__(self, a, b):
            super().__init__(a)
            self.b = b

    raise Local(1, b=2)


def made_class(name):
    def init(self, a, b):
        Exception.__init__(self, a + b)

    return type(name, (Exception,), {"__init__": init, "__module__": __name__})


@case
def class_made_by_type():
    raise made_class("Made")(1, 2)


# -- Classes that say how they are pickled ----------------------------------------------------------------------------


class OwnReduce(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}-{b}")
        self.a, self.b = a, b

    def __reduce__(self):
        return type(self), (self.a, self.b)


class OwnReduceEx(Exception):
    def __init__(self, a):
        super().__init__(a)
        self.lock = threading.Lock()

    def __reduce_ex__(self, protocol):
        return type(self), self.args

    def __eq__(self, other):
        return self.args == other.args

    __hash__ = None


class OwnState(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __getstate__(self):
        return {"b": self.b, "came": True}

    def __setstate__(self, state):
        self.b = state["b"]


class OwnSetState(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __setstate__(self, state):
        self.__dict__.update(state)


class OwnGetState(Exception):
    __slots__ = ("slot",)

    def __init__(self, a, b):
        super().__init__(a)
        self.b, self.slot = b, 5

    def __getstate__(self):
        return {"b": self.b}, {"slot": self.slot}


class GetStateRaises(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __getstate__(self):
        raise RuntimeError("no state")


class SetStateRaises(OwnState):
    def __setstate__(self, state):
        raise RuntimeError("no state")


class BrokenReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle")


class ReducesWrongly(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}{b}")
        self.a = a

    def __reduce__(self):
        return type(self), self.args  # one too few


class ReducesToAnother(Exception):
    def __reduce__(self):
        return ValueError, ("other",)


def end_the_program():
    raise SystemExit("from a constructor")


class ReducesToTheEnd(Exception):
    def __reduce__(self):
        return end_the_program, ()


class BaseReduces(Exception):
    def __init__(self, a):
        super().__init__(a)

    def __reduce__(self):
        return type(self), (self.args[0],)


class ConstructorBelow(BaseReduces):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


class Registered(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


def make_registered(a, b):
    return Registered(a, b)


copyreg.pickle(Registered, lambda error: (make_registered, (error.args[0], error.b)))


@by_class
def own_reduce():
    raise OwnReduce(1, 2)


@by_class
def own_reduce_with_cause():
    try:
        raise KeyError("k")
    except KeyError as error:
        raise OwnReduce(1, 2) from error


@by_class
def own_reduce_ex():
    raise OwnReduceEx(1)


@case
def own_state():
    raise OwnState(1, [2])


@case
def own_setstate():
    raise OwnSetState(1, [2])


@case
def own_getstate():
    raise OwnGetState(1, [2])


@not_sent
def getstate_that_raises():
    raise GetStateRaises(1, 2)


@not_sent
def setstate_that_raises():
    raise SetStateRaises(1, 2)


@not_sent
def reduce_that_raises():
    raise BrokenReduce(1)


@not_sent
def reduce_of_other_arguments():
    raise ReducesWrongly(1, 2)


@not_sent
def reduce_of_another_type():
    raise ReducesToAnother("mine")


@not_sent
def reduce_that_exits():
    raise ReducesToTheEnd(1)


@case
def constructor_below_reduce():
    raise ConstructorBelow(1, 2)


@by_class
def registered_with_copyreg():
    raise Registered(1, 2)


# -- Exceptions of libraries ------------------------------------------------------------------------------------------


@by_class
def json_error():
    json.loads('{"a": ]')


class ConfigError(json.JSONDecodeError):
    def __init__(self, path, error):
        super().__init__(error.msg, error.doc, error.pos)
        self.path = path


@case
def below_json_error():
    raise ConfigError("p", json.JSONDecodeError("m", "doc", 1))


@case
def called_process():
    subprocess.run(["false"], check=True, capture_output=True)


@case
def called_process_made():
    raise subprocess.CalledProcessError(3, ["a", "b"], output=b"out", stderr="err")


@case
def timeout_expired():
    raise subprocess.TimeoutExpired(["a"], 1.5, output=b"o")


@case
def http_error():
    raise urllib.error.HTTPError("http://x", 404, "Not Found", {"a": "b"}, None)


@case
def url_error():
    raise urllib.error.URLError(OSError(111, "refused"), "f")


@case
def content_too_short():
    raise urllib.error.ContentTooShortError("text", b"some")


@case
def regular_expression():
    re.compile("(")


@case
def struct_error():
    struct.unpack("i", b"")


@case
def zlib_error():
    zlib.decompress(b"x")


@case
def decimal_error():
    decimal.Decimal("x")


@case
def xml_error():
    xml.etree.ElementTree.fromstring("<a>")


@case
def sqlite_error():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("select * from missing")


@case
def uuid_error():
    uuid.UUID("x")


@case
def copy_errors():
    raise shutil.Error([("a", "b", "why")])


@by_class
def configparser_error():
    raise configparser.MissingSectionHeaderError("f", 1, "line")


@case
def configparser_option():
    raise configparser.NoOptionError("o", "s")


@case
def incomplete_read():
    raise asyncio.IncompleteReadError(b"a", 5)


@case
def broken_executor():
    raise concurrent.futures.BrokenExecutor("b")


# -- Groups -----------------------------------------------------------------------------------------------------------


class Errors(ExceptionGroup):
    def __new__(cls, errors, code):
        self = super().__new__(cls, f"{len(errors)} errors", errors)
        self.code = code
        return self

    def derive(self, excs):
        return Errors(excs, self.code)


class NamedErrors(ExceptionGroup[Exception]):
    def __init__(self, message, errors):
        super().__init__(message, errors)
        self.names = [type(error).__name__ for error in errors]


class BaseErrors(BaseExceptionGroup):
    pass


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


@case
def group():
    raise ExceptionGroup("several", [raised(ValueError(1)), HttpError(1, "u"), KeyError("k")])


@case
def group_of_groups():
    inner = ExceptionGroup("inner", (TypeError("t"),))
    inner.add_note("inner note")
    raise ExceptionGroup("outer", [inner, ExceptionGroup("other", [Slots(1)])])


@case
def group_of_exits():
    raise BaseExceptionGroup("base", [KeyboardInterrupt(), SystemExit(3), Plain("p")])


@case
def group_with_own_new():
    raise Errors([ValueError(1), HttpError(1, "u")], code=5)


@case
def group_with_own_init():
    raise NamedErrors("m", [ValueError(1)])


@case
def group_of_a_base():
    raise BaseErrors("m", [ValueError(1), GeneratorExit()])


@case
def group_split():
    raise Errors([ValueError(1), KeyError(2)], code=5).subgroup(KeyError)


@case
def group_with_one_member_twice():
    error = raised(ValueError(1))
    raise ExceptionGroup("twice", [error, error])


@case
def group_and_member_know_each_other():
    member = Plain("m")
    group = ExceptionGroup("g", [member])
    member.__context__ = ValueError("c")
    group.first = member
    raise group


# -- Links ------------------------------------------------------------------------------------------------------------


class Wrapper(Exception):
    def __init__(self, original):
        super().__init__(f"wrapped {original!r}", original)
        self.original = original


@case
def cause():
    try:
        raise HttpError(1, "u")
    except HttpError as error:
        raise Slots(2) from error


@case
def context():
    try:
        {}["k"]
    except KeyError:
        raise NoSuper(1, detail=2)


@case
def suppressed_context():
    try:
        {}["k"]
    except KeyError:
        raise Plain("x") from None


@case
def cause_and_another_context():
    try:
        {}["k"]
    except KeyError:
        raise Plain("x") from HttpError(5, "v")


@case
def cause_in_the_arguments():
    try:
        {}["k"]
    except KeyError as error:
        raise Wrapper(error) from error


@case
def exceptions_as_arguments():
    raise Plain(HttpError(1, "u"), [Slots(2)], {"k": raised(Data(3))})


@case
def causes_in_a_circle():
    a, b = Plain("a"), HttpError(1, "b")
    a.__cause__, b.__cause__ = b, a
    raise a


@case
def contexts_in_a_circle():
    a, b, c = Plain("a"), HttpError(1, "b"), ValueError("c")
    a.__context__, b.__context__, c.__context__ = b, c, b
    raise a


@case
def attributes_in_a_circle():
    inner, outer = Plain("inner"), HttpError(2, "outer")
    inner.outer, outer.inner = outer, inner
    outer.itself = [outer]
    raise outer


@case
def long_chain():
    error = Plain(0)
    for i in range(1, 60):
        new = Plain(i)
        new.__cause__ = error
        error = new
    raise error


@case
def notes():
    error = HttpError(1, "u")
    error.add_note("first")
    error.add_note("second\nline")
    raise error


@case
def notes_of_the_cause():
    try:
        error = Slots(1)
        error.add_note("n")
        raise error
    except Slots as error:
        raise OwnState(1, 2) from error


# -- Comparison -------------------------------------------------------------------------------------------------------

NOTE = "Traceback of the goroutine"
MADE = ("Local", "Made")  # classes that each call makes anew


def difference(a, b, links=True, seen=None):
    """Return what is not the same in two objects, None if nothing."""
    seen = set() if seen is None else seen
    if (id(a), id(b)) in seen:
        return None
    seen.add((id(a), id(b)))
    if type(a) is not type(b) and not (type(a).__name__ == type(b).__name__ in MADE):
        return f"type: {type(a)} and {type(b)}"
    if isinstance(a, BaseException):
        pairs = list(parts(a, b, links))
    elif isinstance(a, dict):
        pairs = [("keys", list(a), list(b)), *[(f"[{k!r}]", a[k], b.get(k)) for k in a]]
    elif isinstance(a, (list, tuple)):
        pairs = [("length", len(a), len(b)), *[(f"[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b))]]  # noqa: B905
    elif isinstance(a, io.BytesIO):
        return difference(a.getvalue(), b.getvalue())
    elif type(a).__name__ in ("Object", "_TemporaryFileCloser") or (callable(a) and not isinstance(a, type)):
        return None
    else:
        return None if a == b else f"{a!r} and {b!r}"
    for name, x, y in pairs:
        found = difference(x, y, links, seen)
        if found is not None:
            return f"{name} {found}"
    return None


def parts(a, b, links):
    base = BaseException.__dict__
    for name in ("args", "__cause__", "__context__", "__suppress_context__"):
        if links or name == "args":
            yield name, base[name].__get__(a), base[name].__get__(b)
    yield "attributes", attributes(a), attributes(b)
    if links:
        yield "notes", own_notes(a), own_notes(b)
    for owner in type(a).__mro__:
        for name, member in vars(owner).items():
            if owner is not BaseException and is_member(owner, name, member):
                yield name, value(member, a), value(member, b)
    yield "text", text(a), text(b)


def is_member(owner, name, member):
    if name.startswith("__") and name.endswith("__") and owner is not Refusing:
        return False
    return type(member).__name__ in ("member_descriptor", "getset_descriptor")


def attributes(exc):
    found = dict(BaseException.__dict__["__dict__"].__get__(exc))
    found.pop("__notes__", None)
    found.pop("lock", None)
    return found


def own_notes(exc):
    notes = BaseException.__dict__["__dict__"].__get__(exc).get("__notes__", [])
    return [note for note in notes if not note.startswith(NOTE)]


def value(member, exc):
    try:
        return member.__get__(exc)
    except AttributeError:
        return "unset"


def text(exc):
    try:
        found = str(exc)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "" if " at 0x" in found or "{" in found else found


def caught(f):
    try:
        f()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")
