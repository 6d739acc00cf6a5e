"""Built-in exceptions."""

from __future__ import annotations

import datetime
import decimal
import os
import pathlib

from zoo.registry import case


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
