"""The checker of histories: it accepts the right ones, and refuses each wrong one."""

from __future__ import annotations

from linearizability import LATER, Case, Kind, Operation, Result, is_linearizable

DONE, ENDED, REFUSED, BLOCKED, GAVE_UP = (
    Result.DONE,
    Result.ENDED,
    Result.REFUSED,
    Result.BLOCKED,
    Result.GAVE_UP,
)


def send(at: tuple[int, int], value: int, result: Result = DONE, channel: int = 0) -> Operation:
    return Operation(*at, (Case(Kind.SEND, channel, value),), result)


def recv(at: tuple[int, int], value: int = 0, result: Result = DONE, channel: int = 0) -> Operation:
    return Operation(*at, (Case(Kind.RECV, channel),), result, 0, value)


def close(at: tuple[int, int], result: Result = DONE) -> Operation:
    return Operation(*at, (Case(Kind.CLOSE, 0),), result)


def killed(op: Operation) -> Operation:
    return op._replace(returned=LATER, result=Result.OPEN, value=0)


def right(cap: int, *clients: list[Operation]) -> bool:
    return is_linearizable([cap, cap], clients)


def test_values_leave_in_the_order_in_which_they_came() -> None:
    sends = [send((1, 2), 1), send((3, 4), 2)]
    assert right(2, sends, [recv((5, 6), 1), recv((7, 8), 2)])
    assert not right(2, sends, [recv((5, 6), 2), recv((7, 8), 1)])


def test_sends_at_the_same_time_may_come_in_either_order() -> None:
    for first, second in ((1, 2), (2, 1)):
        assert right(2, [send((1, 4), 1)], [send((2, 3), 2)], [recv((5, 6), first), recv((7, 8), second)])


def test_receivers_at_the_same_time_may_return_in_either_order() -> None:
    sends = [send((1, 2), 1), send((3, 4), 2)]
    assert right(2, sends, [recv((5, 9), 2)], [recv((6, 8), 1)])
    assert not right(2, sends, [recv((5, 6), 2)], [recv((7, 8), 1)])


def test_a_value_that_was_not_sent_yet() -> None:
    assert not right(1, [send((3, 4), 1)], [recv((1, 2), 1)])
    assert not right(1, [], [recv((1, 2), 1)])


def test_a_value_comes_once() -> None:
    assert not right(1, [send((1, 2), 1)], [recv((3, 4), 1)], [recv((5, 6), 1)])


def test_a_value_that_was_lost() -> None:
    assert not right(2, [send((1, 2), 1), send((3, 4), 2)], [recv((5, 6), 2)])


def test_no_more_than_the_capacity() -> None:
    assert right(1, [send((1, 2), 1), send((3, 4), 2, BLOCKED)])
    assert not right(1, [send((1, 2), 1), send((3, 4), 2)])
    assert not right(2, [send((1, 2), 1), send((3, 4), 2, BLOCKED)])


def test_a_rendezvous_takes_both_at_once() -> None:
    assert right(0, [send((1, 4), 1)], [recv((2, 3), 1)])
    assert not right(0, [send((1, 2), 1)], [recv((3, 4), 1)])
    assert not right(0, [send((1, 2), 1)])


def test_an_empty_channel() -> None:
    assert right(1, [recv((1, 2), 0, BLOCKED), send((3, 4), 1)])
    assert not right(1, [send((1, 2), 1)], [recv((3, 4), 0, BLOCKED)])


def test_a_closed_channel() -> None:
    assert right(1, [send((1, 2), 1), close((3, 4)), recv((5, 6), 1), recv((7, 8), 0, ENDED)])
    assert not right(1, [send((1, 2), 1), close((3, 4))], [recv((5, 6), 0, ENDED)])
    assert not right(1, [recv((1, 2), 0, ENDED)])
    assert right(1, [close((1, 2)), send((3, 4), 1, REFUSED), close((5, 6), REFUSED)])
    assert not right(1, [close((1, 2)), send((3, 4), 1)])
    assert not right(1, [close((1, 2)), close((3, 4))])
    assert not right(1, [close((1, 2), REFUSED)])
    assert not right(1, [send((1, 2), 1, REFUSED)], [close((3, 4))])
    assert not right(1, [close((1, 2)), recv((3, 4), 0, BLOCKED)])
    assert right(0, [close((2, 3))], [send((1, 4), 1, REFUSED)])
    assert not right(0, [close((1, 2))], [send((3, 6), 1)], [recv((4, 5), 1)])


def test_a_select_sees_all_its_channels_at_one_instant() -> None:
    """A value is always in one of the two channels: it may not be missed in both."""
    moves = [send((1, 2), 1, channel=0), send((3, 4), 2, channel=1), recv((5, 6), 1, channel=0)]
    look = Operation(0, 0, (Case(Kind.RECV, 0), Case(Kind.RECV, 1)), BLOCKED)
    assert not right(1, moves, [look._replace(called=3, returned=7)])
    assert right(1, moves, [look._replace(called=1, returned=7)])
    taken = look._replace(result=DONE, chosen=1, value=2)
    assert right(1, moves, [taken._replace(called=3, returned=7)])
    assert not right(1, moves, [taken._replace(called=1, returned=2)])


def test_selects_meet() -> None:
    both = (Case(Kind.RECV, 1), Case(Kind.SEND, 0, 7))
    one = Operation(1, 4, both, DONE, 1)
    assert right(0, [one], [recv((2, 3), 7)])
    assert not right(0, [one], [recv((2, 3), 7, channel=1)])
    assert not right(0, [one])


def test_operation_that_gave_up_has_done_nothing() -> None:
    assert right(1, [send((1, 2), 1, GAVE_UP), recv((3, 4), 0, BLOCKED)])
    assert not right(1, [send((1, 2), 1, GAVE_UP), recv((3, 4), 1)])


def test_an_operation_of_the_dead_may_have_been() -> None:
    lost = killed(send((1, 2), 1))
    assert right(1, [lost], [recv((3, 4), 1)])
    assert right(1, [lost], [recv((3, 4), 0, BLOCKED)])
    assert right(1, [lost], [send((3, 4), 2, BLOCKED)])
    assert right(1, [lost], [send((3, 4), 2)])
    assert not right(1, [lost], [recv((3, 4), 1)], [recv((5, 6), 1)])
    assert not right(1, [killed(send((3, 4), 1))], [recv((1, 2), 1)])
    taken = killed(recv((5, 6)))
    assert right(1, [send((1, 2), 1)], [taken], [recv((7, 8), 0, BLOCKED)])
    assert right(1, [send((1, 2), 1)], [taken], [recv((7, 8), 1)])
    assert right(0, [send((1, 7), 1)], [taken])
    assert right(1, [killed(close((1, 2)))], [recv((3, 4), 0, ENDED)])
    assert not right(2, [send((1, 2), 1), send((3, 4), 2)], [recv((6, 7), 2)], [recv((8, 9), 1)], [taken])


def test_a_seeded_error_in_a_long_history() -> None:
    """Two hundred operations of eight goroutines that overlap; then two values change places."""
    clients: list[list[Operation]] = []
    for number in range(4):
        clients.append([send((10 * n + number, 10 * n + number + 5), 4 * n + number + 1) for n in range(25)])
    for number in range(4):
        clients.append(
            [recv((10 * n + number + 5, 10 * n + number + 9), 4 * n + number + 1) for n in range(25)]
        )
    assert right(4, *clients)
    early, late = clients[4][3], clients[4][9]
    clients[4][3], clients[4][9] = early._replace(value=late.value), late._replace(value=early.value)
    assert not right(4, *clients)
