"""``checkpoint=`` of a map: a file that holds the results of finished items, so that a later run does not compute them again.

The file is an SQLite database in WAL mode. One can look into it with ``sqlite3 job.db`` while the map runs:

    CREATE TABLE map   (key TEXT PRIMARY KEY, value TEXT)          -- what made it: see below
    CREATE TABLE item  (id TEXT PRIMARY KEY,                       -- of the item
                        state TEXT,                                -- 'done' or 'failed'
                        result BLOB,                               -- a pickle of the result; of a failed item NULL
                        error TEXT,                                -- of a failed item: type and text of its exception
                        attempts INTEGER, seconds REAL, finished REAL)   -- `finished`: when, in seconds since 1970

`map` has the rows ``version`` (of this layout), ``python`` ("3.11"), and what the function is: ``name``, ``code``,
``defaults``, ``captured``, as digests or texts. A file made by another function is refused, and the error names the rows
that differ.

Items are known by what ``id=`` returns for them, or by a digest of their pickle and the number of the occurrence, so that
equal items are items of their own.

Results are written before they are yielded, see recorder.py. kill -9 at any moment loses no transaction that was
committed. A lock on the file (flock, which SQLite does not use) keeps a second program away. The kernel takes it back with
the process.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import pickle
import sqlite3
import sys
from contextlib import contextmanager
from time import time
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple

from goproc._data.ends import short
from goproc._data.fingerprint import fingerprint
from goproc._public import public
from goproc._raised import text_of
from goproc._tracebacks import ends_at_user

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Checkpoint", "Record", "checkpoint_reset"]

_VERSION = "1"
_MAGIC = b"SQLite format 3\x00"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS map (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS item (
    id TEXT PRIMARY KEY, state TEXT NOT NULL, result BLOB, error TEXT,
    attempts INTEGER NOT NULL, seconds REAL NOT NULL, finished REAL NOT NULL
) WITHOUT ROWID;
"""
_FILES = ("", "-wal", "-shm", "-journal")
_MOST_NAMES = 500  # in one question to the database


class Record(NamedTuple):
    """A finished item, as it is written.

    Attributes:
        id: of the item.
        result: of an item that is done, as a pickle; None for one that failed.
        error: of an item that failed: type and text of its exception; None for one that is done.
        attempts: how often its function was called.
        seconds: that its last call took.
    """

    id: str
    result: bytes | None
    error: str | None
    attempts: int
    seconds: float


class Checkpoint:
    """A checkpoint of one map, and the names of its items.

    Args:
        where: names the call in errors.
        path: of the file; it is made where it is not there.
        f: the function of the map.
        id: a function of an item that names it, or None.
    """

    def __init__(self, where: str, path: Any, f: Callable[..., Any], id: Callable[..., Any] | None) -> None:
        if not isinstance(path, (str, bytes, os.PathLike)):
            raise TypeError(f"{where}: checkpoint= is the path of a file, not {type(path).__name__}")
        self.path: str = os.fsdecode(path)
        if not self.path:
            raise ValueError(f"{where}: checkpoint= is the path of a file, not an empty one")
        self._where = where
        self._f = f
        self.id = id
        self._given: set[str] = set()  # names that id= has returned
        self._seen: dict[bytes, int] = {}  # by digest: how many equal items there were
        self._lock = -1
        self._db: sqlite3.Connection | None = None  # for reading
        self._writer: sqlite3.Connection | None = None
        self._filled = False  # there is something to be found
        _check_is_database(self.path)

    # -- opening

    def open(self) -> None:
        """Open the file for this program.

        Raises:
            OSError: it cannot be opened, or its folder is not there.
            ValueError: it is no database, or was made by another function or another Python.
            RuntimeError: another program uses it.
        """
        self._lock = _locked(self.path)
        try:
            self._db = _connected(self.path)
            self._writer = _connected(self.path)
            with _named(self.path):
                self._check_maker()
                self._filled = self._db.execute("SELECT 1 FROM item LIMIT 1").fetchone() is not None
        except BaseException:
            self.close()
            raise

    def _check_maker(self) -> None:
        """Note the versions and the function that make the file, or compare them with the noted ones."""
        assert self._db is not None
        mine = {
            "version": _VERSION,
            "python": ".".join(map(str, sys.version_info[:2])),
            **fingerprint(self._f),
        }
        made = dict(self._db.execute("SELECT key, value FROM map"))
        if not made:
            with self._db:
                self._db.executemany("INSERT INTO map VALUES (?, ?)", mine.items())
            return
        different = [key for key in mine if made.get(key) != mine[key]]
        if different:
            raise ValueError(self._refusal(different, made, mine))

    def _refusal(self, different: list[str], made: dict[str, str], mine: dict[str, str]) -> str:
        differences = []
        for key in different:
            if key in ("version", "python", "name"):
                differences.append(f"its {key} was {made.get(key)}, and is {mine[key]}")
            else:
                differences.append(f"its {_WORDS[key]} differ" + ("s" if key == "code" else ""))
        maker = "function" if set(different) - {"version", "python"} else "Python, or another goproc"
        return (
            f"checkpoint {self.path!r} was made by another {maker}: {'; '.join(differences)}. "
            f"Use another file, or start anew with checkpoint_reset({self.path!r})"
        )

    def close(self) -> None:
        """Close the file, for another program."""
        for db in (self._db, self._writer):
            if db is not None:
                db.close()
        self._db = self._writer = None
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)

    # -- names of items

    def by_id(self, value: Any) -> str:
        """Return the name of the next item that is drawn, for which id= has returned a value.

        Raises:
            ValueError: id= has returned the value before.
            TypeError: the value has no stable repr().
        """
        name = value if isinstance(value, str) else _stable_text(value, self._where)
        if name in self._given:
            raise ValueError(
                f"{self._where}: id= returned {value!r} for two items: names of items are unique"
            )
        self._given.add(name)
        return name

    def by_digest(self, item: Any) -> str:
        """Return the name of the next item that is drawn, where there is no id=.

        Raises:
            TypeError: the item cannot be pickled.
        """
        digest = hashlib.blake2b(_stable_pickle(item, self._where), digest_size=16).digest()
        n = self._seen.get(digest, 0)
        self._seen[digest] = n + 1
        return f"{digest.hex()}-{n}"

    # -- reading and writing

    def find(self, names: Sequence[str]) -> dict[str, bytes]:
        """Return the recorded results of those items that are done, by name."""
        assert self._db is not None
        found: dict[str, bytes] = {}
        for at in range(0, len(names) if self._filled else 0, _MOST_NAMES):
            some = names[at : at + _MOST_NAMES]
            marks = ",".join("?" * len(some))
            with _named(self.path):
                rows = self._db.execute(
                    f"SELECT id, result FROM item WHERE state = 'done' AND id IN ({marks})", some
                )
                found.update(rows)
        return found

    def record(self, records: Iterable[Record]) -> None:
        """Write finished items, all in one transaction. From any thread, one at a time."""
        assert self._writer is not None
        now = time()
        rows = [
            (r.id, "failed" if r.result is None else "done", r.result, r.error, r.attempts, r.seconds, now)
            for r in records
        ]
        with _named(self.path), self._writer:
            self._writer.executemany("INSERT OR REPLACE INTO item VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


_WORDS = {"code": "code", "defaults": "default arguments", "captured": "captured values"}


def _stable_text(value: Any, where: str) -> str:
    """Return the text by which a checkpoint knows a value of id=: it is the same in each run of the program.

    Args:
        value: the value.
        where: names the call in errors.

    Raises:
        TypeError: there is no such text.
    """
    unstable = _unstable(value)
    if unstable:
        raise TypeError(
            f"{where}: id= returned {short(value)}, which cannot name the item: {unstable}. "
            "Return a str, a number, or a tuple of these"
        )
    return f"{type(value).__name__} {value!r}"


def _unstable(value: Any) -> str:
    """Return why the repr() of a value is not the same in each run; "" if it is."""
    if isinstance(value, (tuple, list)):
        return next(filter(None, map(_unstable, value)), "")
    if isinstance(value, (set, frozenset)) and len(value) > 1:
        return "a set has no order"
    if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType)):
        return "it is a function, which was not called"
    if f"{id(value):x}" in repr(value).lower():
        return "its repr() is an address in memory, another one in each run"
    return ""


def _stable_pickle(item: Any, where: str) -> bytes:
    """Pickle an item so that equal items of plain types give equal bytes, also if they share parts in different ways.

    Args:
        item: the item, or a part of it.
        where: names the call in errors.

    Raises:
        TypeError: it cannot be pickled.
    """
    kind = type(item)
    if kind is str or kind is int or kind is float or kind is bool or item is None:
        return f"{kind.__name__}:{item!r}".encode("utf-8", "surrogatepass")
    if kind is bytes:
        return b"bytes:" + item  # type: ignore[no-any-return]
    if kind is tuple or kind is list:
        parts = [_stable_pickle(part, where) for part in item]
        lengths = ",".join(str(len(part)) for part in parts)
        return b"%s:%s:" % (kind.__name__.encode(), lengths.encode()) + b"".join(parts)
    if kind is dict:
        return b"dict:" + _stable_pickle([part for pair in item.items() for part in pair], where)
    try:
        return pickle.dumps(item, 5)
    except Exception:
        import cloudpickle

        try:
            return cloudpickle.dumps(item, 5)  # type: ignore[no-any-return]
        except Exception as error:
            raise TypeError(
                f"{where}: checkpoint= cannot name an item that cannot be pickled: {text_of(error)}; give id="
            ) from error


def packed_result(value: Any) -> bytes:
    """Return a pickle of a result that a later run of the script can read."""
    try:
        return pickle.dumps(value, 5)
    except Exception:
        import cloudpickle

        return cloudpickle.dumps(value, 5)  # type: ignore[no-any-return]


def unpacked_result(blob: bytes) -> Any:
    return pickle.loads(blob)


# -- the file ------------------------------------------------------------------------------------------------


def _locked(path: str) -> int:
    """Return a descriptor that holds the lock of a checkpoint, which is made where it is not there."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise RuntimeError(f"checkpoint {path!r} is in use by another program, or another map") from None
    return lock


def _check_is_database(path: str) -> None:
    try:
        with open(path, "rb") as file:
            head = file.read(len(_MAGIC))
    except FileNotFoundError:
        return
    except IsADirectoryError:
        raise ValueError(f"checkpoint {path!r} is a folder: give the path of a file") from None
    if head and head != _MAGIC:
        raise ValueError(f"checkpoint {path!r} is no SQLite database: give the path of a new file")


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Have an error of the database name the file.

    Raises:
        OSError: it cannot be read or written, as on a full disk.
        ValueError: it is damaged.
    """
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OSError(f"checkpoint {path!r}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise ValueError(f"checkpoint {path!r} is damaged, or no SQLite database: {error}") from error


def _connected(path: str) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30.0, check_same_thread=False)
    try:
        with _named(path):
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if tables and not {"map", "item"} <= tables:
                raise ValueError(
                    f"checkpoint {path!r} is a database of something else, with the tables {sorted(tables)}"
                )
            db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db


@public
@ends_at_user
def checkpoint_reset(path: str | bytes | os.PathLike[Any]) -> None:
    """Delete a checkpoint, so that the next map with it starts anew.

    Args:
        path: as given to ``checkpoint=``. Nothing happens where there is no such file.

    Raises:
        ValueError: the file is no SQLite database: it is not deleted.
        RuntimeError: another program uses it.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"checkpoint_reset() takes a path, not {type(path).__name__}")
    name = os.fsdecode(path)
    _check_is_database(name)
    if not os.path.exists(name):
        return
    lock = _locked(name)
    try:
        for ending in _FILES:
            try:
                os.unlink(name + ending)
            except FileNotFoundError:
                pass
    finally:
        os.close(lock)
