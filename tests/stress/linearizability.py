"""Decide whether a recorded history of operations on Go channels is linearizable.

The search is that of J. M. Wing and C. Gong, "Testing and verifying concurrent objects" (Journal of Parallel and Distributed
Computing 17, 1993), with the memory of configurations that G. Lowe added in "Testing for linearizability" (Concurrency and
Computation: Practice and Experience 29, 2017). A rendezvous takes effect for its two operations at one point in time: such
steps are those of concurrency-aware linearizability (N. Hemed, N. Rinetzky, V. Vafeiadis, DISC 2015).

A history is linearizable if each operation can be given one instant between its call and its return, such that the operations
in the order of these instants do what channels do: values leave in the order in which they entered, at most `cap` of them
are inside, nothing enters after the close, and a receiver hears of the close when all values are gone. A select takes effect
in all its channels at one instant. An operation without a return (its process died) may have taken effect after its call,
with any result, or never.

Not checked, as a history cannot show it: whether a goroutine of another process had queued already when a try-operation on an
unbuffered channel found nobody.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import IntEnum
from typing import NamedTuple


class Kind(IntEnum):
    RECV = 0
    SEND = 1
    CLOSE = 2


class Result(IntEnum):
    OPEN = 0  # no return was recorded
    DONE = 1  # the case `chosen` took effect; a receive got `value`
    ENDED = 2  # the receive of `chosen` heard that its channel is closed
    REFUSED = 3  # ChanClosed was raised: a send on a closed channel, or a second close
    BLOCKED = 4  # a try-operation, or a select with a default, found no case ready
    GAVE_UP = 5  # the time limit was over: nothing took effect


class Case(NamedTuple):
    kind: Kind
    channel: int
    value: int = 0  # of a send: no two sends of a history have the same


class Operation(NamedTuple):
    called: int
    returned: int  # of an open operation: later than all
    cases: tuple[Case, ...]
    result: Result
    chosen: int = 0
    value: int = 0

    @property
    def case(self) -> Case:
        return self.cases[self.chosen]


class Channel(NamedTuple):
    """The state of a channel between two operations."""

    inside: tuple[int, ...] = ()
    closed: bool = False


State = tuple[Channel, ...]
Client = Sequence[Operation]  # one after the other

LATER = 1 << 62


class TooManySteps(Exception):
    """The search is longer than a test can wait for."""


class Configuration(NamedTuple):
    """The operations that the search has placed: how many of each client, and their outcome."""

    placed: tuple[int, ...]
    state: State


class Search:
    """The search for an order of the operations of one history."""

    def __init__(self, capacities: Sequence[int], clients: Sequence[Client], most: int) -> None:
        self._capacities = capacities
        self._clients = [_without_effectless(client) for client in clients]
        self._most = most
        self._received = {
            op.value: op.returned
            for client in self._clients
            for op in client
            if op.result == Result.DONE and op.case.kind == Kind.RECV
        }

    def run(self) -> bool:
        """True if there is an order.

        Raises:
            TooManySteps: the search has seen `most` configurations.
        """
        first = Configuration((0,) * len(self._clients), (Channel(),) * len(self._capacities))
        seen = {first}
        stack = [self._steps(first)]
        while stack:
            following = next(stack[-1], None)
            if following is None:
                stack.pop()
            elif following not in seen:
                if self._is_complete(following):
                    return True
                if len(seen) > self._most:
                    raise TooManySteps
                seen.add(following)
                stack.append(self._steps(following))
        return self._is_complete(first)

    def _is_complete(self, at: Configuration) -> bool:
        """True if only open operations are left."""
        return all(
            n == len(client) or client[n].result == Result.OPEN
            for n, client in zip(at.placed, self._clients, strict=True)
        )

    def _steps(self, at: Configuration) -> Iterator[Configuration]:
        """Yield each configuration that one more instant can lead to: the most promising first."""
        following = [
            (number, client[n])
            for number, (client, n) in enumerate(zip(self._clients, at.placed, strict=True))
            if n < len(client)
        ]
        deadline = min((op.returned for _, op in following), default=0)
        enabled = [(number, op) for number, op in following if op.called <= deadline]
        enabled.sort(key=lambda pair: self._urgency(pair[1]))
        for number, op in enabled:
            for state in self._alone(op, at.state):
                yield Configuration(_advanced(at.placed, number), state)
            for other, partner in enabled:
                if other != number and self._meet(op, partner, at.state):
                    yield Configuration(_advanced(_advanced(at.placed, number), other), at.state)

    def _urgency(self, op: Operation) -> int:
        """Put what leaves no choice first, then sends in the order in which their values arrive, what is open last."""
        if op.result == Result.OPEN:
            return LATER + 1
        if op.result == Result.DONE and op.case.kind == Kind.SEND:
            return self._received.get(op.case.value, LATER)
        return LATER if op.result == Result.DONE and op.case.kind == Kind.CLOSE else 0

    # -- one operation

    def _alone(self, op: Operation, state: State) -> Iterator[State]:
        """Yield the state after an operation that needs no partner, if it can have had its result now."""
        if op.result == Result.DONE:
            yield from self._effect(op.case, op.value, state)
        elif op.result == Result.OPEN:
            for case in op.cases:
                inside = state[case.channel].inside
                if case.kind != Kind.RECV:
                    yield from self._effect(case, 0, state)
                elif inside and inside[0] not in self._received:  # else a living receiver has got it
                    yield from self._effect(case, inside[0], state)
        elif self._may_return(op, state):
            yield state

    def _effect(self, case: Case, value: int, state: State) -> Iterator[State]:
        channel = state[case.channel]
        if case.kind == Kind.CLOSE:
            if not channel.closed:
                yield _with(state, case.channel, channel._replace(closed=True))
        elif case.kind == Kind.SEND:
            if not channel.closed and len(channel.inside) < self._capacities[case.channel]:
                yield _with(state, case.channel, channel._replace(inside=(*channel.inside, case.value)))
        elif channel.inside[:1] == (value,):
            yield _with(state, case.channel, channel._replace(inside=channel.inside[1:]))

    def _may_return(self, op: Operation, state: State) -> bool:
        """True if an operation can have had a result without an effect."""
        if op.result == Result.ENDED:
            return op.case.kind == Kind.RECV and _at_its_end(state[op.case.channel])
        if op.result == Result.REFUSED:
            return any(case.kind != Kind.RECV and state[case.channel].closed for case in op.cases)
        return not any(self._is_ready(case, state[case.channel]) for case in op.cases)

    def _is_ready(self, case: Case, channel: Channel) -> bool:
        """True if the case needs no partner: whether one waits, a history does not show."""
        if case.kind == Kind.RECV:
            return bool(channel.inside) or channel.closed
        return channel.closed or len(channel.inside) < self._capacities[case.channel]

    # -- two operations

    def _meet(self, sender: Operation, receiver: Operation, state: State) -> bool:
        """True if the two can have been a rendezvous now."""
        if sender.result == receiver.result == Result.OPEN:
            return False  # nobody has seen it
        for send in _possible(sender, Kind.SEND):
            if self._capacities[send.channel] == 0 and not state[send.channel].closed:
                for recv in _possible(receiver, Kind.RECV):
                    if recv.channel == send.channel and self._got(receiver, send.value):
                        return True
        return False

    def _got(self, receiver: Operation, value: int) -> bool:
        if receiver.result == Result.OPEN:
            return value not in self._received
        return receiver.value == value


def _without_effectless(client: Client) -> list[Operation]:
    return [op for op in client if op.result != Result.GAVE_UP]


def _advanced(placed: tuple[int, ...], number: int) -> tuple[int, ...]:
    return (*placed[:number], placed[number] + 1, *placed[number + 1 :])


def _with(state: State, number: int, channel: Channel) -> State:
    return (*state[:number], channel, *state[number + 1 :])


def _at_its_end(channel: Channel) -> bool:
    return channel.closed and not channel.inside


def _possible(op: Operation, kind: Kind) -> list[Case]:
    """Return the cases of a kind that may have taken effect."""
    if op.result == Result.OPEN:
        return [case for case in op.cases if case.kind == kind]
    return [op.case] if op.result == Result.DONE and op.case.kind == kind else []


def is_linearizable(capacities: Sequence[int], clients: Sequence[Client], most: int = 300_000) -> bool:
    """True if the operations can have taken effect one after the other (or two at once, in a rendezvous).

    Args:
        capacities: of the channels.
        clients: the operations of each goroutine, in its order.
        most: configurations to look at.

    Raises:
        TooManySteps: there were more.
    """
    return Search(capacities, clients, most).run()
