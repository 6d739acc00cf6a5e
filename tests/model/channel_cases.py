"""Channels, selects, timers."""

from __future__ import annotations

from collections.abc import Callable

from model.building import Bodies, close, recv, select, send, set_timer, waiting_on
from model.programs import Do
from model.queues import INTERRUPT, TIME, Case
from model.world import World

# ---- channels


def rendezvous(w: World) -> Bodies:
    c = w.channel()
    return [(send(c, 1),), (recv(c),)]


def buffered(w: World) -> Bodies:
    c = w.channel(1)
    return [(send(c, 1), send(c, 2)), (recv(c), recv(c))]


def two_senders(w: World) -> Bodies:
    c = w.channel(1)
    return [(send(c, 1),), (send(c, 2),), (recv(c),)]


def polled(w: World) -> Bodies:
    c = w.new("channel", 1, polled=True)
    return [
        (send(c, 1), send(c, 2)),
        (Do("has two", o=c), recv(c)),
        (Do("poll", o=c), recv(c)),
    ]


def closing(w: World) -> Bodies:
    c = w.channel(1)
    return [(send(c, 1), send(c, 2)), (recv(c),), (close(c),)]


def closing_receivers(w: World) -> Bodies:
    c = w.channel()
    return [(recv(c),), (recv(c),), (close(c),)]


def select_receive(w: World) -> Bodies:
    c, d = w.channel(), w.channel()
    return [(select(Case("recv", c), Case("recv", d)),), (send(c, 1),), (send(d, 2),)]


def select_send(w: World) -> Bodies:
    c, d = w.channel(), w.channel(1)
    return [(select(Case("send", c, 1), Case("send", d, 2)),), (recv(c),), (recv(d),)]


def selects_meet(w: World) -> Bodies:
    c, d = w.channel(), w.channel()
    return [
        (select(Case("send", c, 1), Case("recv", d)),),
        (select(Case("recv", c), Case("send", d, 2)),),
    ]


def times(w: World) -> Bodies:
    c = w.channel()
    return [(send(c, 1, TIME), send(c, 2)), (recv(c, TIME),)]


def interrupts(w: World) -> Bodies:
    c = w.channel(1)
    return [(send(c, 1), send(c, 2, INTERRUPT)), (recv(c, INTERRUPT), recv(c))]


def select_interrupted(w: World) -> Bodies:
    c, d = w.channel(), w.channel()
    return [
        (select(Case("recv", c), Case("recv", d), ends=frozenset({INTERRUPT})),),
        (send(c, 1),),
    ]


def passed_on(w: World) -> Bodies:
    c, d = w.channel(), w.channel(1)
    return [(send(c, 1),), (recv(c, then=d),), (recv(d),)]


def timer_reset(w: World) -> Bodies:
    t, c, d = w.new("timer"), w.channel(), w.channel()
    return [
        (select(Case("recv", t), Case("recv", c)), recv(d)),
        (set_timer(t, 2),),
        (send(c, 1), send(d, 2)),
    ]


def timer_due(w: World) -> Bodies:
    t, c = w.new("timer"), w.channel()
    return [
        (select(Case("recv", t), Case("recv", c)),),
        (set_timer(t, 1), send(c, 1, TIME)),
    ]


# In the short form not everybody dies: of two that do the same, one; of three, whoever matters. In the long form all may.
waiting_on("channel: a send and a receive, 2 die", rendezvous, 2, blocks=1)
waiting_on("channel: with a buffer, 2 die", buffered, 2, blocks=2)
waiting_on("channel: two senders, a buffer", two_senders, 1, workers=3, blocks=2, mortal="C")
waiting_on("channel: a poll beside a receiver", polled, 0, workers=3, blocks=2)
waiting_on("channel: closed with a sender", closing, 1, workers=3, blocks=2, mortal="C")
waiting_on("channel: closed with receivers", closing_receivers, 1, workers=3, mortal="C")
waiting_on("channel: waits that time out", times, 1, blocks=2)
waiting_on("channel: waits that are interrupted", interrupts, 1, blocks=2)
waiting_on("channel: a block is passed on", passed_on, 0, workers=3, blocks=1)
waiting_on("select: two receives, and two senders", select_receive, 0, workers=3, sudogs=3, locks=2, blocks=2)
waiting_on("select: two sends, and two receivers", select_send, 0, workers=3, sudogs=3, locks=2, blocks=2)
waiting_on("select: two that meet", selects_meet, 2, sudogs=3, locks=2, blocks=2)
waiting_on("select: one that is interrupted", select_interrupted, 1, sudogs=3, locks=2, blocks=1)
waiting_on("select: a timer that is reset", timer_reset, 0, workers=3, sudogs=3, locks=2, blocks=2, ticks=2)
waiting_on("select: a timer that becomes due", timer_due, 1, sudogs=3, locks=2, blocks=1, ticks=1, mortal="B")


def all_may_die(
    name: str, bodies: Callable[[World], Bodies], kills: int, sudogs: int = 1, ticks: int = 0
) -> None:
    locks = max(1, sudogs - 1)
    waiting_on(name, bodies, kills, sudogs, locks, blocks=2, ticks=ticks, workers=3, long=True)


all_may_die("channel: two senders, 2 die", two_senders, 2)
all_may_die("channel: a block is passed on, 1 dies", passed_on, 1)
all_may_die("channel: closed with a sender, 1 dies", closing, 1)
all_may_die("channel: closed with receivers, 1 dies", closing_receivers, 1)
all_may_die("select: two receives, 1 dies", select_receive, 1, sudogs=3)
all_may_die("select: two sends, 1 dies", select_send, 1, sudogs=3)
all_may_die("select: a timer that is reset, 1 dies", timer_reset, 1, sudogs=3, ticks=2)
