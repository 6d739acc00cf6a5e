"""monitor(): one message when a goroutine ends."""

from __future__ import annotations

import pytest
from peek import until_waiting

from goproc import Cancelled, Down, chan, go, goexit, monitor, select

pytestmark = pytest.mark.usefixtures("runtime2")


def fail() -> None:
    raise ValueError("no")


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize(
    ("end", "reason"),
    [("return", type(None)), ("raise", ValueError), ("goexit", type(None)), ("cancel", Cancelled)],
)
def test_every_end(end: str, reason: type, early: bool) -> None:
    orders = chan()

    def wait() -> int:
        order = orders.recv()
        if order == "raise":
            fail()
        if order == "goexit":
            goexit()
        return 3

    g = go(wait)
    if not early:
        until_waiting(orders, 1)
        downs = monitor(g)
    g.cancel() if end == "cancel" else orders.send(end)
    g.join()
    if early:  # "early": it has ended before anybody asks
        downs = monitor(g)
    down = downs.recv(timeout=20)
    assert down.goroutine == g and isinstance(down.reason, reason)
    assert downs.try_recv() == (None, False)


def test_each_call_gives_a_channel_of_its_own() -> None:
    g = go(fail)
    channels = [monitor(g) for _ in range(5)]
    assert [type(ch.recv().reason) for ch in channels] == [ValueError] * 5


def test_the_message_can_be_taken_apart_and_sent_on() -> None:
    g = go.opts(name="worker")(fail)
    down = monitor(g).recv()
    who, why = down
    assert (who, str(why)) == (g, "no")
    match down:
        case Down(goroutine, ValueError() as reason):
            assert goroutine.name == "worker" and str(reason) == "no"
        case _:
            pytest.fail("no match")
    assert go(lambda d: (d.goroutine.name, type(d.reason).__name__), down).result() == (
        "worker",
        "ValueError",
    )
    assert down == monitor(g).recv() and len({down, monitor(g).recv()}) == 1


def test_in_select_and_elsewhere() -> None:
    """The channel is one like any other: another goroutine can receive from it."""
    gate = chan()
    g = go(gate.recv)
    downs = monitor(g)
    watcher = go(lambda downs: select(downs, chan()).value.goroutine, downs)
    until_waiting(downs, 1)
    gate.send(1)
    assert watcher.result() == g


def test_a_monitored_failure_is_read(capfd: pytest.CaptureFixture[str]) -> None:
    g = go(fail)
    downs = monitor(g)
    del g
    assert isinstance(downs.recv().reason, ValueError)
    del downs
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("bad", [None, 3, fail, "g"])
def test_no_goroutine(bad: object) -> None:
    with pytest.raises(TypeError, match=r"monitor\(\) takes a goroutine handle, not "):
        monitor(bad)
