"""`Wire` plays two processes in one: what is loaded after `hop` comes from blobs alone.

Where `__main__` matters a script runs in a process of its own and its messages are loaded in another one.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cloudpickle  # noqa: F401

from goproc._pickling import calls, messages, store

ROOT = str(Path(__file__).resolve().parents[2])


class Handle:
    """Stands for a channel: goproc's handles are recognised by this mark."""

    __goproc_handle__ = True

    def __init__(self, key: int) -> None:
        self.key = key


class Wire:
    def __init__(self) -> None:
        self.store: dict[int, bytes] = {}
        self.connect()

    def put(self, blob: bytes) -> int:
        self.store[len(self.store) + 1] = blob
        return len(self.store)

    def connect(self) -> None:
        store.connect(self.put, self.store.__getitem__)

    def send(self, obj: Any) -> Any:
        """Dump here, load in the same process."""
        return messages.loads(*messages.dumps(obj))

    def pack(self, f: Any, *args: Any, **kwargs: Any) -> Any:
        return messages.dumps(calls.pack_call(f, args, kwargs))

    def call(self, blob: Any) -> Any:
        f, args, kwargs, _ = calls.unpack_call(messages.loads(*blob))
        return f(*args, **kwargs)

    def hop(self) -> None:
        """From now on this is another process, which knows nothing but the store."""
        tracker = sys.modules["cloudpickle.cloudpickle"]._DYNAMIC_CLASS_TRACKER_BY_ID
        tracker.clear()  # cloudpickle's own memory of classes
        self.connect()

    def far(self, f: Any, *args: Any, **kwargs: Any) -> Any:
        blob = self.pack(f, *args, **kwargs)
        self.hop()
        return self.call(blob)


def run_main(source: str, receive: str, tmp_path: Path) -> str:
    """Run `source` as `__main__`; it gives messages to `send`. Load them in another process, in `receive`."""
    head = f"""
        import sys, pickle
        sys.path.insert(0, {ROOT!r})
        from goproc._pickling import calls, messages, store
        from goproc.errors import PickleError
        blobs = {{}}
        def put(blob):
            blobs[len(blobs) + 1] = blob
            return len(blobs)
        store.connect(put, blobs.__getitem__)
        sent = []
        def send(obj):
            sent.append(messages.dumps(obj)[0])
        def go(f, *args, **kwargs):
            send(calls.pack_call(f, args, kwargs))
        class Handle:
            __goproc_handle__ = True
    """
    tail = f"""
        pickle.dump((blobs, sent), open({str(tmp_path / "wire")!r}, "wb"))
    """
    script = tmp_path / "script.py"
    script.write_text("\n".join(textwrap.dedent(part) for part in (head, source, tail)))
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    head = f"""
        import sys, pickle
        sys.path.insert(0, {ROOT!r})
        from goproc._pickling import calls, messages, store
        blobs, sent = pickle.load(open({str(tmp_path / "wire")!r}, "rb"))
        def put(blob):
            blobs[len(blobs) + 1] = blob
            return len(blobs)
        store.connect(put, blobs.__getitem__)
        def load(i):
            return messages.loads(sent[i], [])
        def run(i):
            f, args, kwargs, _ = calls.unpack_call(load(i))
            return f(*args, **kwargs)
    """
    script = tmp_path / "receiver.py"
    script.write_text("\n".join(textwrap.dedent(part) for part in (head, receive)))
    received = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert received.returncode == 0, received.stderr
    return done.stdout + received.stdout
