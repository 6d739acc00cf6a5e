"""shared_array(): an array in shared memory that all processes may write."""

from __future__ import annotations

import copy
import gc
import subprocess
import sys

import numpy as np
import pytest
from programs import Run, ok

from goproc import chan, errors, go, shared_array

pytestmark = pytest.mark.usefixtures("runtime2")


@pytest.mark.parametrize("shape", [10, (3,), (100, 200), (), (0, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [float, "i2", bool, "S5", [("x", "f4"), ("n", "i8")]])
def test_shape_type_and_zeros(shape: object, dtype: object) -> None:
    made, zeros = shared_array(shape, dtype), np.zeros(shape, dtype)  # type: ignore[arg-type]
    assert (made.shape, made.dtype) == (zeros.shape, zeros.dtype)
    assert np.array_equal(made, zeros) and made.flags.writeable and made.flags.c_contiguous


@pytest.mark.parametrize("size", [4, 100_000])
def test_all_processes_write_the_same_memory(size: int) -> None:
    array = shared_array(size, int)

    def fill(proc: int) -> int:
        array[proc] = proc + 1
        return int(array.sum())

    assert [go.on(p)(fill, p).result() for p in (0, 1, 2)] == [1, 3, 6]
    assert list(array[:4]) == [1, 2, 3, 0]


def test_slices_stay_the_same_memory() -> None:
    array = shared_array((100, 50), "f4")

    def write(part: np.ndarray) -> str:
        part += 1
        return type(part).__name__

    parts = [array[10:20], array[:, ::5], array[::-1, 3], array.T[4:6], array[7, 8:9]]
    expected = np.zeros((100, 50), "f4")
    for part in parts:
        assert go(write, part).result() == "SharedArray"
    for part in (expected[10:20], expected[:, ::5], expected[::-1, 3], expected.T[4:6], expected[7, 8:9]):
        part += 1
    assert np.array_equal(array, expected)


def test_over_a_channel_and_back() -> None:
    array = shared_array(5)
    ch = chan(1)
    ch.send({"a": array, "part": array[1:3]})

    def receive() -> object:
        found = ch.recv()
        found["a"][0] = 7
        found["part"][0] = 8
        return found["part"]

    back = go.on(2)(receive).result()
    assert list(array) == [7, 8, 0, 0, 0]
    back[1] = 9
    assert array[2] == 9


def test_copies_and_results_are_arrays_of_their_own() -> None:
    array = shared_array(1000)
    for made in (array + 1, np.sqrt(array), array.copy(), copy.deepcopy(array), np.array(array)):
        assert type(made) is np.ndarray
    assert type(array.sum()) is np.float64 and type(array[3]) is np.float64
    array += 2
    assert type(array) is type(shared_array(1)) and array[5] == 2
    assert go(lambda: type(array.astype(int))(2) is not None).result()
    sent = go(lambda a: a, array.astype("i4")).result()
    sent[:] = 5
    assert array[0] == 2


def test_the_memory_is_given_back() -> None:
    """More than memory allows, one after the other."""
    for _ in range(20):
        array = shared_array(1 << 26, "u1")
        array[-1] = 1
        assert go(lambda a: int(a[-1]), array).result() == 1
        del array
        gc.collect()


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="Python objects cannot be shared"):
        shared_array(3, object)
    for shape in ("10", (2, "3"), 1.5, [None]):
        with pytest.raises(TypeError, match=r"the shape is a whole number, or a tuple of them"):
            shared_array(shape)
    with pytest.raises(ValueError, match="negative dimensions"):
        shared_array((2, -1))
    with pytest.raises(errors.OutOfSharedMemory):
        shared_array(1 << 50)
    with pytest.raises(TypeError):
        shared_array("3")  # type: ignore[arg-type]


def test_a_global_of_the_script(run: Run) -> None:
    script = """
        from goproc import go, procs, shared_array
        table = shared_array((procs(), 3), int)
        def fill(i): table[i] = [i, i + 1, i + 2]
        for g in [go(fill, i) for i in range(procs())]: g.result()
        print(table.tolist())
    """
    assert ok(run(script)) == "[[0, 1, 2], [1, 2, 3]]\n"


def test_without_numpy() -> None:
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from goproc import *\n"
        "try: shared_array(3)\n"
        "except ImportError as exc: print(exc)"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert found.stdout == "goproc.shared_array() needs NumPy: pip install numpy\n", found
