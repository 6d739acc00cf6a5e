"""Groups: goroutines that belong together. golang.org/x/sync's errgroup, and as a ``with`` block a nursery.

The state of a group is in shared memory, so that it is the same group in every process. A WaitGroup counts the members.
A Semaphore of practically endless units has as many free as members may still start. An Atomic holds a few flags. A
shared variable holds a promise for each error (a promise is a result that is written once). The context is a node of
the cancellation tree. A Group object is only these handles; the task of each member takes them along.

Every member does its own bookkeeping when it ends, in the process where it ran: note the error, cancel the context,
give the slot back, count down. So no goroutine watches it, and wait() is a plain WaitGroup.wait(). The bookkeeping is
done in every case: also if the member was cancelled before it began, and if its arguments cannot be read. If the
process of a member dies, the coroner does it, which finds the member's trackers in its task (shm/layout.h): it counts
down, gives the slot back, and cancels the context. It notes no error; the WaitGroup has the number of the death, and
wait() makes an error of that.

The first failure cancels the members. Goroutine.cancel() needs handles, and each process has only those of the members
that it started. A shared list of handles would be copied by every go(). Instead each process remembers the members that
it started, and has one goroutine that waits for the end of the context and then cancels them. That costs one goroutine
for each process that starts members of a block, for the time of the block. Outside of a block nothing is remembered,
and only the context is cancelled, as in Go.
"""

from __future__ import annotations

import sys
from time import monotonic
from typing import Any, ParamSpec, TypeVar

from goproc import context
from goproc._context import CANCELED, check_parent
from goproc._goroutine import Goroutine
from goproc._group_ending import Ending
from goproc._group_here import here_of
from goproc._group_members import run_member
from goproc._group_state import BLOCK, ENDED, ENDLESS, FLAG_BITS, STOPPING, Shared, trackers
from goproc._pickling import failure
from goproc._public import of_stopped, public
from goproc._sched import scheduler, waits
from goproc._shared_value import Cell
from goproc._spawn import Tracking, name_of, spawn, spawn_local
from goproc._timeouts import check_time
from goproc._tracebacks import ends_at_user, user_line
from goproc.errors import Cancelled
from goproc.shm import _core
from goproc.sync import Atomic, Semaphore, WaitGroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType
    from typing import Literal

    from goproc._sched.g import G
    from goproc.context import AnyContext, Context

T = TypeVar("T")
P = ParamSpec("P")

__all__ = ["Group"]

_PATIENCE = 1.0  # seconds after Ctrl-C in which members should end: a call of C code cannot be cancelled


@public
class Group:
    """Goroutines that belong together: the goroutine that waits for them gets their errors.

    As errgroup::

        g = Group()
        for url in urls:
            g.go(fetch, url)
        g.wait()                        # all have ended; raises the first error

    As a nursery: no member outlives the block, and one that fails takes the others along::

        with Group() as g:
            g.go(produce, ch)
            g.go(consume, ch)           # ExceptionGroup of all errors

    In a block, the first error cancels ``ctx``, cancels the other members, wherever they run, and interrupts the body
    of the block where it waits. An exception of the body does the same, and is then one of the errors. So does the end
    of the context from which the group was made. Being cancelled is not an error. If something stops the block from
    outside (cancel() of its goroutine, a deadline around it, Ctrl-C), that exception leaves the block unchanged, once
    all members have ended; their errors are its ``__cause__``.

    A group can be passed to goroutines, which can start members, too: it is the same group in every process.

    Args:
        limit: how many members may be active at a time; go() waits for a free place. None: any number; 0: none.
        ctx: the context from which the context of the group is derived.

    Attributes:
        ctx: a context, cancelled by the first error with that error as its cause, or at the end of wait() or the block.

    Cost: about 5 us for a group, 2 us a member more than `go`.
    """

    __slots__ = ("__weakref__", "_here", "_shared", "_tracking", "ctx")

    ctx: Context

    @ends_at_user
    def __init__(self, limit: int | None = None, ctx: AnyContext | None = None) -> None:
        limit = _checked_limit(limit)
        if ctx is not None:
            check_parent(ctx)
        self.ctx, _ = context.with_cancel_cause(context.background() if ctx is None else ctx)
        node = self.ctx._node
        assert node is not None
        free = Semaphore(ENDLESS)
        if limit is not None:
            free._limit(ENDLESS, limit)
        flags = Atomic(0 if limit is None else limit + 1 << FLAG_BITS)
        self._shared = Shared(WaitGroup(), free, flags, *Cell[list[Goroutine[Any]]]([]).parts, node)
        self._here = here_of(self._shared)
        self._tracking: Tracking | None = None

    # -- members

    def go(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        """Run a call as a goroutine of this group, as `go` does; wait for a free place first if there is a limit.

        Args:
            f: the function.
            args, kwargs: its arguments.

        Returns:
            The handle of the member. If f raises, result() raises that exception as well; it need not be read.

        Raises:
            PickleError: something cannot be copied.
            TypeError: f is not callable.
            RuntimeError: the group's block has been left.
        """
        self._shared.free.acquire()
        with user_line:
            return self._start(f, args, kwargs, sys._getframe(1), False)

    def try_go(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T] | None:
        """As go(), without waiting: None if there is no free place."""
        if not self._shared.free.try_acquire():
            return None
        with user_line:
            return self._start(f, args, kwargs, sys._getframe(1), False)

    def local(self, f: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Goroutine[T]:
        """As go(), in this process: nothing is copied, the member shares memory with its creator, as for go.local()."""
        self._shared.free.acquire()
        with user_line:
            return self._start(f, args, kwargs, sys._getframe(1), True)

    def _start(
        self, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], frame: FrameType, local: bool
    ) -> Goroutine[Any]:
        """Start a member whose slot is taken."""
        shared = self._shared
        member: Goroutine[Any]
        state = shared.flags.load()
        try:
            if local:
                if f is None or not callable(f):
                    member = spawn_local(f, args, kwargs, "", frame)  # raises the error that names the cause
                call = shared, (f, args, kwargs)
                member = spawn_local(run_member, call, {}, name_of(f), frame, None, trackers(shared))
            else:
                if self._tracking is None:
                    self._tracking = Tracking("group", tuple(shared), trackers(shared))
                member = spawn(f, args, kwargs, name_of(f), -1, frame, self._tracking)
        except BaseException:  # there is no such member, and the place is free again
            shared.free.release()
            raise
        if state & BLOCK:
            self._here.add(member)
        return member

    # -- waiting

    @ends_at_user
    def wait(self, timeout: float | None = None) -> None:
        """Wait until all members have ended, then raise the first error there was.

        Args:
            timeout: seconds to wait at most; None waits for ever.

        Raises:
            TimeoutError: some have not ended in time; they go on.
            BaseException: the exception of the first member that failed.
        """
        shared = self._shared
        until = None if timeout is None else monotonic() + check_time(timeout, "Group.wait(timeout=...)")
        while True:
            try:
                shared.members.wait(None if until is None else until - monotonic())
                break
            except Cancelled as exc:
                if exc is not self._here.interrupt:
                    raise  # else it is the first error that we wait for
        if not shared.flags.load() & BLOCK:
            _core.context_cancel(shared.node, CANCELED, None)
        noted = Cell.of(shared.errors, shared.noting).load()
        error: BaseException | None
        if noted or shared.members._lost[1]:
            error = self._here.raised = noted[0].exception() if noted else self._here.lost()[0]
            assert error is not None
            try:
                raise error
            finally:
                del error

    @property
    def limit(self) -> int | None:
        """The most members that may be active at a time; None: any number."""
        limit = self._shared.flags.load() >> FLAG_BITS
        return limit - 1 if limit else None

    def set_limit(self, limit: int | None) -> None:
        """Change the limit while no member is active.

        Args:
            limit: None or a negative number: any number of members.

        Raises:
            RuntimeError: ``errgroup: modify limit while %d goroutines in the group are still active``.
        """
        limit = _checked_limit(limit)
        shared = self._shared
        old = self.limit
        active = shared.members.count
        before, after = (ENDLESS if n is None else n for n in (old, limit))
        if active or not shared.free._limit(before, after):
            raise RuntimeError(
                f"errgroup: modify limit while {active or 1} goroutines in the group are still active"
            )
        new = 0 if limit is None else limit + 1
        shared.flags.add((new << FLAG_BITS) - (shared.flags.load() >> FLAG_BITS << FLAG_BITS))

    # -- as a block

    def __enter__(self) -> Group:
        if self._shared.flags.or_(BLOCK) & BLOCK:
            raise RuntimeError("a Group can be a with block only once")
        here = self._here
        if _core.on_scheduler_thread():
            here.body = scheduler.current
        here.watch()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> Literal[False]:
        me = self._leave_body()
        ending = Ending(exc, me, self._here)
        if ending.cause is not None:
            self._stop(ending.cause)
        self._join(me, ending)
        ending.errors += self._end_block()
        if not ending.errors and ending.outside is None and self._shared.flags.load() & STOPPING:
            # The members were stopped by the end of the context around this group.
            why = context.cause(self.ctx)
            assert why is not None
            ending.errors.append(why)
        raised = ending.exception()
        if raised is None or raised is exc:
            return False
        with user_line:
            if raised is ending.outside:
                raise raised
            raise raised from None

    def _leave_body(self) -> G | None:
        """Note that the body has ended; return its goroutine. An interrupt that has not reached the body is dropped."""
        here = self._here
        me, here.body = here.body, None
        if me is not None and me.interrupt is not None and me.interrupt is here.interrupt:
            me.interrupt = None
        return me

    def _end_block(self) -> list[BaseException]:
        """End the block once all members have ended; return their errors, those of lost members last."""
        shared, here = self._shared, self._here
        shared.flags.or_(ENDED)
        scheduler.shield(1)
        try:
            shared.members.wait()  # for members that came between the last end and the flag
            _core.context_cancel(shared.node, CANCELED, None)
            lost = here.lost()
            here.leave()
        finally:
            scheduler.shield(-1)
        noted = Cell.of(shared.errors, shared.noting).load()
        errors = [error for p in noted if (error := p.exception()) is not None]
        return errors + lost

    def _join(self, me: G | None, ending: Ending) -> None:
        """Wait for all members, even if something stops the wait: the first exception that does becomes `ending.outside`."""
        deadline = None if me is None else me.deadline
        give_up = monotonic() + _PATIENCE if ending.interrupted else None
        try:
            while True:
                try:
                    self._shared.members.wait(
                        timeout=None if give_up is None else max(0.0, give_up - monotonic())
                    )
                    if ending.outside is None:
                        waits.sleep(0)  # Ctrl-C may have met the last member, and is for us
                    return
                except BaseException as exc:  # any exception that ends the wait ends the block
                    if ending.interrupted and isinstance(exc, (KeyboardInterrupt, TimeoutError)):
                        assert ending.outside is not None
                        raise ending.outside from None  # asked twice, or for long: the members do not react
                    if ending.outside is None:
                        ending.outside = exc
                    if give_up is None and ending.interrupted:
                        give_up = monotonic() + _PATIENCE
                    self._stop(exc)
                    if me is not None:
                        me.deadline = None  # it has passed, and would end every further wait at once
        finally:
            if me is not None:
                me.deadline = deadline

    def _stop(self, cause: BaseException) -> None:
        """Cancel everything in this block."""
        self._shared.flags.or_(STOPPING)
        _core.context_cancel(self._shared.node, CANCELED, failure.pack(cause))
        self._here.cancel()

    # -- as a value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Group) and self._shared.members == other._shared.members

    def __hash__(self) -> int:
        return hash(self._shared.members)

    def __reduce__(self) -> Any:
        return _restore, (tuple(self._shared), self.ctx)

    def __repr__(self) -> str:
        try:
            limit = "" if self.limit is None else f" of {self.limit}"
            return f"<Group of {self._shared.members.count}{limit} active>"
        except RuntimeError:
            return of_stopped("Group")


def _restore(shared: tuple[Any, ...], ctx: Context) -> Group:
    group = Group.__new__(Group)
    group._shared = Shared(*shared)
    group._here = here_of(group._shared)
    group._tracking = None
    group.ctx = ctx
    return group


def _checked_limit(limit: Any) -> int | None:
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise TypeError(f"the limit of a Group is a number of goroutines, not {type(limit).__name__}")
    return None if limit is None or limit < 0 else min(limit, ENDLESS >> 8)
