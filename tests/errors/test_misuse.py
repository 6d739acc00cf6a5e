"""A call in the place of a function, as in go(f(x)): the error shows the line to write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from goproc import (
    Group,
    Supervisor,
    WaitGroup,
    after_func,
    blocking,
    flow,
    go,
    pfilter,
    pfor,
    pmap,
    psort,
    runtime,
    worker_local,
)
from goproc.futures import Executor

pytestmark = pytest.mark.usefixtures("runtime2")

x = 3


def scale(a: int, b: int = 2) -> Any:
    return a * b


def save() -> Any:
    return None


async def answer(n: int) -> Any:
    return n


def in_a_group() -> None:
    group = Group()
    group.go(scale(x))


def supervised() -> None:
    with Supervisor("one_for_one") as supervisor:
        supervisor.go(scale(x))


def message(f: Callable[[], Any]) -> str:
    with pytest.raises(TypeError) as raised:
        f()
    return str(raised.value)


connection = worker_local(dict)


def test_an_attribute_of_a_worker_local_that_was_not_called() -> None:
    connections = [connection]

    def said(f: Callable[[], Any]) -> str:
        with pytest.raises(AttributeError) as raised:
            f()
        return str(raised.value)

    start = "'WorkerLocal' object has no attribute 'keys'; a call returns the value of this process: write "
    assert said(lambda: connection.keys()) == f"{start}connection().keys"
    assert said(lambda: len(connections[0].keys)) == f"{start}connections[0]().keys"
    assert said(lambda: getattr(connection, "keys")) == f"{start}value().keys"  # noqa: B009
    assert said(lambda: go(lambda: connection.keys()).result()) == f"{start}connection().keys"
    assert "write" not in said(lambda: connection.__len__())
    assert not hasattr(connection, "close")


CALLS: dict[str, Callable[[], Any]] = {
    "go(scale, x)": lambda: go(scale(x)),
    "go(scale, x, b=4)": lambda: go(scale(x, b=4)),
    "go(scale, x, 5)": lambda: go(scale(x), 5),
    "go(scale, sum([1, 2]))": lambda: go(
        scale(
            sum(
                [1, 2],
            ),
        ),
    ),
    "go.local(scale, x)": lambda: go.local(scale(x)),
    "go.on(1)(scale, x)": lambda: go.on(1)(scale(x)),
    "go.opts(name='ä').local(scale, x)": lambda: go.opts(name="ä").local(scale(x)),
    "WaitGroup().go(scale, x)": lambda: WaitGroup().go(scale(x)),
    "group.go(scale, x)": in_a_group,
    "supervisor.go(scale, x)": supervised,
    "blocking(scale, x)": lambda: blocking(scale(x)),
    "after_func(1, scale, x)": lambda: after_func(1, scale(x)),
    "pmap(scale, [1])": lambda: pmap(scale(x), [1]),
    "pfilter(scale, [1])": lambda: pfilter(scale(x), [1]),
    "pfor(scale, [1])": lambda: pfor(scale(x), [1]),
    "flow([1]).map(scale)": lambda: flow([1]).map(scale(x)),
    "key=lambda: scale(x)": lambda: psort([1], key=scale(x)),
    "worker_local(lambda: scale(x))": lambda: worker_local(scale(x)),
    "init=lambda: scale(x)": lambda: pmap(abs, [1], init=scale(x)),
    "exit=lambda: scale(x)": lambda: flow([1]).map(abs, exit=scale(x)),
    "runtime(init=lambda: scale(x))": lambda: runtime(init=scale(x)),
}


@pytest.mark.parametrize("right", CALLS)
def test_the_line_to_write(right: str) -> None:
    told = message(CALLS[right])
    assert told.endswith(
        f"; write {right.removeprefix('runtime(').removesuffix(')') if 'runtime' in right else right}"
    )
    assert "calls scale at once" in told


def test_executor() -> None:
    with Executor(1) as executor:
        assert message(lambda: executor.submit(scale(x))).endswith("; write executor.submit(scale, x)")
        assert message(lambda: executor.map(scale(x), [1])).endswith("; write executor.map(scale, [1])")
        assert message(lambda: executor.submit_many(scale(x), [1])).endswith(
            "; write executor.submit_many(scale, [1])"
        )
        assert message(lambda: Executor(initializer=scale(x))).endswith(
            "; write initializer=lambda: scale(x)"
        )


def test_the_result_is_none() -> None:
    assert message(lambda: go(save())) == (
        "go of nil func value: go(save()) calls save at once, and passes on its result; write go(save)"
    )
    assert message(lambda: go.local(save())).startswith(
        "go of nil func value: go.local(save()) calls save at once"
    )
    assert message(lambda: pmap(save(), [1])).endswith("; write pmap(save, [1])")


def test_a_coroutine() -> None:
    made = []

    def fetch(n: int) -> Any:
        made.append(answer(n))
        return made[-1]

    assert message(lambda: go(fetch(x))).endswith(
        "fetch is asynchronous; write go(lambda: asyncio.run(fetch(x)))"
    )
    made[0].close()


def test_no_call_in_the_source() -> None:
    assert message(lambda: go(x)) == "go: 'int' object is not callable (use go(f, *args), not go(f(*args)))"
    assert message(lambda: go(None)) == "go of nil func value"
    assert message(lambda: exec("go(scale(x))", {"go": go, "scale": scale, "x": x})).startswith(
        "go: 'int' object"
    )
    with pytest.raises(TypeError, match="not callable"):
        list(map(go, [x]))


def test_long_lines_are_not_repeated() -> None:
    told = message(lambda: go(scale(sum([111111111, 222222222, 333333333, 444444444, 555555555, 666666666]))))
    assert told.endswith("go(scale(...)) calls scale at once, and passes on its result; write go(scale, ...)")
