"""Large objects that do not change are copied once, given by reference and read once per process; and `share`."""

from __future__ import annotations

import gc
import os
import sys
from collections import OrderedDict, defaultdict
from typing import Any

import numpy
import pytest
from peek import until

import goproc
from goproc import CopiedAgain, OutOfSharedMemory, PickleError, RuntimeStopped, chan, go, share
from goproc._pickling import carried, copies
from goproc.shm import _core

MANY = 100_000
loads = 0


def table() -> dict[str, int]:
    return {f"word{i}": i for i in range(MANY)}


@pytest.fixture(autouse=True)
def forgotten(request: pytest.FixtureRequest) -> Any:
    yield
    carried.entries.clear()


def labels() -> list[str]:
    return sorted([entry.label for entry in carried.entries.values()])


def function_over(text: str, **names: Any) -> Any:
    """Return the function `f` of a script that holds these globals."""
    namespace = {"__name__": "__main__", **names}
    exec(text, namespace)
    return namespace["f"]


class Holder:
    def __init__(self, table: Any) -> None:
        self.table = table
        self.name = "small"

    def get(self, key: str) -> Any:
        return self.table[key]


def load(data: bytes) -> Counted:
    global loads
    loads += 1
    return Counted(data)


class Counted:
    """Counts how often it is read."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return load, (self.data,)


def count_loads(_: Any = None) -> int:
    return loads


# -- what gets a copy ----------------------------------------------------------------------------------------


def test_a_global(runtime1):
    f = function_over("def f(key): return TABLE[key]", TABLE=table())
    assert [go(f, f"word{i}").result() for i in range(3)] == [0, 1, 2]
    assert labels() == ["global TABLE"]


@pytest.mark.parametrize("kind", [goproc.Group, goproc.WaitGroup])
def test_a_global_of_members(runtime1, kind):
    f = function_over("def f(key): return TABLE[key]", TABLE=table())
    group = kind()
    for i in range(3):
        group.go(f, f"word{i}")
    group.wait()
    assert labels() == ["global TABLE"]


def test_a_closure_variable(runtime1):
    words = table()
    assert [go(lambda: words["word5"]).result() for _ in range(2)] == [5, 5]
    assert labels() == ["closure variable words"]


def test_a_default(runtime1):
    words = table()

    def f(key: str, words: Any = words, *, again: Any = words) -> Any:
        assert words is again
        return words[key]

    assert [go(f, "word5").result() for _ in range(2)] == [5, 5]
    assert labels() == ["default of words"]


def test_an_attribute_of_a_methods_object(runtime1):
    holder = Holder(table())
    assert go(holder.get, "word5").result() == 5
    holder.name = "changed"
    assert go(lambda: holder.name).result() == "changed"
    assert labels() == ["self.table"]


def test_an_argument_is_copied_the_second_time(runtime1):
    words = table()
    for _ in range(3):
        assert go(dict.get, words, "word5").result() == 5
    assert labels() == ["argument 1"]


def test_a_message_is_copied_the_second_time(runtime1):
    words, ch = table(), chan(3)
    for _ in range(3):
        ch.send(words)
    assert labels() == ["a message"]
    assert go(lambda: [len(ch.recv()) for _ in range(3)]).result() == [MANY] * 3


def test_bytes_and_str(runtime1):
    text, data = "x" * 2_000_000, b"y" * 2_000_000
    for _ in range(2):
        assert go(lambda: (len(text), len(data))).result() == (2_000_000, 2_000_000)
    assert labels() == ["closure variable data", "closure variable text"]


def test_a_global_of_a_method(runtime1):
    make = function_over(
        "class C:\n    def get(self, key): return TABLE[key]\ndef f(): return C()", TABLE=table()
    )
    assert [go(make().get, "word5").result() for _ in range(2)] == [5, 5]
    assert labels() == ["global TABLE"]


def test_nothing_small(runtime1):
    few = {str(i): [i] for i in range(100)}
    for _ in range(3):
        assert go(lambda: few["5"].append(1) or few["5"]).result() == [5, 1]
    assert not carried.entries


def test_nothing_with_a_channel_in_it(runtime1):
    ch: Any = chan(8)
    mixed = [ch, list(range(300_000, 700_000))]
    for _ in range(2):
        go(lambda: mixed[0].send(len(mixed[1]))).result()
    assert [ch.recv(), ch.recv()] == [400_000, 400_000]


def test_the_object_and_its_name_are_one(runtime1):
    words = table()
    f = function_over("def f(a, b): return a is b and a is TABLE", TABLE=words)
    assert go(f, words, words).result()
    assert go(f, words, words).result()


def test_globals_that_share_something(runtime1):
    people = [Holder([i]) for i in range(60_000)]
    by_number = {person.table[0]: person for person in people}
    f = function_over("def f(): return B[5] is A[5], A[5].name, B[5].table", A=people, B=by_number)
    for _ in range(2):
        assert go(f).result() == (True, "small", [5])
    people[5].name = "other"
    assert go(f).result() == (True, "other", [5])
    by_number[5] = Holder([])
    assert go(f).result() == (False, "other", [])


# -- once ----------------------------------------------------------------------------------------------------


def test_read_once_per_process(runtime2):
    model = Counted(b"x" * 2_000_000)
    before = [go.on(p)(count_loads).result() for p in (1, 2)]
    for p in (1, 2) * 3:
        go.on(p)(lambda: len(model.data)).result()
    assert [go.on(p)(count_loads).result() for p in (1, 2)] == [n + 1 for n in before]


def test_an_array_is_in_shared_memory_once(runtime1):
    numbers = numpy.arange(1_000_000.0)
    before = _core.census()["bytes"]
    gs = [go(lambda i: float(numbers[i]), i) for i in range(50)]
    assert [g.result() for g in gs] == [float(i) for i in range(50)]
    assert _core.census()["bytes"] - before < 2 * numbers.nbytes


class Batch:
    """A callable object that is made for one call, and has a pickle of its own."""

    def __init__(self, numbers: Any, index: int) -> None:
        self.items = [(numbers, index)]

    def __reduce__(self) -> Any:
        return Batch, self.items[0]

    def __call__(self) -> float:
        numbers, index = self.items[0]
        return float(numbers[index].sum())


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("way", ["callable", "argument", "message"])
def test_an_array_in_new_objects_is_copied_once(runtime1, way, order):
    """The objects of the calls are new, as joblib's batches are. The array in them is the same one."""
    numbers = numpy.asarray(numpy.arange(2_000_000.0).reshape(1000, 2000), order=order)
    back: Any = chan(1)

    def call(i: int) -> float:
        batch = Batch(numbers, i)
        if way == "callable":
            return float(go(batch).result())
        if way == "argument":
            return float(go(lambda batch: batch(), batch).result())
        back.send([batch])
        return float(back.recv()[0]())

    assert [call(i) for i in range(6)] == [float(numbers[i].sum()) for i in range(6)]
    assert labels() == ["an array"]
    numbers[3, 0] = -1e9
    assert call(3) == float(numbers[3].sum())


def test_new_arrays_in_new_objects_get_no_copies(runtime1):
    for i in range(4):
        numbers = numpy.full(1_500_000, float(i))
        assert go(Batch(numbers, 5)).result() == i
        del numbers
    assert labels() == []


NEW = {
    "tuple": lambda n: (0, [list(range(n, n + 400_000))], 0.5 + n, 1.5 + n, 2.5 + n),
    "dict": lambda n: {f"word{i}": float(n + i) for i in range(MANY)},
    "bytes": lambda n: bytes([n]) * 2_000_000,
    "str": lambda n: chr(60 + n) * 2_000_000,
}


@pytest.mark.parametrize("kind", NEW)
def test_new_objects_at_the_address_of_an_old_one_get_no_copies(runtime1, kind):
    ch: Any = chan(1)
    for n in range(12):
        ch.send(NEW[kind](n))
        ch.recv()
        assert labels() == []


SAME = {
    "tuple": lambda: (1, "word", [float(i) for i in range(200_000)], 0.5),
    "dict": lambda: {1: {"a": [float(i) for i in range(200_000)]}},
    "rows": lambda: [[float(i), [i]] for i in range(MANY)],
    "defaultdict": lambda: defaultdict(int, table()),
}


@pytest.mark.parametrize("kind", SAME)
def test_the_same_object_is_known_again(runtime1, kind):
    message, ch = SAME[kind](), chan(2)
    for _ in range(2):
        assert labels() == []
        ch.send(message)
    assert labels() != []
    assert go(lambda: [len(ch.recv()) for _ in range(2)]).result() == [len(message)] * 2


def test_writes_of_a_goroutine_are_its_own(runtime1):
    numbers = numpy.zeros(1_000_000)

    def write() -> tuple[float, bool]:
        seen = float(numbers.sum())
        numbers[:] = 7
        return seen, bool(numbers.flags.writeable)

    assert [go(write).result() for _ in range(3)] == [(0.0, True)] * 3
    assert numbers.sum() == 0


def test_an_array_is_sent_on_by_reference(runtime2):
    numbers = numpy.arange(1_000_000.0)
    back: Any = chan(4)

    def pass_on(numbers: Any) -> None:
        back.send(numbers)

    before = _core.census()["bytes"]
    for _ in range(3):
        go.on(1)(pass_on, numbers).result()
    assert sum(float(back.recv()[5]) for _ in range(3)) == 15.0
    assert _core.census()["bytes"] - before < 4 * numbers.nbytes


def test_a_change_is_seen(runtime1):
    words, numbers = table(), numpy.zeros(500_000)

    def look() -> Any:
        return words["word1"], float(numbers[3])

    assert go(look).result() == (1, 0.0)
    words["word1"] = True
    numbers[3] = 5
    assert go(look).result() == (True, 5.0)
    assert type(go(look).result()[0]) is bool


def use_both() -> None:
    words, numbers = table(), numpy.zeros(500_000)
    assert go(lambda: len(words) + len(numbers)).result() == MANY + 500_000
    assert len(carried.entries) == 2


def test_freed_with_the_object(runtime1):
    before = _core.census()
    use_both()
    gc.collect()
    carried.entries.sweep()
    go.on(1)(gc.collect).result()
    until(lambda: (_core.collect(), _core.census()["bytes"])[1] <= before["bytes"] + 100_000)


# -- what is said --------------------------------------------------------------------------------------------


def test_a_copy_that_its_maker_has_let_go_is_not_kept(runtime1):
    """Messages with it are still on their way."""
    ch: Any = chan(3)

    def send() -> int:
        words = [float(i) for i in range(200_000)]
        for _ in range(3):
            ch.send(words)
        return len(sys.modules["goproc._pickling.carried"].entries)

    assert go(send).result() == 1
    go(gc.collect).join()
    assert [sum(ch.recv()) for _ in range(3)] == [sum(range(200_000))] * 3
    assert not copies.kept


def test_a_warning_names_a_global_that_is_copied_again_and_again(runtime1):
    words = table()
    f = function_over("def f(): return len(TABLE)", TABLE=words)
    with pytest.warns(CopiedAgain) as found:
        for i in range(8):
            words["last"] = i
            go(f).result()
    (warning,) = found
    assert str(warning.message).startswith("go(f): global TABLE (")
    assert str(warning.message).endswith(" MB) changed since the last go and was copied again")
    assert warning.filename == __file__


def test_a_warning_names_the_writer(run):
    done = run(
        """
        from goproc import go
        TABLE = {f"word{i}": i for i in range(100_000)}
        def spoil():
            TABLE["word1"] = -1
        def look():
            return TABLE["word1"]
        for _ in range(3):
            go.on(1)(spoil).result()
            print(go.on(1)(look).result())
        """
    )
    assert done.out.split() == ["1", "1", "1"]
    assert done.err.count("SharedWrite: spoil wrote to global TABLE of spoil") == 1
    assert "def spoil():" in done.err


# -- share ---------------------------------------------------------------------------------------------------


def test_share(runtime2):
    words, numbers = {"a": [1]}, numpy.arange(100_000)
    shared = share((words, numbers))

    def look() -> Any:
        value = shared.value
        return value is shared.value, value[0], value[1].flags.writeable, int(value[1][-1])

    words["a"].append(2)
    numbers[-1] = 0
    for p in (1, 2):
        assert go.on(p)(look).result() == (True, {"a": [1]}, False, 99_999)
    assert shared.value is shared.value
    assert shared.value[0] == {"a": [1]}


def test_share_is_read_once_per_process(runtime1):
    shared = share(Counted(b"x" * 100))
    before = go.on(1)(count_loads).result()

    def look(n: int) -> int:
        assert shared.value.data == b"x" * 100
        return count_loads()

    gate = chan()
    keep = go.on(1)(lambda: [shared, gate.recv_ok()])
    assert [go.on(1)(look, i).result() for i in range(3)] == [before + 1] * 3
    gate.close()
    keep.join()


def test_share_holds_channels(runtime1):
    shared = share([chan(1)])
    go(lambda: shared.value[0].send(5)).result()
    assert shared.value[0].recv() == 5


@pytest.mark.parametrize("value", [None, 5, "text", b"x" * 100_000, (1, [2])])
def test_share_of_anything(runtime1, value):
    shared = share(value)
    assert shared.value == value
    assert go(lambda: shared.value).result() == value
    assert "Shared" in repr(shared)


def test_share_of_an_object_that_cannot_be_pickled(runtime1):
    path = r"cannot pickle the argument of share\(\) -> \['a'\] -> generator: .*\n.*pass the values as a list"
    with pytest.raises(PickleError, match=path):
        share({"a": (i for i in ())})


def test_share_of_too_much():
    with goproc.runtime(procs=1, memory="16M"), pytest.raises(OutOfSharedMemory):
        share(bytes(64 << 20))


def test_share_after_the_end():
    with goproc.runtime(procs=1):
        shared = share([1])
        read = share([2])
        assert read.value == [2]
    assert read.value == [2]
    with pytest.raises(RuntimeStopped):
        print(shared.value)


def test_the_guard_refuses_objects_of_unknown_types():
    assert copies.guard_of([1, "a", (2.0, {3}), defaultdict(list, a=[1]), Holder([1])]) is not None
    for value in (object(), sys.exit, defaultdict(lambda: 1), Counted(b""), OrderedDict(), Exception(), sys):
        assert copies.guard_of([value]) is None


def test_the_guard_sees_an_attribute(runtime1):
    holders = [Holder([i]) for i in range(60_000)]
    f = function_over("def f(): return [len(h.table) for h in HOLDERS[:2]], HOLDERS[0].name", HOLDERS=holders)
    assert go(f).result() == ([1, 1], "small")
    assert type(carried.entries[id(holders)].check) is _core.Guard
    holders[0].name = "other"
    assert go(f).result() == ([1, 1], "other")
    holders[1].table.append(5)
    assert go(f).result() == ([1, 2], "other")
    holders[1].__dict__ = {"table": []}
    assert go(f).result() == ([1, 0], "other")
    holders[0] = holders[1]
    holders[0].name = "same"
    assert go(f).result() == ([0, 0], "same")


def test_a_class_is_as_of_the_go_line(run):
    done = run(
        """
        from goproc import go
        class Point:
            factor = 1
            def __init__(self, x): self.x = x
            def scaled(self): return self.x * self.factor * SCALE
        SCALE = 1
        POINTS = [Point(i) for i in range(80_000)]
        def f(i): return POINTS[i].scaled()
        print(go.on(1)(f, 7).result(), go.on(1)(f, 7).result())
        Point.factor = 10
        print(go.on(1)(f, 7).result())
        SCALE = 100
        print(go.on(1)(f, 7).result())
        """
    )
    assert (done.out.split(), done.err) == (["7", "7", "70", "7000"], "")


# -- memory --------------------------------------------------------------------------------------------------


def ones(n: int) -> Any:
    return numpy.ones(n, "u1")


def test_memory_freed_by_one_process_serves_another():
    with goproc.runtime(procs=2, memory="64M"):
        for p in (1, 2, 1):
            result = go.on(p)(ones, 40 << 20).result()
            assert result[-1] == 1
            del result
            gc.collect()


def wait_for(ch: Any, data: bytes) -> int:
    return ch.recv() + len(data)


def test_lack_of_memory_names_the_argument_that_fills_it(tmp_path):
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with goproc.runtime(procs=1, memory="64M"):
        holder = go.on(1)(gate.read_bytes)  # meanwhile the worker begins, and so frees, nothing
        until(lambda: holder.state == "running")
        ch: Any = chan(8)
        numbers = numpy.zeros(4 << 20, "u1")
        gs = []
        with pytest.raises(OutOfSharedMemory) as failure:
            for i in range(30):
                gs.append(go(wait_for, ch, (numbers + i).tobytes()))
        text = str(failure.value)
        assert text.startswith("argument 2 of wait_for: bytes, 4 MB, in ")
        assert "calls; share it" in text
        assert "--memory" in text
        gate.write_bytes(b"open")
        assert holder.result() == b"open"
        for g in gs:
            ch.send(1)
            assert g.result() > 0


# -- mapped files --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", [slice(None), slice(100, 200)])
@pytest.mark.parametrize("mode", ["r", "r+", "c"])
def test_a_mapped_file(runtime1, tmp_path, mode, part):
    path = tmp_path / "numbers"
    numpy.arange(400_000.0).tofile(path)
    mapped = numpy.memmap(path, dtype=float, mode=mode, offset=80)[part]
    before = _core.census()["bytes"]
    gs = [go(lambda: (type(mapped).__name__, float(mapped[3]), mapped.shape)) for _ in range(5)]
    during = _core.census()["bytes"]
    seen = {g.result() for g in gs}
    assert seen == {("memmap", float(mapped[3]), mapped.shape)} or mode == "c"
    assert mode == "c" or during - before < 1_000_000


def test_a_mapped_file_is_shared(runtime1, tmp_path):
    path = tmp_path / "numbers"
    mapped = numpy.memmap(path, dtype="i8", mode="w+", shape=(1000, 10))

    def write() -> None:
        mapped[5, 5] = 7

    go(write).result()
    assert mapped[5, 5] == 7


def test_a_mapped_file_that_is_gone(runtime1, tmp_path):
    path = tmp_path / "numbers"
    numpy.arange(1000).tofile(path)
    mapped = numpy.memmap(path, dtype=int, mode="r")
    path.unlink()
    numpy.zeros(1000, int).tofile(path)  # another file of that name
    assert go(lambda: int(mapped[999])).result() == 999
