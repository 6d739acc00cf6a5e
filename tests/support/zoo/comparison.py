"""Comparison of an exception with its copy."""

from __future__ import annotations

import io

from zoo.classes import Refusing

NOTE = "Traceback of the goroutine"
MADE = ("Local", "Made")  # classes that each call makes anew


def difference(a, b, links=True, seen=None):
    """Return what is not the same in two objects, None if nothing."""
    seen = set() if seen is None else seen
    if (id(a), id(b)) in seen:
        return None
    seen.add((id(a), id(b)))
    if type(a) is not type(b) and not (type(a).__name__ == type(b).__name__ in MADE):
        return f"type: {type(a)} and {type(b)}"
    if isinstance(a, BaseException):
        pairs = list(parts(a, b, links))
    elif isinstance(a, dict):
        pairs = [("keys", list(a), list(b)), *[(f"[{k!r}]", a[k], b.get(k)) for k in a]]
    elif isinstance(a, (list, tuple)):
        pairs = [("length", len(a), len(b)), *[(f"[{i}]", x, y) for i, (x, y) in enumerate(zip(a, b))]]  # noqa: B905
    elif isinstance(a, io.BytesIO):
        return difference(a.getvalue(), b.getvalue())
    elif type(a).__name__ in ("Object", "_TemporaryFileCloser") or (callable(a) and not isinstance(a, type)):
        return None
    else:
        return None if a == b else f"{a!r} and {b!r}"
    for name, x, y in pairs:
        found = difference(x, y, links, seen)
        if found is not None:
            return f"{name} {found}"
    return None


def parts(a, b, links):
    base = BaseException.__dict__
    for name in ("args", "__cause__", "__context__", "__suppress_context__"):
        if links or name == "args":
            yield name, base[name].__get__(a), base[name].__get__(b)
    yield "attributes", attributes(a), attributes(b)
    if links:
        yield "notes", own_notes(a), own_notes(b)
    for owner in type(a).__mro__:
        for name, member in vars(owner).items():
            if owner is not BaseException and is_member(owner, name, member):
                yield name, value(member, a), value(member, b)
    yield "text", text(a), text(b)


def is_member(owner, name, member):
    if name.startswith("__") and name.endswith("__") and owner is not Refusing:
        return False
    return type(member).__name__ in ("member_descriptor", "getset_descriptor")


def attributes(exc):
    found = dict(BaseException.__dict__["__dict__"].__get__(exc))
    found.pop("__notes__", None)
    found.pop("lock", None)
    return found


def own_notes(exc):
    notes = BaseException.__dict__["__dict__"].__get__(exc).get("__notes__", [])
    return [note for note in notes if not note.startswith(NOTE)]


def value(member, exc):
    try:
        return member.__get__(exc)
    except AttributeError:
        return "unset"


def text(exc):
    try:
        found = str(exc)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return "" if " at 0x" in found or "{" in found else found


def caught(f):
    try:
        f()
    except BaseException as error:
        return error
    raise AssertionError("nothing was raised")
