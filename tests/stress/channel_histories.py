"""Records what goroutines of several processes do with a few channels: see test_histories.py.

The records lie in a file that each process maps. A record is filled in before its operation but for the return, which is
stored last: so those of a process that was killed are there, too.
"""

from __future__ import annotations

import mmap
import os
import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from disturber import Disturber
from linearizability import LATER, Case, Kind, Operation, Result

import goproc
from goproc import ChanClosed, chan, default, go, select
from goproc.errors import WorkerDied

CLIENTS = 8
OPERATIONS = 25  # of each
CHANNELS = 3
WORDS = 8  # of a record
(CALLED, CASES, SPEC, RESULT, CHOSEN, VALUE, RETURNED) = range(7)
WHOLE = CLIENTS * OPERATIONS * WORDS  # of a history
LIMIT = 0.003  # seconds that an operation waits, where nobody may come

_mapped: dict[str, Any] = {}


def records(path: str) -> Any:
    """Return the records in a file as a list of 64-bit numbers."""
    if path not in _mapped:
        _mapped.clear()
        with open(path, "r+b") as file:
            _mapped[path] = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
    return _mapped[path]


# -- recording --------------------------------------------------------------------------------------------------------


def cases_of(dice: random.Random, first_value: int) -> list[Case]:
    """Return the cases of the next operation: one, or those of a select."""
    if dice.random() < 0.004:
        return [Case(Kind.CLOSE, dice.randrange(CHANNELS))]
    count = dice.choice((1, 1, 1, 1, 2, 3))
    return [
        Case(Kind(dice.randrange(2)), dice.randrange(CHANNELS), first_value + number)
        for number in range(count)
    ]


def client(path: str, history: int, number: int, channels: list[Any], seed: int) -> None:
    """Do random operations and record them."""
    words = records(path)
    dice = random.Random(seed)
    for count in range(OPERATIONS):
        start = history * WHOLE + (number * OPERATIONS + count) * WORDS
        cases = cases_of(dice, 1 + 4 * (number * OPERATIONS + count))
        at_once = dice.random() < 0.25
        spec = 0
        for case in reversed(cases):
            spec = spec << 8 | case.channel << 2 | case.kind
        words[start + CASES] = len(cases)
        words[start + SPEC] = spec
        words[start + CALLED] = time.monotonic_ns()
        result, chosen, value = perform(cases, channels, at_once)
        returned = time.monotonic_ns()
        words[start + RESULT] = result
        words[start + CHOSEN] = chosen
        words[start + VALUE] = value
        words[start + RETURNED] = returned


def perform(cases: list[Case], channels: list[Any], at_once: bool) -> tuple[Result, int, int]:
    try:
        if len(cases) > 1:
            return selected(cases, channels, at_once)
        case = cases[0]
        channel = channels[case.channel]
        if case.kind == Kind.CLOSE:
            channel.close()
        elif case.kind == Kind.SEND:
            if not at_once:
                channel.send(case.value, timeout=LIMIT)
            elif not channel.try_send(case.value):
                return Result.BLOCKED, 0, 0
        elif at_once:
            return received(channel)
        else:
            value, ok = channel.recv_ok(timeout=LIMIT)
            return (Result.DONE, 0, value) if ok else (Result.ENDED, 0, 0)
        return Result.DONE, 0, 0
    except ChanClosed:
        return Result.REFUSED, 0, 0
    except TimeoutError:
        return Result.GAVE_UP, 0, 0


def received(channel: Any) -> tuple[Result, int, int]:
    """Receive at once. try_recv() does not tell a closed channel from an empty one; a select with a default does."""
    found = select(channel.recv, default)
    if found.index == 1:
        return Result.BLOCKED, 0, 0
    return (Result.DONE, 0, found.value) if found.ok else (Result.ENDED, 0, 0)


def selected(cases: list[Case], channels: list[Any], at_once: bool) -> tuple[Result, int, int]:
    wanted: list[Any] = []
    for case in cases:
        channel = channels[case.channel]
        wanted.append((channel.send, case.value) if case.kind == Kind.SEND else channel.recv)
    found = select(*wanted, default) if at_once else select(*wanted, timeout=LIMIT)
    if found.index == len(cases):
        return Result.BLOCKED, 0, 0
    if cases[found.index].kind == Kind.SEND:
        return Result.DONE, found.index, 0
    return (Result.DONE, found.index, found.value) if found.ok else (Result.ENDED, found.index, 0)


# -- the program ------------------------------------------------------------------------------------------------------


def kill(dice: random.Random, over: threading.Event) -> None:
    """Kill workers, until `over` is set."""
    while not over.wait(0.01 + dice.random() * 0.03):
        goproc.kill(dice.choice(goproc.workers()))


def record(folder: str, batches: int, histories: int, seed: int, disturbance: str) -> None:
    """Record batches of histories, and print the name of the file of each when it is complete."""
    dice = random.Random(seed)
    over = threading.Event()
    killer = threading.Thread(target=kill, args=(random.Random(dice.random()), over), daemon=True)
    disturber = None
    if disturbance == "kill":
        killer.start()
    elif disturbance == "stop":
        pids = [go.on(p)(os.getpid).result() for p in goproc.workers()]
        disturber = Disturber("stop one", dice.getrandbits(30), pids)
    for batch in range(batches):
        path = f"{folder}/batch-{batch}"
        capacities = [[dice.choice((0, 0, 1, 2, 5)) for _ in range(CHANNELS)] for _ in range(histories)]
        Path(path).write_bytes(bytes(histories * WHOLE * 8))
        handles = [
            go(client, path, history, number, channels, dice.getrandbits(60))
            for history, channels in enumerate([[chan(cap) for cap in caps] for caps in capacities])
            for number in range(CLIENTS)
        ]
        for g in handles:
            try:
                g.result(60)
            except WorkerDied:
                assert disturbance == "kill"
        print(path, capacities, flush=True)
    over.set()
    if disturbance == "kill":
        killer.join()
    if disturber is not None:
        assert disturber.end() > 1


# -- reading ----------------------------------------------------------------------------------------------------------


def read(path: str, histories: int) -> Iterator[list[list[Operation]]]:
    """Yield each history of a file: the operations of each client."""
    words = memoryview(Path(path).read_bytes()).cast("q")
    for history in range(histories):
        yield [list(operations(words, history, number)) for number in range(CLIENTS)]


def operations(words: Any, history: int, number: int) -> Iterator[Operation]:
    for count in range(OPERATIONS):
        place = number * OPERATIONS + count
        start = history * WHOLE + place * WORDS
        fields = words[start : start + WORDS].tolist()
        if not fields[CALLED]:
            return
        spec, cases = fields[SPEC], []
        for case in range(fields[CASES]):
            cases.append(Case(Kind(spec & 3), spec >> 2 & 63, 1 + 4 * place + case))
            spec >>= 8
        ended = fields[RETURNED] != 0
        result = Result(fields[RESULT]) if ended else Result.OPEN
        chosen, value = (fields[CHOSEN], fields[VALUE]) if ended else (0, 0)
        returned = fields[RETURNED] if ended else LATER
        yield Operation(fields[CALLED], returned, tuple(cases), result, chosen, value)
        if not ended:
            return
