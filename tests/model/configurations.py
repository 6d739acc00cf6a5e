"""The configurations: who does what, and how many die."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from model import channels, repair
from model.channels import Do
from model.explorer import Explorer, Process, Result
from model.waiting import Case
from model.world import Object, World


class Configuration(NamedTuple):
    """`explorer` makes it, with some rules taken out; `kills` is how many of its processes die at most."""

    name: str
    explorer: Callable[[int, frozenset[str]], Explorer]
    kills: int

    def explore(self, faults: frozenset[str] = frozenset(), most: int = 1 << 62) -> Result:
        return self.explorer(self.kills, faults).explore(most)


Programs = Callable[[World], list[tuple[Do, ...]]]


def send(c: Object, block: int, *ends: str) -> Do:
    return Do("wait", (Case("send", c, block),), ends=frozenset(ends))


def recv(c: Object, *ends: str, then: Object | None = None) -> Do:
    return Do("wait", (Case("recv", c),), ends=frozenset(ends), then=then)


def select(*cases: Case, ends: frozenset[str] = frozenset()) -> Do:
    return Do("wait", cases, ends=ends)


def close(c: Object) -> Do:
    return Do("close", o=c)


def set_timer(c: Object, due: int) -> Do:
    return Do("set", o=c, due=due)


def waiting_world(
    programs: Programs,
    workers: int,
    sudogs: int,
    locks: int,
    blocks: int,
    ticks: int,
    kills: int,
    faults: frozenset[str],
) -> Explorer:
    w = World(workers, sudogs, locks, blocks, faults)
    bodies = programs(w)
    processes = [
        Process(p.name, partial(channels.goroutine, p, program), w.dies(p))
        for p, program in zip(w.procs, bodies, strict=True)
    ]
    if kills:
        processes.append(Process("coroner", partial(repair.coroner, w)))
    if ticks:
        processes.append(Process("clock", partial(channels.clock, w, ticks)))
    return Explorer(bytes(w.memory.start), processes, kills, partial(channels.check, w))


CONFIGURATIONS: dict[str, Configuration] = {}


def on_channels(
    name: str,
    programs: Programs,
    workers: int,
    kills: int,
    sudogs: int = 1,
    locks: int = 1,
    blocks: int = 1,
    ticks: int = 0,
) -> None:
    def explorer(kills: int, faults: frozenset[str]) -> Explorer:
        return waiting_world(programs, workers, sudogs, locks, blocks, ticks, kills, faults)

    CONFIGURATIONS[name] = Configuration(name, explorer, kills)


def rendezvous(w: World) -> list[tuple[Do, ...]]:
    c = w.channel()
    return [(send(c, 1),), (recv(c),)]


def closing(w: World) -> list[tuple[Do, ...]]:
    c = w.channel(1)
    return [(send(c, 1), send(c, 2)), (recv(c),), (close(c),)]


on_channels("a send and a receive", rendezvous, workers=2, kills=1)
on_channels("a send and a receive, two die", rendezvous, workers=2, kills=2)
on_channels("a channel is closed", closing, workers=3, kills=1, blocks=2)


def timer_and_channel(w: World) -> list[tuple[Do, ...]]:
    t, c, d = w.channel(timer=True), w.channel(), w.channel()
    return [
        (select(Case("recv", t), Case("recv", c)), recv(d)),
        (set_timer(t, 2),),
        (send(c, 1), send(d, 2)),
    ]


on_channels(
    "select of a timer that is reset, and a channel",
    timer_and_channel,
    workers=3,
    kills=0,
    sudogs=3,
    locks=3,
    blocks=2,
    ticks=2,
)
