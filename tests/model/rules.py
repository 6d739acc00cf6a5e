"""The rules that the protocol rests on, each with a configuration that goes wrong without it.

A name stands in the source of the model where the rule is kept: `if w.keeps("...")`. Those of the journal's records and their
operands are made up there: "the journal has PROMOTE.e".
"""

from __future__ import annotations

RENDEZVOUS = "channel: a send and a receive, 2 die"
BUFFER = "channel: with a buffer, 2 die"
TASK = "tasks: one that is counted, 2 die"
HANDED = "mutex: handed over"
LOCK = "lock: three processes, 2 die"
BELL = "doorbell: two tellers, 2 die"
HANDLE = "collector: a handle in a message"
EXTENTS = "pages: an extent that is given back, 2 die"
CANCEL = "context: cancelled, one waits below, 2 die"
WATCHED = "watching: two that end, 2 die"

RULES = {
    # -- the journal: its records and their operands
    "the journal has HANDOFF": RENDEZVOUS,
    "the journal has HANDOFF.b": RENDEZVOUS,
    "the journal has HANDOFF.c": RENDEZVOUS,
    "the journal has HANDOFF.d": RENDEZVOUS,
    "the journal has TAKE": RENDEZVOUS,
    "the journal has TAKE.b": RENDEZVOUS,
    "the journal has TAKE.c": RENDEZVOUS,
    "the journal has TAKE.d": RENDEZVOUS,
    "the journal has BUFPUT": BUFFER,
    "the journal has BUFPUT.c": BUFFER,
    "the journal has BUFPUT.d": BUFFER,
    "the journal has BUFGET": BUFFER,
    "the journal has BUFGET.c": BUFFER,
    "the journal has BUFGET.d": BUFFER,
    "the journal has PROMOTE": BUFFER,
    "the journal has PROMOTE.b": BUFFER,
    "the journal has PROMOTE.c": BUFFER,
    "the journal has PROMOTE.d": BUFFER,
    "the journal has PROMOTE.e": BUFFER,
    "the journal has FIRE": HANDED,
    "the journal has FIRE.b": HANDED,
    "the journal has GRANT": HANDED,
    "the journal has GRANT.b": HANDED,
    "the journal has GRANT.d": HANDED,
    "the journal has GRANT.e": HANDED,
    "the journal has TRACK": TASK,
    "the journal has TRACK.c": TASK,
    "the journal has TRACK.d": TASK,
    "the journal has TRACK.e": TASK,
    "the journal has OUTCOME": TASK,
    "the journal has OUTCOME.c": TASK,
    "the journal has OUTCOME.d": TASK,
    "the journal has OUTCOME.e": TASK,
    "the operands of a record come before its op": BUFFER,
    # -- locks
    "a lock is announced before it is tried": RENDEZVOUS,
    "a lock is let go before it is forgotten": RENDEZVOUS,
    "who waited for a lock takes it with WAITERS": LOCK,
    "who sleeps for a lock says so": LOCK,
    "a lock is forgotten after its sleepers are woken": LOCK,
    "all who sleep for a lock of the dead are woken": LOCK,
    "R1: step 1 of all deaths comes before any wait": "select: two that meet",
    # -- orders of the living
    "O1: the journal is closed before the peer is told": RENDEZVOUS,
    "O2: who was not told takes the lock of the fired case": RENDEZVOUS,
    "who was not told takes the bit back": BUFFER,
    "a wait with a timer does not count as told": "select: a timer that is reset",
    "a put is committed before its block is the channel's": BUFFER,
    "a locked mutex always has an owner": "mutex: two take it, 2 die",
    "who was woken and gives up wakes another": "mutex: of the dead",
    "who gives up wakes another for a lock of the dead": "mutex: of the dead",
    "who leaves a semaphore lets those behind go": "semaphore: one gives up in front",
    "a writer that gives up lets the readers go": "rwmutex: a writer gives up",
    "who was signalled and gives up signals another": "condition: who is signalled gives up",
    "a task is the queue's after it is in the ring": TASK,
    "a task is claimed before the ring lets it go": TASK,
    "stolen tasks are the thief's before the ring lets them go": TASK,
    "a goroutine leaves its group before it has an outcome": TASK,
    "an outcome leaves its place to the call of a goroutine that may start again": "tasks: two processes that take one",
    "a goroutine with an outcome does not start again": "tasks: two processes that take one",
    # -- the repair
    "a repair redoes what was committed": RENDEZVOUS,
    "redo: a block that was handed off is the receiver's": RENDEZVOUS,
    "redo: a block that was taken is the dead one's": RENDEZVOUS,
    "redo: a block that was put is the channel's": BUFFER,
    "redo: a block that was got is the dead one's": BUFFER,
    "redo: a block that moved up is the channel's": BUFFER,
    "redo: the tail goes on when a sender has moved up": BUFFER,
    "redo: who was fired leaves the queue": RENDEZVOUS,
    "redo: who is in no queue is not linked": BUFFER,
    "redo: what was granted is taken": HANDED,
    "redo: a share that was granted is counted": "semaphore: one unit, 2 die",
    "redo: a task that was counted says so": TASK,
    "redo: a task without an outcome is the dead one's": TASK,
    "a repair rebuilds the queues": RENDEZVOUS,
    "a repair restores the ring": TASK,
    "a repair makes true what holds at rest": BUFFER,
    "a repair tells those who wait for a timer": "select: a timer that becomes due",
    "the value follows the shares": "semaphore: one unit, 2 die",
    "all look at their waiters after a death": BUFFER,
    "blocks of the dead are freed after its queues": RENDEZVOUS,
    "what the dead had of objects comes back": "mutex: two take it, 2 die",
    "the state of a process is read before its incarnation": "mutex: two take it, 2 die",
    "a process that is not replaced is dead before it is repaired": "mutex: the dead are not replaced",
    "a signal that the dead one has got goes to another": "condition: a signal, two wait",
    "a promise that the dead one had begun to claim is broken": "promise: claimed and kept, 2 die",
    "a task of the dead that had not begun runs elsewhere": TASK,
    "a task of the dead that was not made is not counted": TASK,
    "the group of a lost goroutine is told": TASK,
    # -- the doorbell, and the detector of deadlocks
    "the lower levels of an inbox come before the upper": BELL,
    "an inbox is drained from the upper level down": BELL,
    "park is set before the last look": BELL,
    "who parks looks once more": BELL,
    "all processes are nudged after a death": BELL,
    "the number of a scan is raised before the nudge": BELL,
    "a process is woken after a death whatever its park word says": BELL,
    "a thread is marked before it is counted": "detector: a thread that is told",
    "the detector looks twice": "detector: three that post in turn",
    "a process is active before it drains": "detector: three that post in turn",
    # -- many waits of one goroutine
    "a waiter is pushed before its collector is fired": WATCHED,
    "what a dead teller has not pushed is pushed": WATCHED,
    "what a dead teller has pushed is not pushed again": WATCHED,
    "who collects takes the lock of what was fired": WATCHED,
    "a collector is armed before it looks": WATCHED,
    # -- handles, and the collector
    "an object in a message is the collector's": HANDLE,
    "a sender holds an object until its message is complete": HANDLE,
    "a receiver holds an object before it frees the message": HANDLE,
    "who frees an object owns it": HANDLE,
    "the collector looks twice": HANDLE,
    "the collector's lock goes with the dead": HANDLE,
    "handles of the dead are forgotten": HANDLE,
    "a holder raises the version": "collector: a handle that is passed on",
    "the version is read before the holders": "collector: a handle that is passed on",
    "what is in an object that lives, lives": "collector: an object in another's buffer",
    # -- pages and extents
    "who allocates a block looks at its page once more": "pages: a page of blocks",
    "the taker puts a fence into all processes": "pages: a page of blocks",
    "the taker looks at the blocks once more": "pages: a page of blocks",
    "a hole gets memory before it is used": EXTENTS,
    "an extent has its owner before it is one": EXTENTS,
    "a free extent is claimed by its class, not by its tag": EXTENTS,
    "who takes an extent looks at it once more": EXTENTS,
    "the reclaimer's lock goes with the dead": EXTENTS,
    "a page that the dead one was taking is restored": EXTENTS,
    "a page gets its memory back before it is restored": EXTENTS,
    # -- contexts
    "a cancel that the dead one has begun goes on": CANCEL,
    "the lists of children are made anew": CANCEL,
    "the lock of the tree is let go": CANCEL,
}
