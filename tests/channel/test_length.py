"""len() of a channel: Go's len, but nothing that a progress bar could take for a total."""

from __future__ import annotations

import io
import operator
import types
from collections.abc import Iterator
from typing import Any

import pytest

from goproc import chan, nil, runtime


@pytest.fixture(autouse=True)
def in_a_runtime() -> Iterator[None]:
    with runtime(procs=0):
        yield


def module(name: str) -> Any:
    """A module of that name, with functions that ask for a length as those of progress bars do."""
    made = types.ModuleType(name)
    code = """
import operator
def total(iterable):
    try: return len(iterable)
    except (TypeError, AttributeError): return None
def hint(iterable): return operator.length_hint(iterable) or None
"""
    exec(code, made.__dict__)
    return made


def test_len_is_the_number_of_buffered_values() -> None:
    ch = chan(10)
    ch.send_many(range(3))
    assert len(ch) == len(ch.rx) == len(ch.tx) == operator.length_hint(ch) == ch.__len__() == 3
    assert len(nil) == 0 and module("elsewhere").total(ch) == module("tqdm_like").hint(ch) == 3


@pytest.mark.parametrize(
    "name", ["tqdm.std", "rich.progress", "alive_progress.core.progress", "progressbar.bar"]
)
def test_a_progress_bar_over_a_channel_has_no_total(name: str) -> None:
    ch = chan(10)
    ch.send_many(range(3))
    for iterable in (ch, ch.rx, chan(), nil):
        assert module(name).total(iterable) is None and module(name).hint(iterable) is None
    with pytest.raises(TypeError, match="no length to a progress bar"):
        exec("len(ch)", {"__name__": name, "ch": ch})


def test_tqdm_counts_the_received_values() -> None:
    tqdm = pytest.importorskip("tqdm", reason="tqdm is not installed")
    ch = chan(10)
    ch.send_many(range(3))
    ch.close()
    bar = tqdm.tqdm(ch, file=io.StringIO())
    assert bar.total is None and bar
    assert list(bar) == [0, 1, 2] and bar.n == 3
