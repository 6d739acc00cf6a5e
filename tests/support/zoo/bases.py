"""Classes of users: __new__, several bases, metaclasses, classes made by a call."""

from __future__ import annotations

import abc
import collections
import datetime
import enum
import os
import typing

from zoo.classes import Data, Plain
from zoo.registry import case


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
