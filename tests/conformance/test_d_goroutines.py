"""D, goroutines: when they begin, what they see, how they are counted, how the program ends."""

from __future__ import annotations

import re

import pytest
from peek import until

import goproc
from goproc import chan, go


def test_D01_arguments_are_evaluated_at_the_go_line(place):
    x = 1
    g = place.anyone(lambda x: x, x)
    x = 2
    assert g.result(10) == 1


def test_D01_closure_is_copied_at_the_go_line(place):
    """Go would see the later value: a goroutine shares variables there, and has a snapshot here. go.local is as Go."""
    x, items = 1, [1]
    g = place.anyone(lambda: (x, items))
    x = 2
    items.append(2)
    assert g.result(10) == ((2, [1, 2]) if place.kind == "local" else (1, [1]))


@pytest.mark.parametrize("procs", [0, 1, 2, 4])
def test_D02_the_end_of_main_ends_the_program(run, procs):
    done = run(
        """
        from goproc import chan, go, procs, sleep

        def goroutine(ready):
            try:
                ready.send(None)
                sleep(30)
                print("woke")
            finally:
                print("deferred")

        ready = chan()
        for p in range(procs()):
            go.on(p)(goroutine, ready)
        go.local(goroutine, ready)
        for _ in range(procs() + 1):
            ready.recv()
        print("end of main")
        """,
        procs=procs,
    )
    assert (done.status, done.out, done.err) == (0, "end of main\n", "")


def test_D03_spawn_order(runtime0):
    """The one spawned last runs first, the others in their order."""
    order = chan(5)
    for i in range(5):
        go(lambda c, i: c.send(i), order, i)
    assert [order.recv() for _ in range(5)] == [4, 0, 1, 2, 3]


def test_D04_nil_function(place):
    """Go's is fatal. Here the error is the caller's, at the go line, before there is a goroutine."""
    with pytest.raises(TypeError, match=r"^go of nil func value"):
        place.anyone(None)


@pytest.mark.parametrize("procs", [0, 1, 2])
def test_D04_nil_function_ends_a_program_that_does_not_catch_it(run, procs):
    done = run("from goproc import go\ngo(int)\ngo(None)\nprint('lives')\n", procs=procs)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("panic: go of nil func value\n\ngoroutine 1 [running]:\n"), done.err


def headers(text):
    return re.findall(r"^goroutine (\d+) \[", text, re.M)


def test_D05_number_of_goroutines(place):
    def wait(c):
        c.recv_ok()

    def agree(number):
        """Both count what there is at an instant, and some may be about to begin or to end."""
        until(lambda: goproc.num_goroutine() == number, what=lambda: str(goproc.num_goroutine()))
        until(lambda: len(headers(goproc.dump())) == goproc.num_goroutine() == number, what=goproc.dump)

    agree(1)
    c = chan()
    try:
        gs = [place.anyone(wait, c) for _ in range(7)]
        agree(8)
        assert {str(g.id) for g in gs} | {"1"} == set(headers(goproc.dump()))
    finally:
        c.close()
    for g in gs:
        g.result(10)
    agree(1)


@pytest.mark.parametrize("procs", [0, 1, 2])
@pytest.mark.parametrize("how", ["goproc", "python"])
def test_D06_main_is_goroutine_1(run, procs, how):
    done = run(
        """
        from goproc import go

        def fails():
            raise RuntimeError("test")

        assert go(lambda: 5).result() == 5
        fails()
        """,
        procs=procs,
        how=how,
    )
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith("panic: test\n\ngoroutine 1 [running]:\nTraceback (most recent call last):\n")
    assert done.err.count("panic:") == done.err.count("Traceback") == 1
    assert re.search(r'script.py", line \d+, in fails\n', done.err) and "RuntimeError: test" in done.err
