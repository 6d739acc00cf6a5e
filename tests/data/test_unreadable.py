"""Items and results that cannot be sent, or cannot be read where they arrive."""

from __future__ import annotations

import asyncio
import os
import pickle
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from goproc import Failure, PickleError, chan, flow, go, pfor, pmap
from goproc.futures import Executor
from goproc.sync import Atomic

np = pytest.importorskip("numpy", reason="NumPy is not installed")


class Unreadable:
    """Can be pickled, and not read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def name(x: Any) -> str:
    return type(x).__name__


@pytest.mark.parametrize("chunk", ["auto", 1, 4])
def test_an_item_that_the_worker_cannot_read_fails_alone(runtime2: Any, chunk: Any) -> None:
    items = [1, 2, Unreadable(), 4, 5, "x"]
    found = list(pmap(name, items, chunk=chunk, on_error="return"))
    failed = found.pop(2)
    assert found == ["int", "int", "int", "int", "str"]
    assert isinstance(failed, Failure) and failed.item is items[2] and failed.index == 2
    assert isinstance(failed.error, PickleError) and "cannot be read by the worker: ValueError" in str(
        failed.error
    )


def test_an_item_that_the_worker_cannot_read_is_counted_and_tried_again(runtime2: Any) -> None:
    m = pmap(name, [1, Unreadable(), 3], retries=2, retry_on=PickleError, on_error="skip", key=lambda x: 0)
    assert list(m) == ["int", "int"]
    assert (m.stats().done, m.stats().failed, m.stats().retried) == (2, 1, 2)


def test_an_item_that_the_worker_cannot_read_is_named(runtime2: Any) -> None:
    with pytest.raises(PickleError, match="cannot be read by the worker") as raised:
        pfor(name, [Unreadable()])
    assert any(note.startswith("item 0: ") for note in raised.value.__notes__)
    assert isinstance(raised.value.__cause__, ValueError)


HOST = os.getpid()


def made_elsewhere(x: int) -> Any:
    if os.getpid() == HOST:
        raise LookupError(f"{x} is not here")
    return Elsewhere(x)


class Elsewhere:
    """Can be read by workers, and not by the script."""

    def __init__(self, x: int) -> None:
        self.x = x

    def __reduce__(self) -> Any:
        return made_elsewhere, (self.x,)


class Interrupts:
    """Cannot be pickled: that raises what is no Exception."""

    def __reduce__(self) -> Any:
        raise KeyboardInterrupt("in __reduce__")


def every_third(x: int) -> Any:
    """Return what the script can read, but for items 0, 3, 6 and so on."""
    return {"x": [Elsewhere(x), np.zeros(5000)]} if x % 3 == 0 else (x, np.full(5000, x), chan(1))


def numbers(found: list[Any]) -> list[Any]:
    return [None if isinstance(value, Failure) else value[0] for value in found]


@pytest.mark.parametrize("chunk", ["auto", 1, 30])
@pytest.mark.parametrize("ordered", [True, False])
def test_a_result_that_this_process_cannot_read_fails_alone(runtime2: Any, chunk: Any, ordered: bool) -> None:
    calls = Atomic(0)

    def counted(x: int) -> Any:
        calls.add(1)
        return every_third(x)

    m = pmap(counted, range(99), chunk=chunk, ordered=ordered, on_error="return")
    found = list(m)
    failed = [value for value in found if isinstance(value, Failure)]
    if ordered:
        assert numbers(found) == [x if x % 3 else None for x in range(99)]
    assert sorted(x for x in numbers(found) if x is not None) == [x for x in range(99) if x % 3]
    assert sorted(failure.item for failure in failed) == list(range(0, 99, 3))
    for failure in failed:
        assert isinstance(failure.error, PickleError) and isinstance(failure.error.__cause__, LookupError)
        assert "cannot be read by the caller: LookupError" in str(failure.error)
        assert failure.attempts == 1 and failure.proc in (1, 2)
    assert calls.load() == 99
    assert (m.stats().done, m.stats().failed) == (66, 33)


def test_object_shared_by_unreadable_results_is_named_for_each(runtime2: Any) -> None:
    """Item 0 has a chunk of its own; the others come in one message, in which they are one object."""
    one: list[Any] = []

    def of(x: int) -> Any:
        one[:] = one or [[Elsewhere(x)]]
        return one if x % 2 else x

    found = list(pmap(of, range(40), chunk=20, workers=1, on_error="skip"))
    assert found == list(range(0, 40, 2))


def test_a_result_that_cannot_be_read_is_raised_and_named(runtime2: Any) -> None:
    for read in (False, True):
        m = pmap(Elsewhere, range(3), ahead=1)
        if read:
            threading.Timer(0.01, m.stats).start()  # whoever receives it, next() raises it
        with pytest.raises(
            PickleError, match="the result cannot be read by the caller: LookupError"
        ) as raised:
            next(m)
        assert raised.value.__notes__[-1] == "item 0: 0"
        assert list(m) == []


def test_a_result_that_cannot_be_read_is_tried_again_and_goes_to_the_dead_letters(runtime2: Any) -> None:
    letters = chan(10)
    m = pmap(every_third, range(1, 5), retries=2, retry_on=PickleError, on_error=letters)
    assert numbers(list(m)) == [1, 2, 4]
    assert letters.try_recv()[0].attempts == 3
    assert (m.stats().failed, m.stats().retried) == (1, 2)


def test_a_result_that_cannot_be_read_in_an_async_for(runtime2: Any) -> None:
    async def collected() -> list[Any]:
        return [value async for value in pmap(every_third, range(4), on_error="return")]

    assert numbers(asyncio.run(collected())) == [None, 1, 2, None]


def test_a_result_whose_pickling_raises_a_base_exception_fails_alone(runtime2: Any) -> None:
    found = list(pmap(lambda x: Interrupts() if x == 2 else x, range(5), on_error="return", chunk=5))
    failed = found.pop(2)
    assert found == [0, 1, 3, 4]
    assert isinstance(failed.error, PickleError)
    assert str(failed.error) == "cannot pickle the result: KeyboardInterrupt: in __reduce__"


@pytest.mark.parametrize(
    "stages",
    [
        lambda f: f.map(lambda x: Interrupts() if x == 2 else x),
        lambda f: f.map(lambda x: Interrupts() if x == 2 else x, 2),
        lambda f: f.map(lambda x: Interrupts() if x == 2 else x, 2, ordered=False).map(name),
        lambda f: f.flat_map(lambda x: [Interrupts() if x == 2 else x], 2).batch(2),
    ],
)
def test_a_flow_does_not_lose_a_result_whose_pickling_raises_a_base_exception(
    runtime2: Any, stages: Any
) -> None:
    with pytest.raises(RuntimeError, match="the function of the stage raised KeyboardInterrupt") as raised:
        list(stages(flow(range(8))))
    assert raised.value.__notes__[-1] == "in the stage '<lambda>' of the flow"


@pytest.mark.parametrize("method", ["map", "flat_map"])
def test_a_result_of_a_stage_that_cannot_be_read_fails_alone(runtime2: Any, method: str) -> None:
    def of(x: int) -> Any:
        return every_third(x) if method == "map" else [every_third(x)]

    found = list(getattr(flow(range(7)), method)(of, 2, on_error="return"))
    assert numbers(found) == [None, 1, 2, None, 4, 5, None]


def test_results_that_a_checkpoint_cannot_hold_fail_alone(runtime2: Any, tmp_path: Any) -> None:
    def of(x: int) -> Any:
        return [1, chan(1), Elsewhere(x), x][x % 4]

    for _ in range(2):
        m = pmap(of, range(12), checkpoint=tmp_path / "job.db", on_error="return", chunk=6)
        found = list(m)
        errors = [str(value.error) if isinstance(value, Failure) else value for value in found]
        for at in range(0, 12, 4):
            assert errors[at : at + 4 : 3] == [1, at + 3]
            assert errors[at + 1].startswith("the result cannot be recorded in the checkpoint: TypeError")
            assert errors[at + 2].startswith("the result cannot be read by the caller: LookupError")
        assert (m.stats().done, m.stats().failed) == (6, 6)


def test_a_recorded_result_that_cannot_be_read_is_a_failure_and_stays(runtime2: Any, tmp_path: Any) -> None:
    path = str(tmp_path / "job.db")
    assert list(pmap(abs, range(3), checkpoint=path)) == [0, 1, 2]
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE item SET result = ? WHERE result = ?", (b"no pickle", pickle.dumps(1, 5)))
    for _ in range(2):
        zero, failed, two = pmap(abs, range(3), checkpoint=path, on_error="return")
        assert (zero, two) == (0, 2)
        assert failed.attempts == 0 and failed.item == 1
        assert f"the result in checkpoint {path!r} cannot be read by this program" in str(failed.error)
    again = pmap(abs, range(3), checkpoint=path, retries=1, retry_on=PickleError)
    assert list(again) == [0, 1, 2]
    assert list(pmap(abs, range(3), checkpoint=path)) == [0, 1, 2]


def test_a_result_of_an_executor_is_named_by_its_path(runtime2: Any) -> None:
    def locked() -> Any:
        return {"x": [threading.Lock()]}

    with (
        Executor(1) as executor,
        pytest.raises(PickleError, match=r"the result of .*locked -> \['x'\] -> \[0\] -> _thr"),
    ):
        executor.submit(locked).result(20)


# -- flows, checkpoints ----------------------------------------------------------------------------------------------


LOCK = threading.Lock()


@pytest.mark.parametrize(
    "stages",
    [
        lambda f: f.map(lambda x: [threading.Lock()]),
        lambda f: f.map(lambda x: [threading.Lock()], 2),
        lambda f: f.map(lambda x: [threading.Lock()], 2, ordered=False).map(name),
        lambda f: f.flat_map(lambda x: [[threading.Lock()]]),
    ],
)
def test_a_result_of_a_flow_that_cannot_be_sent_is_named(runtime2: Any, stages: Any) -> None:
    with pytest.raises(PickleError, match=r"cannot pickle the result -> \[0\] -> _thread.lock") as raised:
        list(stages(flow([7, 7, 7])))
    assert raised.value.__notes__[-1].startswith("in the stage '<lambda>' of the flow")


def test_a_result_that_waits_for_its_turn_and_cannot_be_sent_is_named(runtime2: Any, tmp_path: Path) -> None:
    tried = tmp_path / "tried"

    class Refuses:
        def __reduce__(self) -> Any:
            tried.touch()
            raise TypeError("no")

    def first_waits(x: int) -> Any:
        while x == 1 and not tried.exists():
            time.sleep(0.001)
        return x if x == 1 else [Refuses()]

    with pytest.raises(
        PickleError, match=r"cannot pickle the result -> \[0\] -> .*Refuses: TypeError: no"
    ) as raised:
        list(flow([1, 2]).map(first_waits, 2))
    assert raised.value.__notes__[-1] == "in the stage 'first_waits' of the flow"


def test_a_result_of_a_flow_that_cannot_be_sent_is_told_with_its_item(runtime2: Any) -> None:
    with pytest.raises(PickleError) as raised:
        flow([7]).map(lambda x: threading.Lock()).map(name).run()
    assert raised.value.__notes__[-1] == "in the stage '<lambda>' of the flow, item 7"


def test_a_function_of_a_flow_that_cannot_be_sent_is_named(runtime2: Any) -> None:
    with pytest.raises(
        PickleError, match=r"cannot pickle <lambda> -> global 'LOCK' -> _thread.lock"
    ) as raised:
        list(flow([7]).map(name).map(lambda x: LOCK))
    assert raised.value.__notes__[-1] == "in the stage '<lambda>' of the flow"


def test_an_item_of_a_flow_that_cannot_be_sent_is_named(runtime2: Any) -> None:
    with pytest.raises(PickleError, match=r"cannot pickle item 1 of the source -> \['x'\] -> _thread.lock"):
        list(flow([1, {"x": LOCK}]).map(name))


def double(x: int) -> int:
    return 2 * x


def test_a_damaged_checkpoint_is_named(runtime2: Any, tmp_path: Any) -> None:
    path = tmp_path / "job.db"
    list(pmap(double, range(1000), checkpoint=path))
    with open(path, "r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 8192)
    with pytest.raises(ValueError, match=r"checkpoint '.*job.db' is damaged"):
        list(pmap(double, range(1000), checkpoint=path))


# -- the source of a flow whose first stage goes on


class ReadOnce:
    """Can be sent once: the copy cannot be pickled."""

    def __init__(self, sent: bool = False) -> None:
        self.sent = sent

    def __reduce__(self) -> Any:
        if self.sent:
            raise TypeError("sent before")
        return ReadOnce, (True,)


SHAPES: dict[str, Any] = {
    "map": lambda f, end: f.map(name, on_error=end),
    "two workers": lambda f, end: f.map(name, 2, on_error=end),
    "unordered": lambda f, end: f.map(name, 2, on_error=end, ordered=False),
    "threads": lambda f, end: f.map(name, threads=2, on_error=end),
    "behind others": lambda f, end: f.skip(1).throttle(1e6).map(name, on_error=end),
    "merged": lambda f, end: f.merge(flow([])).map(name, on_error=end),
    "by retries": lambda f, end: f.map(name, on_error=end, retries=1, retry_on=PickleError),
    "an edge of no places": lambda f, end: flow(f._iterable, 0).map(name, on_error=end),
}


@pytest.mark.parametrize("threaded", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_an_item_of_a_source_that_cannot_be_sent_is_a_failure_of_the_first_stage(
    runtime2: Any, shape: str, threaded: bool
) -> None:
    source = [0, 1, {"x": LOCK}, Unreadable(), "x", [5]]

    def check() -> None:
        expected = sorted(["int"] * (1 if shape == "behind others" else 2) + ["list", "str"])
        assert sorted(SHAPES[shape](flow(source), "skip")) == expected
        found = list(SHAPES[shape](flow(source), "return"))
        assert sorted(value for value in found if isinstance(value, str)) == expected
        failed = sorted((value for value in found if isinstance(value, Failure)), key=lambda f: f.index)
        assert failed[0].item is source[2] and failed[1].item is source[3]
        assert "cannot pickle the item -> ['x'] -> _thread.lock" in str(failed[0].error)
        assert "the item cannot be read by the worker: ValueError" in str(failed[1].error)
        stages = SHAPES[shape](flow(source), "skip").run()
        assert stages[-1].failed == 2 and stages[-1].out == len(expected)

    if not threaded:
        check()
        return
    raised: list[BaseException] = []

    def body() -> None:
        try:
            check()
        except BaseException as exc:
            raised.append(exc)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert not raised, raised


def test_dead_letters_of_items_that_cannot_be_sent(runtime2: Any) -> None:
    """The channel gets a copy of the Failure: the item in it is a text."""
    source = [1, LOCK, Unreadable()]
    for shape in (
        lambda letters: pmap(name, source, on_error=letters),
        lambda letters: flow(source).map(name, on_error=letters),
    ):
        letters = chan(3)
        assert list(shape(letters)) == ["int"]
        items = [letters.recv().item for _ in range(2)]
        assert items[0] == repr(LOCK) and items[1].startswith("<") and "Unreadable object" in items[1]


def test_the_next_stage_gets_the_failure_of_an_item_that_cannot_be_sent(runtime2: Any) -> None:
    first = flow([LOCK, Unreadable(), 3]).map(name, on_error="return")
    assert list(first.map(name)) == ["Failure", "Failure", "str"]
    (batch,) = first.batch(3)
    assert [type(value) for value in batch] == [Failure, Failure, str] and batch[0].item == repr(LOCK)
    (batch,) = first.batch(3, within=60)
    assert [type(value) for value in batch] == [Failure, Failure, str]


def test_a_result_that_cannot_be_sent_on_is_a_failure_of_the_next_stage(runtime2: Any) -> None:
    once = flow(range(2)).map(lambda x: ReadOnce() if x else x, on_error="skip")
    assert [type(value) for value in once] == [int, ReadOnce]
    found = list(once.map(name, on_error="return"))
    assert found[0] == "int" and "cannot pickle the item" in str(found[1].error)
    with pytest.raises(PickleError, match="cannot pickle the item") as raised:
        once.map(name).run()
    assert raised.value.__notes__[-1] == "in the stage 'name' of the flow"


def test_a_source_may_change_an_item_after_its_yield(runtime2: Any) -> None:
    """A stage with options takes an item as it was yielded, as one without options does."""

    def source() -> Any:
        row = [0]
        for number in range(20):
            row[0] = number
            yield row

    assert list(flow(source()).map(lambda row: row[0], 2, on_error="skip")) == list(range(20))


# -- items of a flow that cannot be sent or read -----------------------------------------------------------------


@pytest.mark.parametrize(
    "stages",
    [
        lambda f: f.map(name),
        lambda f: f.map(name, 2),
        lambda f: f.map(name, 2, ordered=False).batch(2),
        lambda f: f.flat_map(lambda x: [name(x)]),
        lambda f: f.filter(bool).map(name),
        lambda f: f.map(name, timeout=20),
        lambda f: f.each(name, 2),
    ],
)
def test_an_item_that_a_stage_cannot_read_is_its_failure(runtime2: Any, stages: Any) -> None:
    with pytest.raises(PickleError, match="the item cannot be read by the worker: ValueError") as raised:
        list(stages(flow([1, 2, Unreadable(), 4])))
    assert isinstance(raised.value.__cause__, ValueError)
    assert raised.value.__notes__[-1].startswith("in the stage '")


@pytest.mark.parametrize(
    "stages, what",
    [
        (lambda f: f.map(every_third), "the result"),
        (lambda f: f.map(every_third, 2), "the result"),
        (lambda f: f.map(every_third).batch(2), "the item"),
        (lambda f: f.map(every_third).batch(2, within=60.0), "the item"),
        (lambda f: f.map(every_third).skip(1).map(name, 0), "the item"),
        (lambda f: f.map(every_third).map(name, timeout=60), "the item"),
        (lambda f: f.map(every_third).merge(), "the item"),
    ],
)
def test_a_value_of_a_stage_that_the_script_cannot_read_is_named(
    runtime2: Any, stages: Any, what: str
) -> None:
    with pytest.raises(
        PickleError, match=rf"{what} -> \['x'\] -> \[0\] cannot be read by the (caller|worker): LookupError"
    ) as raised:
        list(stages(flow([1, 2, 3, 4])))
    assert isinstance(raised.value.__cause__, LookupError)
    assert raised.value.__notes__[-1].startswith("in the stage '")


def second_before_first(i: int) -> Any:
    """The first call takes long, so the result of the second waits for its turn."""
    if i == 1:
        time.sleep(0.2)
    return every_third(3) if i == 2 else i


def test_a_result_that_waited_for_its_turn_is_named_like_others(runtime2: Any) -> None:
    with pytest.raises(
        PickleError, match=r"the result -> \['x'\] -> \[0\] cannot be read by the worker: LookupError"
    ):
        list(flow([1, 2, 3, 4]).map(second_before_first, 2))


BAD = {"x": LOCK}


def branches(source: Any, *stages: Any) -> list[list[Any]]:
    """Return what the branches of a tee() give, each with a stage."""
    flows = [stage(branch) for branch, stage in zip(flow(source).tee(len(stages)), stages, strict=True)]
    handles = [go.local(list, branch) for branch in flows]
    return [handle.result(20) for handle in handles]


@pytest.mark.parametrize("bad", [BAD, Unreadable()])
def test_each_branch_of_a_tee_decides_about_an_item(runtime2: Any, bad: Any) -> None:
    letters = chan(5)
    returned, left, sent, own = branches(
        [1, bad, 3],
        lambda f: f.map(name, on_error="return"),
        lambda f: f.map(name, 2, on_error="skip"),
        lambda f: f.map(name, retries=2, retry_on=PickleError, key=lambda x: 0, on_error=letters),
        lambda f: f.take(1),
    )
    failed = returned.pop(1)
    assert returned == left == sent == ["int", "int"] and own == [1]
    for failure in (failed, letters.recv()):
        assert (failure.index, failure.attempts) == (1, 0) and isinstance(failure.error, PickleError)
    if bad is BAD:
        assert "cannot pickle item 1 of the source -> ['x'] -> _thread.lock" in str(failed.error)
        assert failed.item.startswith("{'x': <unlocked _thread.lock")
    else:
        assert str(failed.error).startswith("the item cannot be read by the caller: ValueError")
        assert failed.item == "<an item that cannot be read>"


@pytest.mark.parametrize(
    "stage", [lambda f: f.map(name), lambda f: f, lambda f: f.batch(1), lambda f: f.map(name, 0)]
)
def test_a_branch_of_a_tee_without_options_fails_alone(runtime2: Any, stage: Any) -> None:
    alone, others = flow([1, BAD, 3]).tee()
    rest = go.local(list, others.map(name, on_error="skip"))
    with pytest.raises(PickleError, match=r"cannot pickle item 1 of the source -> \['x'\] -> _thread.lock"):
        list(stage(alone))
    assert rest.result(20) == ["int", "int"]


def test_items_that_nobody_can_read_are_dropped_at_the_end(runtime2: Any) -> None:
    gate = chan()

    def wait(x: int) -> Any:
        gate.recv()
        return x

    items = iter(flow([1, *[Unreadable() for _ in range(20)]], buffer=10).map(wait).take(1))
    go.local(gate.send, None)
    assert next(items) == 1
    gate.close()
    assert list(items) == []
