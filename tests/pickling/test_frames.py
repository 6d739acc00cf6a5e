"""Frames of pandas, polars, PyArrow and SciPy travel with their buffers out of band, and arrive as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from goproc import chan, go
from goproc._pickling.messages import dumps

pytestmark = pytest.mark.usefixtures("runtime2")
N = 50_000
pandas: Any = pytest.importorskip("pandas", reason="pandas is not installed")
polars: Any = pytest.importorskip("polars", reason="polars is not installed")
pyarrow: Any = pytest.importorskip("pyarrow", reason="PyArrow is not installed")
sparse: Any = pytest.importorskip("scipy.sparse", reason="SciPy is not installed")

rng = np.random.default_rng(0)
FLOATS, INTS = rng.random(N), np.arange(N)
TEXTS = [f"name {k % 1000} of many" for k in range(N)]
DATES = np.datetime64("2020-01-01") + INTS.astype("m8[s]")

MAKE: dict[str, Callable[[], Any]] = {
    "pandas numbers": lambda: pandas.DataFrame({"a": FLOATS, "b": INTS, "c": FLOATS * 2}),
    "pandas dates": lambda: pandas.DataFrame({"t": DATES, "d": DATES - DATES[0]}),
    "pandas dates with a zone": lambda: pandas.DataFrame({"t": pandas.Series(DATES).dt.tz_localize("UTC")}),
    "pandas text by Arrow": lambda: pandas.DataFrame({"s": pandas.Series(TEXTS, dtype="string[pyarrow]")}),
    "pandas integers with gaps": lambda: pandas.DataFrame({"a": pandas.array(INTS, dtype="Int64")}),
    "pandas series": lambda: pandas.Series(FLOATS, name="x"),
    "polars numbers": lambda: polars.DataFrame({"a": FLOATS, "b": INTS}),
    "polars text": lambda: polars.DataFrame({"a": FLOATS, "s": TEXTS}),
    "polars dates": lambda: polars.DataFrame({"t": DATES.astype("M8[us]")}),
    "polars lists": lambda: polars.DataFrame({"l": [[1, 2, None]] * N, "s": [{"x": 1, "y": "t"}] * N}),
    "polars series": lambda: polars.Series("x", FLOATS),
    "arrow table": lambda: pyarrow.table({"a": FLOATS, "s": TEXTS}),
    "arrow batch": lambda: pyarrow.record_batch({"a": FLOATS, "s": TEXTS}),
    "arrow array": lambda: pyarrow.array(TEXTS),
    "arrow chunks": lambda: pyarrow.chunked_array([FLOATS, FLOATS]),
    "csr": lambda: sparse.random(1000, 1000, 0.1, format="csr"),
    "csc": lambda: sparse.random(1000, 1000, 0.1, format="csc"),
    "coo": lambda: sparse.random(1000, 1000, 0.1, format="coo"),
    "csr array": lambda: sparse.csr_array(sparse.random(1000, 1000, 0.1)),
    "dates": lambda: DATES,
    "dates in columns": lambda: np.asfortranarray(np.stack([DATES, DATES])),
    "durations": lambda: DATES - DATES[0],
}


def same(a: Any, b: Any) -> bool:
    if type(a) is not type(b):
        return False
    if sparse.issparse(a):
        return a.shape == b.shape and (a != b).nnz == 0
    if isinstance(a, np.ndarray):
        return a.dtype == b.dtype and np.array_equal(a, b) and a.strides == b.strides
    if isinstance(a, polars.DataFrame):
        return bool(a.equals(b)) and a.schema == b.schema
    if isinstance(a, polars.Series):
        return bool(a.equals(b)) and (a.name, a.dtype) == (b.name, b.dtype)
    return bool(a.equals(b))


@pytest.mark.parametrize("name", MAKE)
def test_buffers_are_out_of_band(name: str) -> None:
    found = MAKE[name]()
    body, buffers = dumps(found)
    outside = sum(buffer.nbytes for buffer in buffers)
    assert outside > 100_000 and len(body) < outside / 20


@pytest.mark.parametrize("name", MAKE)
def test_it_arrives_as_it_was(name: str) -> None:
    sent = MAKE[name]()
    ch = chan(1)
    ch.send(sent)
    assert same(sent, ch.recv())
    assert same(sent, go.on(1)(lambda: sent).result())
    assert same(sent, go.on(2)(lambda x: x, sent).result())


@pytest.mark.parametrize(
    "name", ["arrow table", "arrow batch", "arrow array", "arrow chunks", "polars text", "polars numbers"]
)
def test_a_message_of_a_slice_holds_the_slice_alone(name: str) -> None:
    whole = MAKE[name]()
    part = whole[100:3000] if name.startswith("polars") else whole.slice(100, 2900)
    body, buffers = dumps(part)
    full = sum(buffer.nbytes for buffer in dumps(whole)[1])
    assert len(body) + sum(buffer.nbytes for buffer in buffers) < full / 5
    assert same(part, go(lambda x: x, part).result())


@pytest.mark.parametrize(
    "frame",
    [
        polars.DataFrame({"c": polars.Series(TEXTS).cast(polars.Categorical)}),
        polars.DataFrame({"d": polars.Series(INTS).cast(polars.Decimal(20, 2))}),
        polars.DataFrame({"n": [None] * N}),
        polars.DataFrame({"a": [1, 2], "s": ["x", None]}),
        pandas.DataFrame({"s": pandas.Series(TEXTS, dtype=object)}),
        pandas.DataFrame({"c": pandas.Categorical(TEXTS)}),
        DATES[:10],
        DATES[::2],
    ],
    ids=str,
)
def test_the_rest_arrives_as_well(frame: Any) -> None:
    found = go(lambda x: x, frame).result()
    if isinstance(frame, np.ndarray):
        assert np.array_equal(found, frame) and found.dtype == frame.dtype
    else:
        assert same(frame, found)
