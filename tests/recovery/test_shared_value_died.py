"""A process is killed while it changes a shared variable: the value is there, and the next one goes on."""

from __future__ import annotations

from programs import Run, ok

HEAD = """
    import os
    from goproc import Atomic, Group, WorkerDied, chan, go, rate, singleflight
    from goproc._shared_value import Cell

    def die(*args): os.kill(os.getpid(), 9)
"""


def output(run: Run, text: str) -> str:
    return ok(run(HEAD + text))


def test_the_value_of_before(run: Run) -> None:
    text = """
    cell = Cell(["old", b"x" * 5000])
    def change(cell): cell.update(die)
    assert type(go.on(1)(change, cell).exception()) is WorkerDied
    print(cell.load()[0], cell.update(lambda v: ((v[0] + "er", 1), "done")), cell.load())
    """
    assert output(run, text) == "old done ('older', 1)\n"


def test_again_and_again_beside_others(run: Run) -> None:
    """Each change that was finished counts, whoever dies."""
    text = """
    cell, asked = Cell(0), Atomic(0)
    def add(cell, asked):
        for n in range(50):
            cell.update(lambda v: (v + 1, None))
            asked.add(1)
        cell.update(die)
    lost = [go(add, cell, asked) for _ in range(8)]
    assert all(type(g.exception()) is WorkerDied for g in lost)
    counted = asked.load()
    assert counted <= cell.load() <= 8 * 50, (counted, cell.load())
    print(counted >= 50)
    """
    assert output(run, text) == "True\n"


def test_a_handle_in_the_value(run: Run) -> None:
    """An object to which the value refers lives on, and goes with the value."""
    text = """
    from goproc.shm import _core
    cell = Cell([chan(1)])
    def change(cell): cell.update(die)
    for _ in range(5): go.on(1)(change, cell).exception()
    ch, = cell.load()
    ch.send(7)
    assert cell.load()[0].recv() == 7
    cell.update(lambda v: ([], None))
    del ch, cell
    _core.collect()
    print(_core.census()["objects"] < 8, _core.census())
    """
    assert output(run, text).startswith("True")


def test_limiter(run: Run) -> None:
    text = """
    limiter = rate.Limiter(1000.0, 5)
    def work(limiter): limiter._bucket.update(die)
    go.on(1)(work, limiter).exception()
    assert limiter.allow() and go.on(1)(limiter.allow).result()
    limiter.wait()
    print("goes on")
    """
    assert output(run, text) == "goes on\n"


def test_singleflight(run: Run) -> None:
    text = """
    flight = singleflight.Group()
    def work(flight): flight._calls.update(die)
    go.on(1)(work, flight).exception()
    print(flight.do("key", lambda: 5)[0], go.on(1)(lambda: flight.do("key", lambda: 6)[0]).result())
    """
    assert output(run, text) == "5 6\n"


def test_the_errors_of_a_group(run: Run) -> None:
    text = """
    g = Group()
    def work(shared): Cell.of(shared.errors, shared.noting).update(die)
    go.on(1)(work, g._shared).exception()
    def fail(): raise ValueError("told")
    g.go(fail)
    try: g.wait()
    except ValueError as error: print(error)
    """
    assert output(run, text) == "told\n"
