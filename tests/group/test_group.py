"""Group: as errgroup, and as a block that no member outlives."""

from __future__ import annotations

import threading

import programs
import pytest
from peek import until

from goproc import (
    Atomic,
    Cancelled,
    Group,
    PickleError,
    RemoteError,
    WaitGroup,
    chan,
    context,
    go,
    goexit,
    sleep,
    yield_now,
)
from goproc._sched import scheduler
from goproc.errors import Canceled, DeadlineExceeded


class Trouble(Exception):
    pass


def fail(text="trouble"):
    raise Trouble(text)


def stay(started=None):
    """Run until cancelled."""
    if started is not None:
        started.done()
    chan().recv()


@pytest.fixture(params=["go", "local"])
def start(request, runtime2):
    return lambda group, f, *args, **kwargs: getattr(group, request.param)(f, *args, **kwargs)


def texts(group):
    return sorted(str(error) for error in group.exceptions)


# -- as errgroup ------------------------------------------------------------------------------------------------------


def test_members_are_goroutines_with_results(start):
    group = Group()
    members = [start(group, lambda n, *, by: n * by, n, by=10) for n in range(20)]
    assert group.wait(timeout=20) is None
    assert [m.result(20) for m in members] == [10 * n for n in range(20)]


def test_the_first_error_is_raised_and_the_others_are_quiet(start):
    group = Group()
    first = start(group, fail, "first")
    first.join(20)
    second = start(group, fail, "second")
    with pytest.raises(Trouble, match=r"^first"):
        group.wait(timeout=20)
    with pytest.raises(Trouble, match=r"^first"):
        group.wait(timeout=20)
    with pytest.raises(Trouble, match="second"):
        second.result(20)


def test_an_error_nobody_asks_for_is_no_panic(tmp_path):
    text = """
    from goproc import Group, go, sleep

    def fail():
        raise ValueError

    def start(group):
        group.go(fail)
        group.local(fail)

    group = Group()
    go(start, group).result()
    try:
        group.wait()
    except ValueError:
        print("caught")
    del group
    sleep(0.05)  # nothing is to happen
    """
    for procs in (1, 2):
        done = programs.run(tmp_path, text, procs=procs)
        assert (done.status, done.out, done.err) == (0, "caught\n", "")


def test_the_error_comes_with_the_traceback_of_the_member(start):
    group = Group()
    start(group, fail)
    with pytest.raises(Trouble) as caught:
        group.wait(timeout=20)
    assert "in fail" in "".join(caught.value.__notes__)


def test_the_first_error_cancels_the_context_and_nothing_else(start):
    group = Group()
    ended = chan(1)
    start(group, lambda group, ended: ended.send(group.ctx.done().recv_ok()), group, ended)
    start(group, fail)
    assert ended.recv(20) == (None, False)
    with pytest.raises(Trouble):
        group.wait(timeout=20)
    assert isinstance(group.ctx.err(), Canceled)
    assert isinstance(context.cause(group.ctx), Trouble)


def test_wait_with_a_timeout(start):
    group, gate = Group(), chan()
    start(group, gate.recv_ok)
    with pytest.raises(TimeoutError):
        group.wait(timeout=0.01)
    assert group.ctx.err() is None
    gate.close()
    group.wait(timeout=20)
    assert isinstance(group.ctx.err(), Canceled)


def test_several_wait_in_several_processes(runtime2):
    group, gate = Group(), chan()
    group.go(lambda gate: gate.recv_ok() and fail(), gate)
    waiting = [go.on(n % 2)(group.wait) for n in range(6)]
    gate.close()
    for error in [g.exception(20) for g in waiting]:
        assert isinstance(error, Trouble)


def test_goexit_is_no_error(start):
    group = Group(1)
    start(group, goexit)
    group.wait(timeout=20)
    assert start(group, int).result(20) == 0
    group.wait(timeout=20)


def test_a_member_cancelled_by_its_handle_is_no_error_and_gives_its_slot_back(start):
    group = Group(1)
    for _ in range(5):
        member = start(group, stay)
        member.cancel()  # sometimes before it began
        group.wait(timeout=20)
        assert isinstance(member.exception(20), Cancelled)


def test_all_members_cancelled_before_they_began(runtime0):
    group, wg = Group(), WaitGroup()
    members = [group.go(stay) for _ in range(10)] + [wg.go(stay) for _ in range(10)]
    for member in members:
        assert member.cancel()
    group.wait(timeout=20)
    wg.wait(timeout=20)


class Unreadable:
    def __reduce__(self):
        return fail, ("cannot be read",)


def test_a_member_whose_arguments_cannot_be_read(runtime2):
    group = Group(1)
    group.go(print, Unreadable())
    with pytest.raises(Trouble, match="cannot be read"):
        group.wait(timeout=20)
    assert group.go(int).result(20) == 0  # it gave its slot back
    wg = WaitGroup()
    member = wg.go(print, Unreadable())
    wg.wait(timeout=20)
    assert isinstance(member.exception(20), Trouble)


def test_an_error_that_cannot_be_pickled(start):
    class Local(Exception):
        def __init__(self, lock):
            super().__init__("has a lock")
            self.lock = lock

    def fails():
        raise Local(threading.Lock())

    group = Group()
    start(group, fails)
    with pytest.raises(RemoteError, match="has a lock"):
        group.wait(timeout=20)


def test_go_that_fails_leaves_the_group_as_it_was(runtime2):
    group = Group(1)
    for _ in range(3):
        with pytest.raises(PickleError, match=r"argument 1 of fail -> _thread.lock"):
            group.go(fail, threading.Lock())
        for method in (group.go, group.try_go, group.local):
            with pytest.raises(TypeError, match="go of nil func value"):
                method(None)
            with pytest.raises(TypeError, match="not callable"):
                method(3)
    assert group.go(int).result(20) == 0
    group.wait(timeout=20)


def test_go_that_waits_for_a_place_can_be_given_up(runtime2):
    group, gate = Group(1), chan()
    group.go(gate.recv_ok)
    with pytest.raises(TimeoutError), context.timeout(0.01):
        group.go(int)
    waiting = go(lambda group: group.go(int), group)
    yield_now()
    waiting.cancel()
    assert isinstance(waiting.exception(20), Cancelled)
    gate.close()
    group.wait(timeout=20)
    assert group.go(int).result(20) == 0
    group.wait(timeout=20)


def test_limits(runtime0):
    assert Group().limit is None
    assert Group(-1).limit is None
    assert Group(0).limit == 0
    group = Group(5)
    for limit in (2, 7, None, 3, 0, -1):
        group.set_limit(limit)
        assert group.limit == (limit if limit is not None and limit >= 0 else None)
        assert (group.try_go(int) is None) == (limit == 0)
        group.wait(timeout=20)
    for bad in (True, 1.5, "3"):
        with pytest.raises(TypeError):
            Group(bad)
        with pytest.raises(TypeError):
            group.set_limit(bad)


def test_a_member_can_start_members(start):
    def tree(group, depth, n):
        n.add(1)
        if depth:
            for _ in range(3):
                start_one(group, tree, group, depth - 1, n)

    def start_one(group, f, *args):
        group.go(f, *args)

    group, n = Group(), Atomic(0)
    start(group, tree, group, 3, n)
    group.wait(timeout=20)
    assert n.load() == 1 + 3 + 9 + 27


def test_a_group_is_a_value(runtime2):
    group = Group(3)
    other = go.on(1)(lambda group: group, group).result(20)
    assert other == group and hash(other) == hash(group) and other != Group(3)
    assert other.ctx == group.ctx
    assert other.limit == 3
    assert repr(group) == "<Group of 0 of 3 active>"
    assert go.on(1)(lambda group: group.try_go(int).result(), group).result(20) == 0
    group.wait(timeout=20)
    assert other.ctx.err() is not None


# -- as a block -------------------------------------------------------------------------------------------------------


def test_the_block_ends_when_all_have_ended(start):
    gate, ended = chan(), Atomic(0)
    with Group() as group:
        for _ in range(5):
            start(group, lambda gate, ended: gate.recv_ok() and ended.add(1), gate, ended)
        assert ended.load() == 0
        go.local(gate.close)
    assert ended.load() == 5
    assert isinstance(group.ctx.err(), Canceled)


def test_an_empty_block(runtime0):
    with Group():
        pass


def test_the_first_error_cancels_the_rest(start):
    started = WaitGroup()
    started.add(6)
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        members = [start(group, stay, started) for _ in range(6)]
        started.wait()
        start(group, fail)
    assert texts(caught.value) == ["trouble"]
    assert [type(m.exception(20)) for m in members] == [Cancelled] * 6
    assert isinstance(context.cause(group.ctx), Trouble)


def test_members_that_have_not_begun_do_not(runtime0):
    begun = Atomic(0)
    with pytest.raises(ExceptionGroup), Group() as group:
        group.local(fail)
        for _ in range(20):
            group.local(begun.add, 1)
    assert begun.load() == 0


def test_all_errors_are_in_the_group(start):
    def fails_when_cancelled(started, text):
        try:
            stay(started)
        finally:
            fail(text)

    started = WaitGroup()
    started.add(3)
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        for text in "abc":
            start(group, fails_when_cancelled, started, text)
        started.wait()
        start(group, fail, "first")
    assert texts(caught.value) == ["a", "b", "c", "first"]
    assert str(caught.value.exceptions[0]) == "first"
    assert "in fail" in "".join(caught.value.exceptions[0].__notes__)


def test_an_exception_of_the_body_cancels_the_members_and_is_in_the_group(start):
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        member = start(group, stay)
        raise KeyError("body")
    assert [repr(e) for e in caught.value.exceptions] == ["KeyError('body')"]
    assert isinstance(member.exception(20), Cancelled)
    assert isinstance(context.cause(group.ctx), KeyError)


def test_an_error_interrupts_a_body_that_waits(start):
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        start(group, fail)
        chan().recv()
        raise AssertionError("the body went on")
    assert texts(caught.value) == ["trouble"]
    sleep(0)  # and nothing of it is left to be raised later
    yield_now()


def test_an_error_that_comes_when_the_body_has_ended_interrupts_nothing_else(runtime2):
    with pytest.raises(ExceptionGroup), Group() as group:
        group.local(fail)
        yield_now_without_checking()
    chan(1).send(1)
    sleep(0.001)  # nothing is to happen


def yield_now_without_checking():
    """Let the members run, and return even if that interrupts the caller: the end of a body that never waits."""
    scheduler.shield(1)
    try:
        yield_now()
        yield_now()
    finally:
        scheduler.shield(-1)


def test_a_body_that_catches_the_interrupt(start):
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        start(group, fail)
        try:
            chan().recv()
        except Cancelled:
            pass
    assert texts(caught.value) == ["trouble"]


def test_wait_in_a_block_raises_the_first_error_which_counts_once(start):
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        start(group, fail)
        try:
            group.wait()
        except Trouble as error:
            assert group.ctx.err() is not None
            raise error
    assert texts(caught.value) == ["trouble"]


def test_wait_in_a_block_is_not_its_end(start):
    with Group() as group:
        start(group, int)
        group.wait()
        assert group.ctx.err() is None
        assert start(group, int).result(20) == 0


def test_blocks_in_blocks(start):
    inner_ended = Atomic(0)
    with pytest.raises(ExceptionGroup) as caught, Group() as outer:
        try:
            with Group() as inner:
                member = start(inner, stay)
                start(outer, fail)
                stay()
        finally:
            inner_ended.add(1)
            assert isinstance(member.exception(20), Cancelled)
    assert inner_ended.load() == 1
    assert texts(caught.value) == ["trouble"]


def test_an_inner_group_of_errors_is_an_error_of_the_outer(start):
    with pytest.raises(ExceptionGroup) as caught, Group() as outer:
        start(outer, stay)
        with Group() as inner:
            start(inner, fail)
    assert texts(caught.value.exceptions[0]) == ["trouble"]


def test_a_member_with_a_block_of_its_own(start):
    def member(text):
        with Group() as group:
            group.go(stay)
            group.go(fail, text)

    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        start(group, member, "deep")
    (inner,) = caught.value.exceptions
    assert isinstance(inner, ExceptionGroup)
    assert texts(inner) == ["deep"]


def test_members_started_elsewhere_are_cancelled_too(runtime4):
    def starts(group, started, n):
        for _ in range(n):
            group.go(stay, started)
        stay(started)

    started = WaitGroup()
    started.add(12)
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        for _ in range(3):
            group.go(starts, group, started, 3)
        started.wait()
        group.go(fail)
    assert texts(caught.value) == ["trouble"]


def test_the_goroutine_of_the_block_is_cancelled(runtime2):
    def owner(started, in_body):
        with Group() as group:
            group.go(stay, started)
            group.local(stay, started)
            if in_body:
                chan().recv()

    for in_body in (True, False):
        started = WaitGroup()
        started.add(2)
        g = go(owner, started, in_body)
        started.wait(timeout=20)
        g.cancel()
        error = g.exception(20)
        assert isinstance(error, Cancelled)  # bare: the goroutine ends quietly
        assert error.__cause__ is None


def test_errors_while_the_block_is_stopped_from_outside_are_its_cause(runtime2):
    def member(started):
        try:
            stay(started)
        finally:
            fail("while cleaning up")

    def owner(started):
        with Group() as group:
            group.go(member, started)

    started = WaitGroup()
    started.add(1)
    g = go(owner, started)
    started.wait(timeout=20)
    g.cancel()
    error = g.exception(20)
    assert isinstance(error, Cancelled)
    assert texts(error.__cause__) == ["while cleaning up"]


def test_a_deadline_around_the_block(start):
    with pytest.raises(DeadlineExceeded), context.timeout(0.02), Group() as group:
        member = start(group, stay)
    assert isinstance(member.exception(20), Cancelled)
    with pytest.raises(DeadlineExceeded), context.timeout(0.02), Group() as group:
        start(group, stay)
        stay()


def test_a_deadline_in_the_body_is_an_error_of_the_body(start):
    with pytest.raises(ExceptionGroup) as caught, Group() as group:
        start(group, stay)
        with context.timeout(0.01):
            stay()
    assert isinstance(caught.value.exceptions[0], DeadlineExceeded)


def test_the_context_around_the_group_ends(start):
    ctx, cancel = context.with_cancel_cause(context.background())
    with pytest.raises(ExceptionGroup) as caught, Group(ctx=ctx) as group:
        member = start(group, stay)
        cancel(Trouble("outside"))
        stay()
    assert texts(caught.value) == ["outside"]
    assert isinstance(member.exception(20), Cancelled)


def test_goexit_in_the_body(runtime2):
    def owner(started):
        with Group() as group:
            group.go(stay, started)
            started.wait()
            goexit()

    started = WaitGroup()
    started.add(1)
    assert go(owner, started).result(20) is None


def test_go_after_the_block_has_ended(start):
    with Group() as group:
        pass
    with pytest.raises(RuntimeError, match="go on a Group whose block has ended"):
        start(group, int)
    with pytest.raises(RuntimeError, match="only once"), group:
        pass


def test_a_long_block_forgets_members_that_have_ended(runtime0):
    with Group() as group:
        for _ in range(1000):
            group.go(int).join()
        assert len(group._here._members) <= 128


def test_a_block_in_a_thread(runtime2):
    caught = []

    def thread():
        try:
            with Group() as group:
                group.go(stay)
                group.go(fail)
        except ExceptionGroup as error:
            caught.extend(texts(error))

    t = threading.Thread(target=thread)
    t.start()
    until(lambda: not t.is_alive())
    assert caught == ["trouble"]


def test_ctrl_c_in_a_block(tmp_path):
    text = """
    from goproc import Group, dump, sleep

    def stay(n):
        try:
            print("started", flush=True)
            sleep(3600)
        finally:
            print("cleaned up", n, flush=True)

    def start(n):
        while "goroutine 1 [sync.WaitGroup.Wait]" not in dump():
            sleep(0.001)
        stay(n)

    try:
        with Group() as group:
            group.go(start, 1)
    finally:
        print("left", flush=True)
    """
    for procs in (1, 2):
        with programs.start(tmp_path, text, procs=procs) as program:
            program.wait_for("started\n")
            program.kill(number=2)
            done = program.wait()
        assert done.status == 130
        assert done.out == "started\ncleaned up 1\nleft\n"


def test_a_member_whose_process_is_killed(tmp_path):
    """By default that ends the program; nobody waits for the member for ever."""
    text = """
    from goproc import Group, go, proc, sleep

    def member():
        if proc() == 1:
            print("started", flush=True)
        sleep(3600)

    with Group() as group:
        for _ in range(64):
            group.go(member)
        go.on(1)(member)
    """
    with programs.start(tmp_path, text, procs=2) as program:
        program.wait_for("started")
        program.kill(program.worker(1))
        done = program.wait()
    assert done.status == 2
    assert "SIGKILL" in done.err


@pytest.mark.parametrize("procs", [1, 2])
def test_a_group_that_waits_for_ever_is_a_deadlock(tmp_path, procs):
    text = """
    from goproc import Group, chan
    with Group() as group:
        group.go(chan().recv)
        group.local(chan().recv)
    """
    done = programs.run(tmp_path, text, procs=procs)
    assert done.status == 2
    assert done.err.startswith("fatal error: all goroutines are asleep - deadlock!")


def test_many_blocks_at_once(runtime4, long):
    """Whatever the order of events: every block ends, with the errors of its own members."""

    def block(n):
        try:
            with Group(limit=3) as group:
                for i in range(5):
                    group.go(member, n, i)
        except ExceptionGroup as caught:
            return texts(caught)
        return []

    def member(n, i):
        if i % 2:
            yield_now()
        if n % 3 == 1 and i == 3:
            raise Trouble(f"{n}")
        if n % 3 == 1 and i == 4:
            stay()

    blocks = [go(block, n) for n in range(2000 if long else 200)]
    for n, g in enumerate(blocks):
        assert g.result(40) == ([str(n)] if n % 3 == 1 else [])
