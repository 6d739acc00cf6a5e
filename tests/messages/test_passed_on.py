"""Memory that came from shared memory, or a result, is passed on by reference: nothing is copied, and nobody sees more.

A copy that was not needed is seen in `_core.census()`: it would be another array's size.
"""

from __future__ import annotations

import random
import threading
from typing import Any

import numpy
import programs
import pytest
from peek import until
from programs import Run

import goproc
from goproc import chan, go, share
from goproc.shm import _core

N = 1_500_000
BYTES = 8 * N


def numbers() -> Any:
    return numpy.arange(float(N))


def received(value: Any) -> Any:
    ch: Any = chan(1)
    ch.send(value)
    return ch.recv()


def held() -> int:
    """Return how many arrays of N numbers there is room for in what lives in shared memory."""
    _core.collect()
    return round(_core.census()["bytes"] / BYTES)


def holds(n: int) -> None:
    until(lambda: held() == n, 10, lambda: f"{held()} of {n} arrays; {_core.census()}")


def whole(value: Any) -> Any:
    return value


def first_of_shared(shared: Any) -> float:
    return float(shared.value["a"][0])


def first_and_last(array: Any) -> tuple[float, float]:
    return float(array[0]), float(array[-1])


GOT = {
    "received": lambda: received(numbers()),
    "a result": lambda: go(numbers).result(),
    "received by reference": lambda: received(received(numbers())),
    "in a structure": lambda: received({"a": [numbers(), 1]})["a"][0],
    "a memoryview": lambda: numpy.frombuffer(memoryview(received(numbers())), dtype=float),
}


def _global(array: Any) -> Any:
    space: dict[str, Any] = {"ARRAY": array, "__name__": "__main__"}
    exec("def f(): return float(ARRAY[0]), float(ARRAY[-1])", space)
    return space.pop("f")  # no cycle: the array goes with the function


SENT = {
    "an argument": lambda array: go(first_and_last, array).result(),
    "a named argument": lambda array: go(first_and_last, array=array).result(),
    "a global": lambda array: go(_global(array)).result(),
    "a closure": lambda array: go(lambda: first_and_last(array)).result(),
    "a message": lambda array: first_and_last(received(array)),
    "in a structure": lambda array: first_and_last(received({"x": (1, [array])})["x"][1][0]),
    "back as a result": lambda array: first_and_last(go(whole, array).result()),
}


@pytest.mark.parametrize("sent", SENT)
@pytest.mark.parametrize("got", GOT)
def test_nothing_is_copied(runtime2: Any, got: str, sent: str) -> None:
    array = GOT[got]()
    holds(1)
    kept = [SENT[sent](array) for _ in range(3)]
    assert kept == [(0.0, N - 1.0)] * 3
    holds(1)
    del array
    holds(0)


def test_a_part_is_passed_on_with_the_whole(runtime2: Any) -> None:
    array = received(numbers())
    parts = [array[100:], array[50 : N - 50], array[: N // 2 * 2].reshape(2, -1)[:, :], array]
    ends = [(float(part.flat[0]), float(part.flat[-1])) for part in parts]
    back = [received(part) for part in parts]
    assert [(float(part.flat[0]), float(part.flat[-1])) for part in back] == ends
    assert [go(first_and_last, part.ravel()).result() for part in back] == ends
    holds(1)
    del array, parts, back
    holds(0)


def test_one_message_with_several_views_of_one_block(runtime2: Any) -> None:
    array = received(numbers())
    a, b = received((array, array[10:]))
    a[10] = -1
    assert (b[0], array[10]) == (10.0, 10.0)
    holds(1)


def test_as_of_when_it_was_sent(runtime2: Any) -> None:
    array = received(numbers())
    array[0] = 1
    first = received(array)
    array[0] = 2
    second = received(array)
    array[0] = 3
    third = received(array)
    array[0] = 4
    first[1] = -1
    assert [x[0] for x in (first, second, third, array)] == [1, 2, 3, 4]
    assert [x[1] for x in (first, second, third, array)] == [-1, 1, 1, 1]


def test_written_back_it_is_the_same_again(runtime2: Any) -> None:
    array = received(numbers())
    first = received(array)
    array[5] = 7
    array[5] = 5
    assert received(array)[5] == 5
    del first
    holds(1)


def test_a_pipeline_whose_stages_write(runtime2: Any) -> None:
    def stage(source: Any, to: Any) -> None:
        for array in source:
            array += 1
            to.send(array)
            array[0] = -5  # seen by nobody
            del array

    first, second, third = chan(1), chan(1), chan(1)
    stages = [go(stage, first, second), go(stage, second, third)]
    for i in range(5):
        first.send(numpy.full(N, float(i)))
        result = third.recv()
        assert float(result[0]) == float(result[-1]) == i + 2
    del result
    first.close()
    stages[0].join()
    second.close()
    stages[1].join()
    holds(0)


def test_the_first_to_send_it_on_may_have_written(runtime2: Any) -> None:
    """An array that a goroutine got from a channel, changed, and sent on, is not copied for that."""

    def change(array: Any, to: Any) -> None:
        array += 1
        to.send(array)

    back: Any = chan(1)
    go(change, numpy.full(N, 1.0), back).join()
    result = back.recv()
    assert first_and_last(result) == (2.0, 2.0)
    holds(1)


def test_a_result_that_is_read_several_times(runtime2: Any) -> None:
    g = go(numbers)
    mine = g.result()
    mine[0] = 5

    def look(g: Any) -> float:
        array = g.result()
        array[0] += 1
        return float(array[0])

    assert [go.on(proc)(look, g).result() for proc in (1, 2)] == [1.0, 1.0]
    assert mine[0] == 5
    holds(1)
    del g, mine
    holds(0)


def test_a_result_that_nobody_reads(runtime2: Any) -> None:
    g = go(numbers)
    g.join()
    holds(1)
    del g
    until(lambda: _core.census()["bytes"] < BYTES, 10)  # without a collection


def test_a_message_that_nobody_reads(runtime2: Any) -> None:
    ch: Any = chan(3)
    array = received(numbers())
    for _ in range(3):
        ch.send(array)
    del array
    holds(1)
    del ch
    holds(0)


def test_shared_by_hand(runtime2: Any) -> None:
    array = received(numbers())
    array[0] = 1
    shared = share({"a": array})
    array[0] = 2
    value = shared.value["a"]
    assert (value[0], array[0], value.flags.writeable) == (1, 2, False)
    assert go(first_of_shared, shared).result() == 1
    holds(1)
    del array
    assert value[0] == 1
    del value, shared
    holds(0)


def test_array_is_passed_on_in_little_memory() -> None:
    with goproc.runtime(procs=2, memory=f"{BYTES * 3 // 2}"):
        array = go(numbers).result()
        for _ in range(3):
            assert go(first_and_last, array[10:]).result() == (10.0, N - 1.0)
        array[0] = 1
        with pytest.raises(goproc.OutOfSharedMemory):
            received(array)
        array[0] = 0
        assert first_and_last(received(array)) == (0.0, N - 1.0)


def test_the_memory_is_used_again(runtime1: Any) -> None:
    """After the private mapping the segment is in its place again: blocks there are seen by all."""
    for i in range(20):
        array = received(numpy.full(N, float(i)))
        assert go(first_and_last, array).result() == (i, i)
        array[:] = -1
        del array
        fresh = received(numpy.full(N, i + 0.5))
        assert first_and_last(fresh) == go(first_and_last, fresh).result() == (i + 0.5, i + 0.5)
        small = [received(numpy.full(10_000, i)) for _ in range(50)]
        assert [go(int, part[-1]).result() for part in small[:3]] == [i] * 3
        del fresh, small
    holds(0)


def test_it_outlives_the_runtime() -> None:
    with goproc.runtime(procs=1):
        array, copy = received(numbers()), None
        copy = received(array)
        array[0] = 1
    with goproc.runtime(procs=1):
        array[1], copy[1] = 2, 3
        assert first_and_last(received(array)) == (1.0, N - 1.0)
        assert first_and_last(received(copy)) == (0.0, N - 1.0)
        assert (array[1], copy[1]) == (2, 3)
        del array
    assert copy[1] == 3


def test_threads_that_send_it_at_once(runtime2: Any) -> None:
    array = received(numbers())
    seen: list[Any] = []

    def send() -> None:
        for _ in range(10):
            seen.append(first_and_last(received(array)))

    threads = [threading.Thread(target=send) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [(0.0, N - 1.0)] * 30
    holds(1)


def test_random_programs(runtime2: Any, long: bool) -> None:
    """Arrays are sent, written, cut and dropped at random; beside each is a plain copy of what it must hold."""
    for seed in range(30 if long else 3):
        chosen = random.Random(seed)
        pool: list[tuple[Any, Any]] = []
        for step in range(60):
            if not pool or chosen.random() < 0.1:
                plain = numpy.full(N + chosen.randrange(1000), float(step))
                pool.append((received(plain), plain))
            index = chosen.randrange(len(pool))
            array, plain = pool[index]
            how = chosen.random()
            if how < 0.4:
                send = chosen.choice((received, lambda x: go(whole, x).result(), lambda x: received([x])[0]))
                pool.append((send(array), plain.copy()))
            elif how < 0.7:
                at = chosen.randrange(len(plain))
                array[at] = plain[at] = step
            elif how < 0.8:
                cut = chosen.randrange(100)
                pool.append((received(array[cut:]), plain[cut:].copy()))
            elif how < 0.9 or len(pool) > 8:
                del pool[index]
        for array, plain in pool:
            assert (array == plain).all(), seed
        del pool, array, plain
        holds(0)


# -- Where the system does not help -----------------------------------------------------------------------------------

BEGIN = f"""
    import os, sys, warnings
    warnings.simplefilter("ignore")  # Python 3.12 warns of fork() in a process with threads
    import numpy as np
    from goproc import chan, go
    N = {N}
    def received(value):
        ch = chan(1)
        ch.send(value)
        return ch.recv()
    def ends(array): return float(array[0]), float(array[-1])
"""


def test_without_the_descriptor(run: Run) -> None:
    """The program has closed it, before the array was sent on, or after: then all is copied, or comes back in its place."""
    script = f"""{BEGIN}
    go(int).result()
    a, b = received(np.arange(float(N))), received(np.arange(float(N)))
    back = [received(a)]
    a[0] = 1
    os.closerange(3, 64)
    b[0] = 2
    back += [received(a), received(b), go(ends, b).result()]
    b[0] = 3
    print([float(x[0]) for x in back])
    del a, b, back
    print(*[ends(received(np.full(N, float(i)))) for i in range(3)])
    """
    assert programs.ok(run(script)) == "[0.0, 1.0, 2.0, 2.0]\n(0.0, 0.0) (1.0, 1.0) (2.0, 2.0)\n"


@pytest.mark.parametrize("proc", [0, 1])
def test_a_forked_child(run: Run, proc: int) -> None:
    script = f"""{BEGIN}
    def in_child(function, meanwhile):
        r, w = os.pipe()
        go_r, go_w = os.pipe()
        if (pid := os.fork()) == 0:
            os.close(go_w)
            os.read(go_r, 1)
            os.write(w, repr(function()).encode())
            os._exit(0)
        os.close(w)
        meanwhile()
        os.close(go_w)
        with open(r) as file: text = file.read()
        assert os.waitpid(pid, 0)[1] == 0
        return text
    def work():
        mine = received(np.arange(float(N)))
        theirs = received(mine)
        mine[0], theirs[0] = 1, 2
        pair = [mine, theirs]
        def read():
            seen = [ends(x) for x in pair]
            pair[0][:] = 9
            del pair[0]
            return seen, ends(pair[0])
        del mine, theirs
        def change():
            for x in pair: x[:] = 5
            pair.clear()
            for i in range(3): received(np.full(N, float(i)))
        return in_child(read, change)
    print(go.on(1)(work).result() if {proc} else work())
    """
    last = N - 1.0
    assert programs.ok(run(script)) == f"([(1.0, {last}), (2.0, {last})], (2.0, {last}))\n"


def test_with_hardly_any_mappings(run: Run) -> None:
    script = f"""{BEGIN}
    import hashlib, mmap  # an import needs mappings
    arrays = [received(np.full(N, 1.0)) for _ in range(20)]
    filler = []
    try:
        while True:
            filler.append(mmap.mmap(-1, 4096, prot=mmap.PROT_READ if len(filler) % 2 else mmap.PROT_WRITE))
    except OSError:
        pass
    seen = set()
    for array in arrays:
        del filler[-1]
        try:
            copy = received(array)
            array[0] = 2
            seen.add((ends(copy), ends(received(array)), ends(received(copy))))
        except Exception:  # Python itself cannot import a module, or has no memory
            pass
    seen.update([ends(array) for array in arrays[-3:]])
    del array, copy, arrays
    filler.clear()
    print(sorted(seen, key=str), ends(received(np.ones(N))))
    """
    done = run(script)
    assert done.out == "[((1.0, 1.0), (2.0, 1.0), (1.0, 1.0)), (2.0, 1.0)] (1.0, 1.0)\n", done
