"""The function of a map or a flow that a worker cannot read: one error for all items, which names the part to blame."""

from __future__ import annotations

import os
from functools import partial
from operator import add
from typing import Any

import pytest
from programs import Run

from goproc import PickleError, chan, flow, pfilter, pfor, pmap, preduce

pytestmark = pytest.mark.usefixtures("runtime2")

HOST = os.getpid()


def made_here(host: int) -> Any:
    if os.getpid() != host:
        raise LookupError("it is not here")
    return Here()


class Here:
    """Can be read by the script, and not by workers."""

    def __reduce__(self) -> Any:
        return made_here, (HOST,)


class Filled:
    """Cannot be filled by workers."""

    def __init__(self) -> None:
        self.host = HOST

    def __setstate__(self, state: Any) -> None:
        if os.getpid() != state["host"]:
            raise LookupError("it is not here")


class Model:
    def __init__(self) -> None:
        self.weights = [0.5, Here()]

    def __call__(self, x: Any) -> Any:
        return x

    def predict(self, x: Any) -> Any:
        return x


def with_closure() -> Any:
    table = {"a": [1, Filled()]}
    return lambda x: (table, x)


def with_default(x: Any, y: Any = Here()) -> Any:  # noqa: B008
    return x


FUNCTIONS = [
    pytest.param(with_closure(), "<lambda> -> closure 'table' -> ['a'] -> [1]", id="closure"),
    pytest.param(Model(), "Model -> .weights -> [1]", id="object"),
    pytest.param(Model().predict, "predict -> self -> .weights -> [1]", id="method"),
    pytest.param(partial(add, Here()), "partial -> argument 1 of partial", id="partial"),
    pytest.param(partial(max, key=Here()), "partial -> argument 'key' of partial", id="keyword of a partial"),
]


def failure_of(results: Any) -> PickleError:
    with pytest.raises(PickleError) as raised:
        list(results)
    assert isinstance(raised.value.__cause__, LookupError)
    return raised.value


@pytest.mark.parametrize("f, path", FUNCTIONS)
def test_a_function_that_a_worker_cannot_read_is_an_error_with_its_path(f: Any, path: str) -> None:
    error = failure_of(pmap(f, range(4), workers=1))
    assert str(error).startswith(f"the function {path} cannot be read by worker ")
    assert str(error).endswith(": LookupError: it is not here")


@pytest.mark.parametrize("on_error", ["skip", "return", "channel"])
def test_such_an_error_is_of_no_item(on_error: Any) -> None:
    dead = chan(4)
    m = pmap(
        Model(), range(4), on_error=dead if on_error == "channel" else on_error, retries=3, retry_on=Exception
    )
    failure_of(m)
    assert len(dead) == 0
    assert (m.stats().failed, m.stats().retried) == (0, 0)
    assert list(m) == []


@pytest.mark.parametrize("option", ["init", "exit"])
def test_a_function_of_an_option_that_a_worker_cannot_read_is_named(option: Any) -> None:
    error = failure_of(pmap(abs, range(4), **{option: partial(max, Here())}))
    assert str(error).startswith(
        f"the function of {option}= -> argument 1 of partial cannot be read by worker "
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda f: pfilter(f, range(4)),
        lambda f: pfor(f, range(4)),
        lambda f: preduce(f, range(4)),
        lambda f: flow(range(4)).map(f),
        lambda f: flow(range(4)).map(f, 2),
        lambda f: flow(range(4)).map(abs).filter(f),
        lambda f: flow(range(4)).map(f, retries=1),
        lambda f: flow(range(4)).filter(f, 2, retries=1),
        lambda f: flow(range(4)).stage(f).map(abs),
    ],
    ids=["pfilter", "pfor", "preduce", "map", "two workers", "filter", "pool", "pool of a filter", "stage"],
)
def test_the_path_begins_at_the_function_of_the_user(call: Any) -> None:
    with pytest.raises(PickleError) as raised:
        list(call(Model()))
    assert str(raised.value).startswith("the function Model -> .weights -> [1] cannot be read by worker ")
    notes = getattr(raised.value, "__notes__", [])
    assert ("in the stage 'Model' of the flow" in notes) == ("flow" in str(call.__code__.co_names))


def test_a_module_that_a_worker_cannot_import_is_named(run: Run) -> None:
    done = run(
        """
        import os, pathlib, sys, tempfile
        from goproc import pmap

        folder = tempfile.mkdtemp()
        text = f"import os\\nif os.getpid() != {os.getpid()}: raise ImportError('no licence')\\ndef f(x): return x"
        pathlib.Path(folder, "licensed.py").write_text(text)
        sys.path.insert(0, folder)
        list(pmap(abs, [1]))  # the worker begins
        import licensed

        def call(x, f=licensed.f):
            return f(x)

        try:
            list(pmap(call, [1, 2, 3], on_error="skip"))
        except Exception as error:
            print(type(error).__name__, error)
        """,
        procs=1,
    )
    assert done.status == 0, done
    assert done.out == "PickleError the function call cannot be read by worker 1: ImportError: no licence\n"
