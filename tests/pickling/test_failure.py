"""Exceptions across processes."""

from __future__ import annotations

import importlib
import inspect
import pickle
import sys
import threading
import traceback
from typing import Any

import numpy as np
import pytest

from goproc._frames import PACKAGE
from goproc._pickling import failure, nodes
from goproc.errors import RemoteError

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


class SlotsAndALock(Exception):
    __slots__ = ("slot",)

    def __init__(self, *args):
        super().__init__(*args)
        self.slot = "s"


def explode():
    raise SystemExit("from a constructor")


class NotLoaded:
    def __reduce__(self):
        return explode, ()


class Counts(Exception):
    made = 0

    def __init__(self):
        type(self).made += 1


class ReducesToItself(Counts):
    made = 0

    def __reduce__(self):
        return type(self), ()


class Single(Exception):
    def __reduce__(self):
        return "ONLY"


ONLY = Single("only")


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
    ("exc", "name", "text", "reason"),
    [
        (HoldsALock("held"), "HoldsALock", "held", "attribute 'lock' (a _thread.lock)"),
        (ValueError(threading.Lock()), "ValueError", "lock", "args[0] (a _thread.lock)"),
        (
            ValueError({"a": [threading.Lock()]}),
            "ValueError",
            "lock",
            "args[0] -> ['a'] -> [0] (a _thread.lock)",
        ),
    ],
)
def test_parts_that_cannot_be_pickled(exc, name, text, reason):
    got = through(raised(exc))
    assert type(got) is RemoteError
    assert name in got.type_name and text in got.text and "in raised" in got.traceback
    assert got.reason == f"{reason} cannot be pickled"
    assert str(got) == f"{got.type_name}: {got.text} ({got.reason})"


def test_parts_that_can_be_pickled_are_kept():
    exc = SlotsAndALock("a", threading.Lock(), {"b": 1})
    exc.lock, exc.more = threading.Lock(), [ValueError("v")]
    got = through(raised(exc))
    assert type(got) is RemoteError
    assert got.reason == "args[1] (a _thread.lock) and attribute 'lock' (a _thread.lock) cannot be pickled"
    assert got.arguments == ("a", None, {"b": 1})
    assert got.attributes["slot"] == "s" and got.attributes["more"][0].args == ("v",)
    again = through(got)
    assert again.attributes["slot"] == "s" and str(again) == str(got)


def test_many_parts_that_cannot_be_pickled():
    got = through(ValueError(*[threading.Lock() for _ in range(20)]))
    assert got.reason.endswith("args[7] (a _thread.lock) and 12 more cannot be pickled")


def test_an_exception_with_a_lock_leaves_those_around_it():
    inner = HoldsALock("inner")
    exc = Fine(inner, [inner])
    exc.__cause__ = inner
    got = through(raised(exc))
    assert type(got) is Fine and type(got.__cause__) is RemoteError
    assert got.args[0] is got.extra[0] is got.__cause__


def test_a_value_that_cannot_be_loaded():
    got = through(ValueError("x", NotLoaded()))
    assert type(got) is RemoteError and got.arguments == ("x", None) and "args[1]" in got.reason


def test_a_class_that_cannot_be_pickled():
    class Oops(Exception):
        lock = threading.Lock()

    exc = Oops("x")
    exc.a = 1
    got = through(exc)
    assert type(got) is RemoteError and "its class" in got.reason and "lock" in got.reason
    assert got.attributes == {"a": 1}


def test_a_group_with_an_attribute_that_cannot_be_pickled():
    group = ExceptionGroup("g", [ValueError(1), HoldsALock("held")])
    group.lock, group.a = threading.Lock(), 1
    got = through(group)
    assert type(got) is ExceptionGroup and got.a == 1
    assert [type(member) for member in got.exceptions] == [ValueError, RemoteError]
    assert "attribute 'lock'" in got.__notes__[0]


def test_the_object_of_an_attribute_error():
    small = AttributeError("x", name="n", obj=[1])
    assert through(small).obj == [1] and through(small).name == "n"
    same = through(raised(AttributeError("x", name="n", obj=Fine(1, 2))))
    assert type(same.obj) is Fine and same.obj.extra == [1]


@pytest.mark.parametrize("obj", [threading.Lock(), bytes(10**6), NotLoaded(), np.zeros(1), [np.zeros(1)]])
def test_an_object_of_an_attribute_error_that_is_left_out(obj):
    got = through(raised(AttributeError("x", name="n", obj=obj)))
    assert type(got) is AttributeError and got.args == ("x",) and got.name == "n" and got.obj is None


def test_the_reader_has_no_such_module(monkeypatch, tmp_path):
    (tmp_path / "of_the_sender.py").write_text("class Gone(Exception): pass")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("of_the_sender")
    exc = Fine(1, module.Gone("x"))
    exc.__cause__ = raised(module.Gone("cause"))
    exc.__context__ = ExceptionGroup("g", [ValueError("v"), module.Gone("member")])
    packed = pickle.dumps(failure.pack(exc))
    monkeypatch.delitem(sys.modules, "of_the_sender")
    sys.path.remove(str(tmp_path))
    got = failure.unpack(pickle.loads(packed))
    assert type(got) is Fine and got.args[0] == 1 and type(got.args[1]) is RemoteError
    assert type(got.__cause__) is RemoteError and got.__cause__.text == "cause"
    assert "in raised" in got.__cause__.traceback
    assert [type(member) for member in got.__context__.exceptions] == [ValueError, RemoteError]


def test_no_constructor_runs():
    exc = Counts()
    exc.__cause__ = ExceptionGroup("g", [Counts(), ReducesToItself()])
    made = Counts.made, ReducesToItself.made
    packed = failure.pack(exc)
    assert (Counts.made, ReducesToItself.made) == made
    failure.unpack(packed)
    assert (Counts.made, ReducesToItself.made) == (made[0], made[1] + 1)


def test_an_exception_without_end():
    exc = ValueError("x")
    top = []
    for _ in range(100_000):
        top = [top]
    exc.args = (top, "y")
    got = through(exc)
    assert type(got) is RemoteError and got.arguments == (None, "y")


@pytest.mark.parametrize("left", range(2, 120, 3))
def test_little_stack_is_left(left):
    exc = raised(Fine(1, [ValueError(2)]))

    def down(n):
        return down(n - 1) if n else failure.pack(exc)

    depth = len(inspect.stack(0))
    try:
        packed = down(sys.getrecursionlimit() - depth - left)
    except RecursionError:
        assert left < 12  # there was no room for pack itself
    else:
        assert isinstance(failure.unpack(packed), (Fine, RemoteError))


@pytest.mark.parametrize("error", [MemoryError, RecursionError])
def test_no_memory_for_the_pickle(monkeypatch, error):
    def fail(*_):
        raise error

    exc = Fine(1, 2)
    exc.__cause__ = ExceptionGroup("g", [KeyError("k")])
    with monkeypatch.context() as patched:
        patched.setattr(nodes.Nodes, "pickle", fail)
        packed = failure.pack(raised(exc))
    got = failure.unpack(packed)
    assert type(got) is RemoteError and got.text == "(1, 2)" and "in raised" in got.__notes__[0]
    assert got.__cause__.exceptions[0].type_name == "KeyError"
    with monkeypatch.context() as patched:
        patched.setattr(failure, "_facts_of", fail)
        packed = failure.pack(exc)
    assert failure.unpack(packed).type_name == "Fine"


def test_an_exception_larger_than_memory_allows():
    got = failure.unpack(failure.pack_briefly(BadText("x")))
    assert type(got) is RemoteError and "larger" in got.reason and "BadText" in got.text


def test_an_interrupt_passes():
    class Interrupts(Exception):
        def __getstate__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        failure.pack(Interrupts())


def test_deep_groups():
    top: Any = ValueError("x")
    for _ in range(100):
        top = ExceptionGroup("g", [top, top])
    got = through(top)
    for _ in range(100):
        assert got.exceptions[0] is got.exceptions[1]
        got = got.exceptions[0]
    assert type(got) is ValueError


def test_one_exception_of_a_module_for_all():
    got = through(ONLY)
    assert got is ONLY
    through(raised(ONLY))
    assert len(ONLY.__notes__) == 1


def test_text_that_raises():
    got = through(raised(BadText("x")))
    assert isinstance(got, (BadText, RemoteError))


def test_local_class():
    class Oops(Exception):
        pass

    got = through(raised(Oops("x")))
    assert type(got) is Oops


def test_local_class_that_holds_an_instance(wire):
    """The copy of the instance is made before the class has got its methods."""

    class Oops(Exception):
        def __init__(self, a, b):
            super().__init__(a)
            self.b = b

        def __setstate__(self, state):
            self.b = [state["b"]]

    Oops.default = Oops(1, 2)
    packed = failure.pack(Oops(3, 4))
    wire.hop()
    got = failure.unpack(packed)
    assert type(got.default) is type(got) is not Oops
    assert got.default.args == (1,) and got.b == [4]


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
    assert type(exc.__context__) is KeyError and exc.__suppress_context__
    assert "KeyError" not in printed(exc)


def test_cause_that_cannot_be_pickled():
    exc = ValueError("x")
    exc.__cause__ = HoldsALock("held")
    got = through(exc)
    assert type(got) is ValueError and type(got.__cause__) is RemoteError


def test_circular_and_endless_causes():
    a, b = ValueError("a"), ValueError("b")
    a.__cause__, b.__cause__ = b, a
    assert type(through(a).__cause__) is ValueError and through(a).__cause__.__cause__ is not None
    top: Any = ValueError(0)
    for i in range(1000):
        new = ValueError(i)
        new.__cause__ = top
        top = new
    assert type(through(top)) is ValueError


def test_groups():
    group = ExceptionGroup(
        "several", [raised(ValueError(1)), HoldsALock("x"), ExceptionGroup("in", [KeyError(2)])]
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
            assert type(value) in (str, bytes, bool, int, type(None))

    check(failure.pack(raised(ExceptionGroup("g", [ValueError(1)]))))


def test_format_traceback_starts_with_the_user():
    source = compile("def run(f):\n    f()\n", PACKAGE + "of_goproc.py", "exec")
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
    assert "of_goproc.py" not in text and "of_goproc.py" not in frames
    assert text.startswith("Traceback (most recent call last):\n") and text.endswith("ValueError: x\n")


def test_format_traceback_of_other_files():
    exc = raised(ValueError("x"))
    assert "in raised" in failure.format_traceback(exc, skip_files=("/nowhere/",))
    assert failure.format_traceback(ValueError("x")) == "ValueError: x\n"
