"""The blob store, which keeps templates and the definitions of classes, and the caches that end with the store."""

from __future__ import annotations

import threading

from goproc.errors import PickleError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol, TypeVar

    class Clearable(Protocol):
        def clear(self) -> object: ...

    Cache = TypeVar("Cache", bound=Clearable)

# The reference of a blob; the blob itself if it is not stored.
Ref = int | bytes

# A blob is never freed, nor are the objects that processes have made of it. So a definition that is made again and
# again is sent inline: beyond so many definitions of one name, and beyond so many of all.
_BLOBS_PER_NAME = 64
_BLOBS = 2048
_FULL = 256  # the size up to which a table is not searched

lock = threading.RLock()  # held while a definition is made or loaded

_put: Callable[[bytes], int] | None = None
_get: Callable[[int], bytes] | None = None
_caches: list[Clearable] = []


def cache(empty: Cache) -> Cache:
    """Return `empty`, which `disconnect` clears from now on."""
    _caches.append(empty)
    return empty


_refs: dict[bytes, int] = cache({})  # digest of a blob -> its reference
_blobs: dict[tuple[str, str], int] = cache({})  # the number of definitions that one name has had


class Threshold:
    """Tells when to look through a table of objects for those to which no other reference is left.

    The next look is due when the table has twice as many objects as the last look has left.
    """

    def __init__(self) -> None:
        self._full = _FULL

    def passed(self, size: int) -> bool:
        return size > self._full

    def set(self, left: int) -> None:
        self._full = max(_FULL, 2 * left)


def connect(put: Callable[[bytes], int], get: Callable[[int], bytes]) -> None:
    """Use this blob store from now on.

    Args:
        put: stores a blob for ever and returns its reference, a small int valid in every process; 0 if there are
            too many.
        get: returns the blob of a reference.
    """
    global _put, _get
    disconnect()
    _put, _get = put, get


def disconnect() -> None:
    """Forget the blob store and all caches about it; definitions then travel inside their messages."""
    global _put, _get
    with lock:
        _put = _get = None
        for known in _caches:
            known.clear()


def digest_of(data: bytes, size: int) -> bytes:
    """Return a digest of so many bytes. `hashlib` would load OpenSSL, perhaps for the first time in a failure."""
    try:
        from _blake2 import blake2b
    except ImportError:  # Python was built without it
        from hashlib import blake2b
    return blake2b(data, digest_size=size).digest()


def put(blob: bytes, name: tuple[str, str]) -> Ref:
    """Store `blob` once, and return its reference.

    Args:
        blob: a definition.
        name: the name of the definition: the blobs of one name are limited in number.
    """
    if _put is None:
        return blob
    digest = digest_of(blob, 16)
    ref = _refs.get(digest)
    if ref is None:
        count = _blobs.get(name, 0)
        if count >= _BLOBS_PER_NAME or len(_refs) >= _BLOBS:
            return blob
        ref = _put(blob)
        if not ref:
            return blob
        _blobs[name] = count + 1
        _refs[digest] = ref
    return ref


def get(ref: Ref) -> bytes:
    if isinstance(ref, bytes):
        return ref
    if _get is None:
        raise PickleError("a definition arrived, but the runtime of this process is stopped")
    return _get(ref)
