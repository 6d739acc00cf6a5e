"""Supervisor: which children are started again, when it gives up, and how it ends."""

from __future__ import annotations

import pytest
from peek import until, until_waiting

import goproc
from goproc import Atomic, Cancelled, Chan, Supervisor, TooManyRestarts, chan, go, goexit, sleep
from goproc.errors import PickleError

pytestmark = pytest.mark.usefixtures("runtime2")


class Trouble(Exception):
    pass


def serve(name: str, log: Chan, orders: Chan) -> str:
    """Log the start and the end. Do what an order says."""
    log.send(("start", name))
    try:
        order = orders.recv()
        if order == "fail":
            raise Trouble(name)
        if order == "goexit":
            goexit()
        return order
    except Cancelled:
        log.send(("cancelled", name))
        raise


class Family:
    """Children a, b, c of a supervisor, each with a channel for orders."""

    def __init__(self, sup: Supervisor, names: str = "abc", **options: object) -> None:
        self.log: Chan = chan(1000)
        self.orders = {name: chan() for name in names}
        self.children = {}
        for name in names:
            self.children[name] = sup.opts(name=name, **options)(serve, name, self.log, self.orders[name])
            self.until_waiting(name)

    def until_waiting(self, *names: str) -> None:
        for name in names:
            until_waiting(self.orders[name], 1)

    def logged(self) -> list[tuple[str, str]]:
        found = []
        while (entry := self.log.try_recv())[1]:
            found.append(entry[0])
        return found


# -- strategies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "ended", "started"),
    [("one_for_one", "", "b"), ("one_for_all", "ca", "abc"), ("rest_for_one", "c", "bc")],
)
def test_strategies(strategy: str, ended: str, started: str) -> None:
    with Supervisor(strategy, quiet=True) as sup:
        family = Family(sup)
        before = {name: child.goroutine for name, child in family.children.items()}
        family.logged()
        family.orders["b"].send("fail")
        until(lambda: family.children["b"].restarts == 1)
        until(lambda: all(family.children[name].goroutine.state == "running" for name in started))
        family.until_waiting(*"abc")
        logged = family.logged()
        assert [name for kind, name in logged if kind == "cancelled"] == list(ended)
        assert sorted(name for kind, name in logged if kind == "start") == list(started)
        for name, child in family.children.items():
            assert (child.goroutine == before[name]) == (name not in started)
            assert child.restarts == (name in started)


def test_children_end_in_reverse_order() -> None:
    with Supervisor() as sup:
        family = Family(sup)
        family.logged()
        assert [child.name for child in sup.children] == list("abc")
    assert family.logged() == [("cancelled", name) for name in "cba"]
    assert all(child.goroutine.state == "failed" for child in family.children.values())


# -- which children are started again ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("restart", "order", "again"),
    [
        ("permanent", "fail", True),
        ("permanent", "return", True),
        ("permanent", "goexit", True),
        ("transient", "fail", True),
        ("transient", "return", False),
        ("transient", "goexit", False),
        ("temporary", "fail", False),
        ("temporary", "return", False),
    ],
)
def test_kinds_of_children(restart: str, order: str, again: bool) -> None:
    with Supervisor(quiet=True) as sup:
        family = Family(sup, "a", restart=restart)
        child = family.children["a"]
        first = child.goroutine
        family.orders["a"].send(order)
        if again:
            until(lambda: child.goroutine != first)
            family.until_waiting("a")
        else:
            sup.wait(10)
            assert child.goroutine == first
        assert child.restarts == again
        assert (child in sup.children) == (restart != "temporary")


@pytest.mark.parametrize(("restart", "again"), [("permanent", True), ("transient", False)])
def test_cancelled_from_outside(restart: str, again: bool) -> None:
    with Supervisor() as sup:
        family = Family(sup, "a", restart=restart)
        child = family.children["a"]
        first = child.goroutine
        first.cancel()
        if again:
            until(lambda: child.goroutine != first)
        else:
            sup.wait(10)


def test_one_for_all_among_other_kinds() -> None:
    """A transient child that had ended starts again with the others, a temporary one does not."""
    with Supervisor("one_for_all", quiet=True) as sup:
        done = Family(sup, "t", restart="transient")
        once = Family(sup, "o", restart="temporary")
        family = Family(sup, "p")
        done.orders["t"].send("return")
        done.children["t"].goroutine.join()
        family.orders["p"].send("fail")
        done.until_waiting("t")
        family.until_waiting("p")
        assert once.children["o"] not in sup.children
        assert once.logged() == [("start", "o"), ("cancelled", "o")]


def test_arguments_are_those_of_the_start() -> None:
    seen = chan(2)
    orders = chan()

    def report(values: list[int]) -> None:
        seen.send(values)
        orders.recv()

    values = [1]
    with Supervisor() as sup:
        sup.go(report, values)
        assert seen.recv() == [1]
        values.append(2)
        orders.send(None)
        assert seen.recv() == [1]


# -- giving up ---------------------------------------------------------------------------------------------------------


def fail(text: str) -> None:
    raise Trouble(text)


def test_gives_up_in_wait() -> None:
    runs = Atomic(0)

    def count_and_fail() -> None:
        runs.add(1)
        fail("always")

    text = r"count_and_fail.*more than 2 restarts within 60 s"
    with (
        pytest.raises(TooManyRestarts, match=text) as e,
        Supervisor(restarts=2, within=60, quiet=True) as sup,
    ):
        family = Family(sup, "a")
        sup.go(count_and_fail)
        sup.wait()
    assert isinstance(e.value.__cause__, Trouble)
    assert runs.load() == 3
    assert ("cancelled", "a") in family.logged()


def test_gives_up_while_the_body_waits_elsewhere() -> None:
    with pytest.raises(TooManyRestarts), Supervisor(restarts=0, quiet=True) as sup:
        sup.go(fail, "once")
        chan().recv()


def test_gives_up_while_the_body_runs() -> None:
    """The body does not wait: the end of the block raises."""
    with pytest.raises(TooManyRestarts), Supervisor(restarts=0, quiet=True) as sup:
        child = sup.go(fail, "once")
        try:
            until(lambda: child.goroutine.state == "failed")
            until(lambda: not sup.children or sup._stopping)
        except Cancelled:
            pass


def test_nothing_starts_after_it_gave_up() -> None:
    sup = Supervisor(restarts=0, quiet=True)
    sup.go(fail, "once")
    with pytest.raises(TooManyRestarts):
        sup.wait()
    with pytest.raises(RuntimeError, match="the Supervisor has ended: fail"):
        sup.go(fail, "again")
    with pytest.raises(TooManyRestarts):
        sup.stop()


def test_restarts_that_are_long_ago_do_not_count() -> None:
    with Supervisor(restarts=1, within=0.01, quiet=True) as sup:
        family = Family(sup, "a")
        for n in range(1, 5):
            family.orders["a"].send("fail")
            until(lambda n=n: family.children["a"].restarts == n)
            family.until_waiting("a")
            sleep(0.05)  # nothing to wait on: the time itself


def test_the_exception_of_the_body_wins() -> None:
    with pytest.raises(Trouble, match="body") as caught, Supervisor(restarts=0, quiet=True) as sup:
        sup.go(fail, "child")
        try:
            chan().recv()
        except Cancelled:
            raise Trouble("body")
    assert isinstance(caught.value.__cause__, TooManyRestarts)


def test_says_why_it_starts_a_child_again(capfd: pytest.CaptureFixture[str]) -> None:
    with Supervisor() as sup:
        family = Family(sup, "a")
        old = family.children["a"].goroutine.id
        family.orders["a"].send("fail")
        until(lambda: family.children["a"].restarts == 1)
        until(lambda: "started again" in capfd_err(capfd))
    assert _said[0].startswith(
        f"goproc: supervisor: a (goroutine {old}) failed: Trouble: a; started again as goroutine "
    )


_said: list[str] = []


def capfd_err(capfd: pytest.CaptureFixture[str]) -> str:
    _said[:] = [("".join(_said) + capfd.readouterr().err)]
    return _said[0]


# -- without a block, nested, misused ---------------------------------------------------------------------------------


def test_without_a_block() -> None:
    sup = Supervisor()
    family = Family(sup, "ab")
    family.logged()
    sup.stop()
    assert family.logged() == [("cancelled", "b"), ("cancelled", "a")]
    sup.stop()
    sup.wait()


def test_without_children() -> None:
    with Supervisor() as sup:
        sup.wait()
    assert sup.children == []


def test_supervisors_in_children() -> None:
    """A supervisor that gives up is a failed child of the one above it."""
    runs = Atomic(0)

    def middle(done: Chan) -> None:
        with Supervisor(restarts=1, quiet=True) as sup:
            sup.go(below)
            sup.wait()

    def below() -> None:
        runs.add(1)
        fail("below")

    with pytest.raises(TooManyRestarts) as caught, Supervisor(restarts=1, quiet=True) as sup:
        sup.go(middle, chan())
        sup.wait()
    assert isinstance(caught.value.__cause__, TooManyRestarts)
    assert runs.load() == 4


def test_in_a_goroutine_that_is_cancelled() -> None:
    log, orders = chan(10), chan()

    def top() -> None:
        with Supervisor() as sup:
            sup.go(serve, "a", log, orders)
            sup.wait()

    g = go(top)
    until_waiting(orders, 1)
    g.cancel()
    with pytest.raises(Cancelled):
        g.result()
    assert [log.recv(), log.recv()] == [("start", "a"), ("cancelled", "a")]


def test_a_child_that_cannot_be_cancelled_in_time_in_the_queue() -> None:
    """A child that waits for a worker is not waited for."""
    gate = chan()

    def busy() -> None:
        gate.recv()

    with Supervisor(shutdown=0.05) as sup:
        sup.go(busy)
        until_waiting(gate, 1)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"strategy": "all"},
            ValueError,
            r"strategy='all'\): give one of one_for_one, one_for_all, rest_for_one",
        ),
        ({"restarts": -1}, ValueError, "takes a number from 0 on, not -1"),
        ({"restarts": 1.5}, TypeError, "takes a whole number, not float"),
        ({"restarts": True}, TypeError, "takes a whole number, not bool"),
        ({"within": float("nan")}, ValueError, "seconds from 0 on, not nan"),
        ({"within": "5"}, TypeError, "seconds as a number, not str"),
        ({"shutdown": -1}, ValueError, "seconds from 0 on, not -1"),
    ],
)
def test_bad_arguments(options: dict[str, object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Supervisor(**options)


def test_bad_children() -> None:
    with Supervisor() as sup:
        with pytest.raises(TypeError, match="not callable"):
            sup.go(3)
        with pytest.raises(TypeError, match=r"nil func|NoneType"):
            sup.go(None)
        with pytest.raises(
            ValueError, match=r"restart='always'\): give one of permanent, transient, temporary"
        ):
            sup.opts(restart="always")
        with pytest.raises(ValueError, match="seconds from 0 on"):
            sup.opts(shutdown=float("nan"))
        with pytest.raises(ValueError, match=r"go.on\(9\)"):
            sup.opts(proc=9)
        with pytest.raises(PickleError, match="lock"):
            import threading

            sup.go(print, threading.Lock())
        sup.wait()
    assert sup.children == []


def test_it_stays_in_its_process() -> None:
    with Supervisor() as sup:
        with pytest.raises(goproc.PickleError, match="a Supervisor cannot be sent to another process"):
            go(print, sup)
        family = Family(sup, "a")
        with pytest.raises(goproc.PickleError, match="a child of a Supervisor cannot be sent"):
            go(print, family.children["a"])


def test_a_block_only_once() -> None:
    with Supervisor() as sup, pytest.raises(RuntimeError, match="only once"):
        sup.__enter__()
    with pytest.raises(RuntimeError, match="only once"):
        sup.__enter__()
