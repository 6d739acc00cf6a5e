"""Contexts: a cancel goes down the tree."""

from __future__ import annotations

from model.building import Bodies, recv, waiting_on
from model.contexts import new_context
from model.programs import Do
from model.world import World


def cancelled(w: World) -> Bodies:
    """A cancels the parent, B waits for the child."""
    parent = new_context(w)
    child = new_context(w, parent)
    return [(Do("cancel", o=parent),), (recv(child),)]


def cancelled_twice(w: World) -> Bodies:
    """Two cancel at once, a node and one below it, in a tree of four."""
    parent = new_context(w)
    child = new_context(w, parent)
    new_context(w, child)
    new_context(w, parent)
    return [(Do("cancel", o=parent),), (Do("cancel", o=child),)]


def unlinked(w: World) -> Bodies:
    """One of two children goes while the parent is cancelled."""
    parent = new_context(w)
    first = new_context(w, parent)
    new_context(w, parent)
    return [(Do("cancel", o=parent),), (Do("unlink", o=first),)]


def member_lost(w: World) -> Bodies:
    """A has a member of the group whose context B cancels, and drops one that the member has made."""
    context = new_context(w)
    child = new_context(w, context)
    w.member_of[0] = context
    return [(Do("unlink", o=child),), (Do("cancel", o=context),)]


waiting_on("context: cancelled while a member dies", member_lost, 1, locks=2, mortal="A")
waiting_on("context: cancelled, one waits below, 2 die", cancelled, 2, locks=2)
waiting_on("context: two cancel", cancelled_twice, 1, locks=2)
waiting_on("context: cancelled while a child goes, 2 die", unlinked, 2, locks=2)
