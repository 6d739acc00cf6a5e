"""The tree of contexts: chan/context.c, proc/repair_tree.c, and the context of tell_trackers() in proc/repair_tasks.c.

A context is a channel that is closed when it is done.
"""

from __future__ import annotations

from collections.abc import Callable

from model.explorer import Step, Steps, Violation
from model.memory import Cell
from model.queues import gp_fire_all
from model.world import CLOSED, Object, Proc, Tag, World, gp_lock, gp_unlock


class Links:
    """The links of a context, under the lock of the tree. `parent` is for its whole life."""

    def __init__(self, w: World, o: Object, tree: Object, parent: Object | None) -> None:
        self.parent = parent

        def guard(s: bytes | bytearray, me: int) -> None:
            if not w.holds(s, me, tree):
                raise Violation(f"{w.names[me]} uses links of {o.name}, and has no lock of the tree")

        def cell(name: str, value: int = 0, show: Callable[[int], str] = w.show_object) -> Cell:
            return w.memory.cell(f"{o.name}.{name}", value, show, guard=guard)

        self.child, self.next, self.prev = cell("ctx_child"), cell("ctx_next"), cell("ctx_prev")
        self.pins = cell("ctx_pins", show=str)
        self.there = cell("ctx_parent", int(parent is not None), show=str)  # 0 once it is unlinked


def new_context(w: World, parent: Object | None = None) -> Object:
    """Make a context that is linked already."""
    if w.tree is None:
        w.tree = w.new("tree")
    o = w.new("context")
    o.links = Links(w, o, w.tree, parent)
    if parent is not None:
        start, siblings = w.memory.start, parent.links.child.at
        start[o.links.next.at] = start[siblings]
        if start[siblings]:
            start[w.objects[start[siblings] - 1].links.prev.at] = o.number
        start[siblings] = o.number
        start[parent.links.pins.at] += 1
    return o


# ---- context.c


def unlist(w: World, c: Object) -> Steps:
    parent = c.links.parent
    if parent is None or not (yield c.links.there.load()):
        return
    before = yield c.links.prev.load()
    if not before and (yield parent.links.child.load()) != c.number:
        return
    after = yield c.links.next.load()
    yield (w.objects[before - 1].links.next if before else parent.links.child).store(after)
    if after:
        yield w.objects[after - 1].links.prev.store(before)
    yield c.links.next.store(0)
    yield c.links.prev.store(0)


def finish(p: Proc, c: Object, code: int) -> Steps:
    yield from gp_lock(p, c)
    if not (yield c.flags.load()) & CLOSED:
        yield c.value.store(code)
        yield c.flags.set_bits(CLOSED)  # COMMIT
        yield from gp_fire_all(p, c, Tag.CLOSED)
    yield from gp_unlock(p, c)


def gp_context_cancel(p: Proc, c: Object) -> Steps:
    w, tree = p.w, p.w.tree
    yield from gp_lock(p, tree)
    if not (yield c.flags.load()) & CLOSED:
        yield from finish(p, c, 1)
        n = c
        while True:
            child = yield n.links.child.load()
            if child:
                n = w.objects[child - 1]
                yield from finish(p, n, 1)
            elif n is c:
                break
            else:
                yield from unlist(w, n)
                n = n.links.parent
        yield from unlist(w, c)
    yield from gp_unlock(p, tree)


def gp_context_unlink(p: Proc, c: Object) -> Steps:
    w, tree = p.w, p.w.tree
    yield from gp_lock(p, tree)
    if not (yield c.links.pins.load()):
        yield from unlist(w, c)
        yield c.links.there.store(0)
        pins = yield c.links.parent.links.pins.load()
        yield c.links.parent.links.pins.store(pins - 1)
    yield from gp_unlock(p, tree)


# ---- repair_tree.c


def gp_repair_tree(w: World, lock: Callable[[World, Object], Steps]) -> Steps:
    """Go on with a cancel that the dead one was in the middle of, and make the lists anew from `ctx_parent`."""
    if w.tree is None or (yield w.tree.lock.load()) != w.coroner + 1:
        return
    nodes = tuple(o for o in w.objects if o.kind == "context")
    if w.keeps("a cancel that the dead one has begun goes on"):
        yield from end_children(w, nodes, lock)
    if w.keeps("the lists of children are made anew"):
        for i in range(len(nodes)):
            yield nodes[i].links.child.store(0)
            yield nodes[i].links.next.store(0)
            yield nodes[i].links.prev.store(0)
            yield nodes[i].links.pins.store(0)
        for i in range(len(nodes)):
            yield from link_one(w, nodes[i])
    if w.keeps("the lock of the tree is let go"):
        yield w.tree.lock.store(0)


def end_children(w: World, nodes: tuple[Object, ...], lock: Callable[[World, Object], Steps]) -> Steps:
    """Parents come before their children in memory here, so that one pass is enough."""
    for i in range(len(nodes)):
        c, parent = nodes[i], nodes[i].links.parent
        if parent is None or not (yield c.links.there.load()) or (yield c.flags.load()) & CLOSED:
            continue
        if not (yield parent.flags.load()) & CLOSED:
            continue
        yield from lock(w, c)
        yield c.value.store(1)
        yield c.flags.set_bits(CLOSED)
        yield from w.serve(c)
        yield c.lock.store(0)


def link_one(w: World, c: Object) -> Steps:
    parent = c.links.parent
    if parent is None or not (yield c.links.there.load()):
        return
    pins = yield parent.links.pins.load()
    yield parent.links.pins.store(pins + 1)
    if (yield c.flags.load()) & CLOSED:
        return
    after = yield parent.links.child.load()
    yield c.links.next.store(after)
    yield parent.links.child.store(c.number)
    if after:
        yield w.objects[after - 1].links.prev.store(c.number)


# ---- repair_tasks.c


def tell_node(w: World, p: Proc, lock: Callable[[World, Object], Steps]) -> Steps:
    """A member of a group was lost with the process: its context ends, and those below."""
    c = w.member_of.get(p.index)
    if c is None or (yield c.flags.load()) & CLOSED:
        return
    yield from lock(w, c)
    again = w.keeps("a repair looks at a context once more under its lock")
    if not again or not (yield c.flags.load()) & CLOSED:
        yield set_code(c, 2)
        yield c.flags.set_bits(CLOSED)
    yield from w.serve(c)
    yield c.lock.store(0)
    yield from lock(w, w.tree)
    yield from gp_repair_tree(w, lock)


def set_code(c: Object, code: int) -> Step:
    value, flags = c.value.at, c.flags.at

    def run(s: bytearray, me: int) -> None:
        if s[flags] & CLOSED:
            raise Violation(f"{c.name} has ended with {s[value]}, and gets {code}")
        s[value] = code

    return Step(f"{c.name}.value = {code}", run)


# ---- what must hold at an end


def check(w: World, s: bytes) -> None:
    for parent in w.objects:
        if parent.kind != "context":
            continue
        children = [
            o for o in w.objects if o.kind == "context" and o.links.parent is parent and s[o.links.there.at]
        ]
        if s[parent.flags.at] & CLOSED and not all(s[c.flags.at] & CLOSED for c in children):
            raise Violation(f"{parent.name} is done, and a child of it is not")
        if s[parent.links.pins.at] != len(children):
            raise Violation(f"{parent.name} counts {s[parent.links.pins.at]} children of {len(children)}")
        listed: list[int] = []
        at, before = s[parent.links.child.at], 0
        while at and len(listed) < 8:
            if s[w.objects[at - 1].links.prev.at] != before:
                raise Violation(f"the list of children of {parent.name} does not lead back")
            listed.append(at)
            before, at = at, s[w.objects[at - 1].links.next.at]
        if sorted(listed) != sorted(c.number for c in children if not s[c.flags.at] & CLOSED):
            raise Violation(f"{parent.name} lists {listed}, of its children {[c.number for c in children]}")
