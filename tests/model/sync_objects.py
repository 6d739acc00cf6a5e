"""Locks, semaphores, wait groups: chan/sync.c and what of proc/repair_*.c is about them."""

from __future__ import annotations


def gp_sync_step(p, case, woken):
    raise NotImplementedError
    yield


def gp_sync_settle(p, o):
    return
    yield


def gp_mutex_pass(p, o):
    return
    yield


def gp_case_undo(p, case):
    return
    yield


def gp_add_share(w, o, sd):
    return
    yield


def redo_grant(w, p, o, sd):
    return
    yield


def follow_shares(w, o):
    return
    yield


def repair_settle(w, o):
    return
    yield


def take_back(w, p, o):
    return
    yield
