"""How long after its import of pandas a program has the first result that another process computes with it."""

import time

import pandas

imported = time.monotonic()

from goproc import go  # noqa: E402


def total() -> int:
    return int(pandas.DataFrame({"a": [1, 2]}).a.sum())


go.on(1)(total).result()
print("hello after", time.monotonic() - imported)
