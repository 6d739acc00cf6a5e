"""Links: causes, contexts, notes."""

from __future__ import annotations

from zoo.classes import Data, HttpError, NoSuper, Plain, Slots
from zoo.groups import raised
from zoo.reduces import OwnState
from zoo.registry import case


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
