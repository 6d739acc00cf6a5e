"""Exceptions across processes."""

from __future__ import annotations

import pickle
import threading
import traceback
from typing import Any

import pytest

from goproc.errors import RemoteError
from goproc.pickling import failure

pytestmark = pytest.mark.usefixtures("wire")


def raised(exc: BaseException) -> BaseException:
    try:
        raise exc
    except BaseException as caught:
        return caught


def through(exc: BaseException) -> BaseException:
    packed = failure.pack(exc)
    return failure.unpack(pickle.loads(pickle.dumps(packed)))


def printed(exc: BaseException) -> str:
    return "".join(traceback.format_exception(exc))


class TwoArguments(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a} and {b}")


class HoldsALock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Fine(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)
        self.extra = [a]


class BadText(Exception):
    def __str__(self):
        raise RuntimeError("no text")


class Raises(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle")


def explode():
    raise SystemExit("from a constructor")


class Killer(Exception):
    def __reduce__(self):
        return explode, ()


def test_plain():
    exc = through(raised(ValueError("x", 1)))
    assert type(exc) is ValueError and exc.args == ("x", 1)


def test_attributes_survive():
    exc = through(raised(Fine(1, 2)))
    assert type(exc) is Fine and exc.extra == [1] and exc.args == (1, 2)


def test_os_error():
    exc = through(raised(FileNotFoundError(2, "No such file", "/x")))
    assert type(exc) is FileNotFoundError and exc.errno == 2 and exc.filename == "/x"


@pytest.mark.parametrize(
    ("exc", "name", "text"),
    [
        (TwoArguments(1, 2), "TwoArguments", "1 and 2"),
        (HoldsALock("held"), "HoldsALock", "held"),
        (Raises("r"), "Raises", "r"),
        (ValueError(threading.Lock()), "ValueError", "lock"),
    ],
)
def test_what_cannot_be_pickled_or_unpickled(exc, name, text):
    got = through(raised(exc))
    assert type(got) is RemoteError
    assert name in got.type_name and text in got.text and "in raised" in got.traceback
    assert name in str(got)


def test_text_that_raises():
    got = through(raised(BadText("x")))
    assert isinstance(got, (BadText, RemoteError))


def test_local_class():
    class Oops(Exception):
        pass

    got = through(raised(Oops("x")))
    assert type(got) is Oops


def test_remote_frames_are_shown_once():
    packed = failure.pack(raised(ValueError("x")))
    try:
        raise failure.unpack(packed)
    except ValueError as exc:
        text = printed(exc)
    assert text.count("in raised") == 1
    assert (
        text.index("test_remote_frames")
        < text.index("ValueError: x")
        < text.index("Traceback of the goroutine")
    )


def test_causes_and_contexts():
    def chain():
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error
        except ValueError:
            raise RuntimeError("third")

    try:
        chain()
    except RuntimeError as error:
        exc = through(error)
    assert type(exc) is RuntimeError
    assert type(exc.__context__) is ValueError and type(exc.__context__.__cause__) is KeyError
    text = printed(exc)
    assert text.count("raise KeyError") == 1 and "direct cause" in text


def test_suppressed_context():
    try:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None
    except ValueError as error:
        exc = through(error)
    assert exc.__context__ is None and exc.__suppress_context__


def test_cause_that_cannot_be_pickled():
    exc = ValueError("x")
    exc.__cause__ = TwoArguments(1, 2)
    got = through(exc)
    assert type(got) is ValueError and type(got.__cause__) is RemoteError


def test_circular_and_endless_causes():
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    assert type(through(a).__cause__) is ValueError
    top: Any = ValueError(0)
    for i in range(1000):
        new = ValueError(i)
        new.__cause__ = top
        top = new
    assert type(through(top)) is ValueError


def test_groups():
    group = ExceptionGroup(
        "several", [raised(ValueError(1)), TwoArguments(1, 2), ExceptionGroup("in", [KeyError(2)])]
    )
    got = through(raised(group))
    assert type(got) is ExceptionGroup and got.message == "several"
    assert [type(member) for member in got.exceptions] == [ValueError, RemoteError, ExceptionGroup]
    got = through(BaseExceptionGroup("base", [KeyboardInterrupt()]))
    assert type(got) is BaseExceptionGroup


def test_notes_survive_and_add_up():
    exc = raised(ValueError("x"))
    exc.add_note("mine")
    got = through(through(exc))
    assert got.__notes__[0] == "mine"


def test_system_exit_and_keyboard_interrupt():
    assert through(SystemExit(3)).code == 3
    assert type(through(KeyboardInterrupt())) is KeyboardInterrupt


def test_plain_builtins():
    def check(value):
        if type(value) is tuple:
            for item in value:
                check(item)
        else:
            assert type(value) in (str, bytes, bool, type(None))

    check(failure.pack(raised(ExceptionGroup("g", [ValueError(1)]))))


def test_format_traceback_starts_with_the_user():
    source = compile("def run(f):\n    f()\n", failure._PACKAGE + "scheduler.py", "exec")
    namespace: dict[str, Any] = {}
    exec(source, namespace)

    def user():
        raise ValueError("x")

    try:
        namespace["run"](user)
    except ValueError as exc:
        exc.__traceback__ = exc.__traceback__.tb_next
        text = failure.format_traceback(exc)
        frames = failure.pack(exc)[3]
    assert "scheduler.py" not in text and "scheduler.py" not in frames
    assert text.startswith("Traceback (most recent call last):\n") and text.endswith("ValueError: x\n")


def test_format_traceback_of_other_files():
    exc = raised(ValueError("x"))
    assert "in raised" in failure.format_traceback(exc, skip_files=("/nowhere/",))
    assert failure.format_traceback(ValueError("x")) == "ValueError: x\n"


def test_an_exit_while_verifying_is_not_passed_on():
    assert type(through(raised(Killer("k")))) is RemoteError
