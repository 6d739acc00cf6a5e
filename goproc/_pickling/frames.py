"""Frames and arrays whose own pickles would copy their memory: here they travel with buffers out of band.

    NumPy     arrays of dates and times, which the buffer protocol does not know: as arrays of integers
    polars    writes its own format: as Arrow data, which shares memory with it, where PyArrow is installed
    PyArrow   a slice pickles all that it is a slice of: as an IPC stream, which holds the slice alone

Other objects of pandas, PyArrow and SciPy pickle their buffers out of band themselves.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from goproc._isolation import loaded
from goproc._pickling.wire import OUT_OF_BAND

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Reducer = Callable[[Any, Any], Any]

# The bytes of a polars frame from which on an import of PyArrow pays, here and in the reader.
_LARGE = 1 << 20
_WASTE = 1 << 16  # the bytes that a pickle of a slice may waste
# Types of polars that Arrow preserves; types made of them are preserved, too.
_SAME_IN_ARROW = frozenset(
    {
        "Int8",
        "Int16",
        "Int32",
        "Int64",
        "UInt8",
        "UInt16",
        "UInt32",
        "UInt64",
        "Float32",
        "Float64",
        "Boolean",
    }
    | {"String", "Binary", "Date", "Datetime", "Duration", "Time"}
)


def reducer_of(kind: type) -> Reducer | None:
    """Return the reducer for a type of NumPy, polars or PyArrow; None if the type's own one is right."""
    library = kind.__module__.partition(".")[0]
    found = _reducers.get((library, kind.__name__))
    if found is not None and _is_public(kind):
        return found
    if library == "pyarrow" and issubclass(kind, getattr(sys.modules["pyarrow"], "Array", ())):
        return _reduce_arrow
    return None


def _is_public(kind: type) -> bool:
    """Return True for the public type, and False for a class of the same name elsewhere in the library."""
    module = sys.modules.get(kind.__module__.partition(".")[0])
    return getattr(module, kind.__name__, None) is kind


# -- NumPy ---------------------------------------------------------------------------------------------------


def _reduce_array(_: Any, array: Any) -> Any:
    if array.dtype.kind in "mM" and array.nbytes >= OUT_OF_BAND:
        return _with_dtype, (array.view("i8"), array.dtype)
    return NotImplemented


def _with_dtype(array: Any, dtype: Any) -> Any:
    return array.view(dtype)


# -- polars --------------------------------------------------------------------------------------------------


def _reduce_polars(_: Any, obj: Any) -> Any:
    table = _arrow_of(obj)
    if table is None:
        return NotImplemented
    series = type(obj).__name__ == "Series"
    return _polars_from_arrow, (table, obj.name if series else None)


def _arrow_of(obj: Any) -> Any:
    """Return the Arrow data of a frame or series, mostly without a copy; None if that does not pay, or is not exact."""
    size = obj.estimated_size()
    if size < OUT_OF_BAND or (loaded("pyarrow") is None and (size < _LARGE or find_spec("pyarrow") is None)):
        return None
    dtypes = [obj.dtype] if type(obj).__name__ == "Series" else obj.dtypes
    if not all(map(_is_same, dtypes)):
        return None
    level = sys.modules["polars"].CompatLevel
    try:
        found = obj.to_arrow(compat_level=level.newest())
        if found.get_total_buffer_size() > 2 * size + _WASTE:  # a slice of texts refers to all of them
            found = obj.to_arrow(compat_level=level.oldest())
        return found
    except Exception:  # a version of either library that cannot convert it
        return None


def _is_same(dtype: Any) -> bool:
    name = type(dtype).__name__ if not isinstance(dtype, type) else dtype.__name__
    if name in ("List", "Array"):
        return _is_same(dtype.inner)
    if name == "Struct":
        return all(_is_same(field.dtype) for field in dtype.fields)
    return name in _SAME_IN_ARROW


def _polars_from_arrow(table: Any, name: str | None) -> Any:
    polars: Any = import_module("polars")
    found = polars.from_arrow(table)
    return found if name is None else found.alias(name)


# -- PyArrow -------------------------------------------------------------------------------------------------


def _reduce_arrow(_: Any, obj: Any) -> Any:
    total, used = obj.get_total_buffer_size(), obj.nbytes
    if total - used <= _WASTE or total < 2 * used:
        return NotImplemented
    pyarrow: Any = import_module("pyarrow")
    kind = type(obj).__name__ if type(obj).__name__ in ("Table", "RecordBatch", "ChunkedArray") else "Array"
    table = obj if kind in ("Table", "RecordBatch") else pyarrow.table({"": obj})
    sink = pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write(table)
    return _arrow_from_stream, (kind, sink.getvalue())


def _arrow_from_stream(kind: str, stream: Any) -> Any:
    pyarrow: Any = import_module("pyarrow")
    reader = pyarrow.ipc.open_stream(stream)
    if kind == "RecordBatch":
        return reader.read_next_batch()
    table = reader.read_all()
    if kind == "Table":
        return table
    column = table.column(0)
    return column if kind == "ChunkedArray" else column.combine_chunks()


_reducers: dict[tuple[str, str], Reducer] = {
    ("numpy", "ndarray"): _reduce_array,
    ("polars", "DataFrame"): _reduce_polars,
    ("polars", "Series"): _reduce_polars,
    ("pyarrow", "Table"): _reduce_arrow,
    ("pyarrow", "RecordBatch"): _reduce_arrow,
    ("pyarrow", "ChunkedArray"): _reduce_arrow,
}
