"""The advice in a PickleError fits the kind of the object, and the path ends at an object that the user knows."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import csv
import ctypes
import functools
import io
import logging
import mmap
import multiprocessing
import os
import pickle
import queue
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import types
import weakref
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

from goproc._pickling import advice, diagnose, messages
from goproc.errors import PickleError

pytestmark = pytest.mark.usefixtures("wire")


class Service:
    def __init__(self, part: Any) -> None:
        self.part = part


def text(value: Any, root: str = "message") -> str:
    with pytest.raises(PickleError) as info:
        messages.dumps(value)
    return str(diagnose.explain(value, info.value.__cause__ or info.value, root))


async def answers() -> int:
    return 42


def cursor() -> Any:
    found = sqlite3.connect(":memory:").cursor()
    weakref.finalize(found, found.connection.close)
    return found


def zip_file() -> Any:
    return zipfile.ZipFile(io.BytesIO(), "w")


KINDS: dict[str, tuple[Callable[[], Any], str]] = {
    "_io.TextIOWrapper": (functools.partial(open, os.devnull, "w"), "pass the path"),
    "_io.BufferedWriter": (functools.partial(open, os.devnull, "wb"), "pass the path"),
    "zipfile.ZipFile": (zip_file, "pass the path"),
    "_thread.lock": (threading.Lock, "goproc.Mutex()"),
    "_thread.RLock": (threading.RLock, "goproc.Mutex()"),
    "threading.Condition": (threading.Condition, "goproc.Cond("),
    "threading.Event": (threading.Event, "done.close()"),
    "threading.Semaphore": (threading.Semaphore, "goproc.Semaphore(n)"),
    "threading.Barrier": (lambda: threading.Barrier(2), "goproc.Barrier(n)"),
    "threading.Thread": (threading.Thread, "start it in the goroutine"),
    "sqlite3.Connection": (lambda: sqlite3.connect(":memory:"), "goproc.worker_local(connect)"),
    "sqlite3.Cursor": (lambda: cursor(), "goproc.worker_local(connect)"),
    "socket.socket": (socket.socket, "pass the address"),
    "ssl.SSLContext": (ssl.create_default_context, "goproc.worker_local(make)"),
    "generator": (lambda: (n for n in range(3)), "as a list, or send them over a channel"),
    "_csv.reader": (lambda: csv.reader([]), "as a list, or send them over a channel"),
    "coroutine": (answers, "asyncio.run()"),
    "queue.Queue": (queue.Queue, "goproc.chan(n)"),
    "multiprocessing.queues.Queue": (multiprocessing.Queue, "goproc.chan(n)"),
    "multiprocessing.connection.Connection": (lambda: multiprocessing.Pipe()[0], "goproc.chan(n)"),
    "multiprocessing.synchronize.Lock": (multiprocessing.Lock, "goproc.Mutex"),
    "concurrent.futures.thread.ThreadPoolExecutor": (concurrent.futures.ThreadPoolExecutor, "goproc.pmap()"),
    "subprocess.Popen": (lambda: subprocess.Popen(["true"]), "pass its pid"),
    "logging.StreamHandler": (logging.StreamHandler, "logging.getLogger(name)"),
    "asyncio.unix_events._UnixSelectorEventLoop": (asyncio.new_event_loop, "goproc.chan(n)"),
    "mmap.mmap": (lambda: mmap.mmap(-1, 10), "goproc.shared_array()"),
    "frame": (sys._getframe, "traceback.format_exc()"),
}


@contextlib.contextmanager
def left(thing: Any) -> Any:
    """Give a thing back at the end, in the way of its kind."""
    try:
        yield thing
    finally:
        if isinstance(thing, subprocess.Popen):
            thing.wait()
        elif isinstance(thing, concurrent.futures.Executor):
            thing.shutdown()
        elif hasattr(thing, "close"):
            thing.close()


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str) -> None:
    make, expected = KINDS[kind]
    with left(make()) as thing:
        first, advised = text({"a": Service(thing)}).split("\n", 1)
    assert first.startswith(f"cannot pickle message -> ['a'] -> .part -> {kind}: ")
    assert expected in advised
    assert "None" not in advised


@pytest.mark.parametrize("kind", ["_io.TextIOWrapper", "sqlite3.Cursor", "generator", "coroutine"])
def test_results_have_advice_of_their_own(kind: str) -> None:
    with left(KINDS[kind][0]()) as thing:
        sent, returned = text(thing), text(thing, "the result of f")
    assert returned.startswith(f"cannot pickle the result of f -> {kind}: ")
    assert sent.split("\n", 1)[1] != returned.split("\n", 1)[1]
    assert "return" in returned or "asyncio.run()" in returned


def test_a_pointer() -> None:
    assert "the value or the bytes" in text(ctypes.pointer(ctypes.c_int(3)))


def test_a_subclass_has_the_advice_of_its_base() -> None:
    class Collector(threading.Thread):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()

    first, advised = text(Collector()).split("\n", 1)
    assert first.startswith("cannot pickle message -> ") and "Collector: " in first
    assert "start it in the goroutine" in advised


def test_an_object_of_an_installed_package_is_to_be_made_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    origin = "/usr/lib/python3/site-packages/cloud/client.py"
    module = types.ModuleType("cloud_client")
    module.__spec__ = types.SimpleNamespace(origin=origin)  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "cloud_client", module)
    client = type("Client", (), {"__module__": "cloud_client", "__init__": Service.__init__})
    module.Client = client  # type: ignore[attr-defined]
    first, advised = text([client(threading.Lock())]).split("\n", 1)
    assert first.startswith("cannot pickle message -> [0] -> .part -> _thread.lock: ")
    assert "make the cloud_client.Client in the goroutine, or once in each process" in advised


def test_a_driver_of_a_database_is_known_by_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("somedb")
    kind = type("SomeConnection", (), {"__module__": "somedb.wire"})
    monkeypatch.setitem(sys.modules, "somedb", module)
    assert advice.known(kind()) is None
    module.apilevel = "2.0"  # type: ignore[attr-defined]
    found = advice.known(kind())
    assert found is not None and "database" in found.sent


def test_an_object_that_pickles_a_function_by_name() -> None:
    class Cached:
        def __reduce__(self) -> Any:
            return bytes, (pickle.dumps(lambda: None),)

    assert "by name: define the function with def" in text([Cached()])


def test_an_unknown_object_has_general_advice() -> None:
    assert "make it inside the goroutine that uses it" in text(functools.partial(print, Unknown()))


class Unknown:
    def __reduce__(self) -> Any:
        raise TypeError("no")
