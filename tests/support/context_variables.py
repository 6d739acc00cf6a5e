"""A module that holds variables of the context, for test_labels."""

from contextvars import ContextVar

first = ContextVar("first", default="none")
other_name = ContextVar("second", default="none")


class Holder:
    var = ContextVar("third", default="none")
