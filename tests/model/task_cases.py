"""Tasks: unstarted goroutines, and their ends."""

from __future__ import annotations

from model.building import Bodies, done, waiting_on
from model.programs import Do
from model.promises import new_promise
from model.tasks import Task
from model.world import Object, World

# ---- tasks


def tasks_world(w: World, takers: str, tasks: int) -> Object:
    """Queues of the processes and the host, some tasks, and a wait group for them."""
    w.idlers = frozenset(takers)
    group = w.new("group")
    w.queues = [w.new("queue", cap=2) for _ in range(len(w.procs) + 1)]
    w.tasks = [Task(w, i + 1, w.new("outcome")) for i in range(tasks)]
    return group


def go(w: World, task: int, queue: int, group: Object | None = None, retries: int = 0) -> Do:
    return Do("go", o=w.queues[queue], n=retries, then=group, task=w.tasks[task - 1])


WORK = Do("work")


def counted_task(w: World) -> Bodies:
    group = tasks_world(w, "B", 1)
    return [(go(w, 1, 1, group), done(group)), (WORK,)]


def stolen_tasks(w: World) -> Bodies:
    tasks_world(w, "B", 2)
    return [(go(w, 1, 0), go(w, 2, 0)), (WORK,)]


def both_work(w: World) -> Bodies:
    group = tasks_world(w, "AB", 1)
    return [(go(w, 1, 1, group, 1), WORK), (WORK,)]


def retried_task(w: World) -> Bodies:
    tasks_world(w, "B", 1)
    return [(go(w, 1, 2, None, 1), done(w.tasks[0].outcome)), (WORK,)]


def two_workers(w: World) -> Bodies:
    group = tasks_world(w, "BC", 1)
    return [(go(w, 1, 1, group), done(group)), (WORK,), (WORK,)]


def promised(w: World) -> Bodies:
    promise = new_promise(w)
    return [(Do("claim", o=promise),), (done(promise),)]


def promised_to_two(w: World) -> Bodies:
    promise = new_promise(w)
    return [(Do("claim", o=promise),), (Do("give up", o=promise), done(promise))]


def kept_by_another(w: World) -> Bodies:
    promise = new_promise(w)
    return [(Do("claim", o=promise),), (Do("keep it", o=promise),)]


def kept_by_two(w: World) -> Bodies:
    promise = new_promise(w)
    return [(Do("keep it", o=promise),), (Do("keep it", o=promise),)]


waiting_on("promise: kept by two, 1 dies", kept_by_two, 1)
waiting_on("promise: claimed and kept, 2 die", promised, 2)
waiting_on("promise: kept by another, 1 dies", kept_by_another, 1, mortal="A")
waiting_on("promise: claimed and given up, 2 die", promised_to_two, 2)
waiting_on("tasks: one that is counted, 2 die", counted_task, 2)
waiting_on("tasks: two that are stolen, 2 die", stolen_tasks, 2)
waiting_on("tasks: two processes that take one", both_work, 1)
waiting_on("tasks: one that may start again", retried_task, 1)

waiting_on("tasks: two workers", two_workers, 1, workers=3, long=True)
waiting_on("tasks: two processes that take one, 2 die", both_work, 2, long=True)
