"""Groups of exceptions."""

from __future__ import annotations

from zoo.classes import HttpError, Plain, Slots
from zoo.registry import case


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
