"""The map of policy and mechanism: here the C core and the scheduler learn of the modules above them.

The core imports this module at its first need (_proc/begin.py). The classes that stand for objects of the core call
connect() in their own modules: chan= beside Chan, mutex= beside Mutex, and so on.
"""

from __future__ import annotations

from goproc import _call_options, _deaths, _dump, _garbage, _go, _last_reports, _life, _select, _spawn, errors
from goproc import _runtime as _runtime
from goproc import _share as _share  # imported while the program still has descriptors
from goproc import sync as sync
from goproc._pickling import carried, messages
from goproc._proc import begin as begin  # for names that the program imports once it has no descriptor left
from goproc._proc import fatal, host
from goproc._sched import checkpoints, scheduler, timers
from goproc.shm import _core


def _find_body(kind: str) -> None:
    """Import the body of members of groups: a process that has made no group may get a member of one."""
    from goproc import _group as _group


_core.connect(
    # the runtime
    start=host.ensure,
    # how a goroutine waits
    park=scheduler.park,
    parked=scheduler.parked,
    scheduler=vars(scheduler),
    raise_wait_failure=checkpoints.raise_wait_failure,
    offer_turn=checkpoints.offer_turn,
    shield=scheduler.shield,
    runq=scheduler.runq,
    ready=scheduler.runq.append,
    ready_next=scheduler.runq.appendleft,
    timers=timers.heap,
    case_of=_select.case_of,
    # how a value becomes a message
    encode=messages.dumps,
    decode=messages.loads,
    refer=carried.refer,
    # for failures that are never read, and for full memory
    unread=fatal.unread,
    full=_garbage.search,
    # for goroutines whose process has died
    died=_deaths.stored,
    gone=_deaths.gone,
    # exceptions
    error=errors.GoprocError,
    chan_closed=errors.ChanClosed,
    out_of_memory=errors.OutOfSharedMemory,
    owner_died=errors.OwnerDied,
    stopped=errors.RuntimeStopped,
)
_go.connect(
    name_of=_spawn.name_of,
    spawn=_spawn.spawn,
    spawn_local=_spawn.spawn_local,
    checked_labels=_call_options.checked_labels,
    checked_limits=_call_options.checked_limits,
    checked_name=_call_options.checked_name,
)
scheduler.on_dump = _dump.answer
scheduler.on_deadlock = _last_reports.deadlock
fatal.call_later = scheduler.post
_life.find_body = _find_body
