"""The rows, by group. A group is what ``python -m bench GROUP`` names."""

from __future__ import annotations

from bench.model import Row
from bench.rows import (
    arrays,
    carried,
    classics,
    cpu,
    data,
    executor,
    flows,
    ints,
    mutex,
    roundtrip,
    select,
    startup,
    tasks,
    tuples,
)

GROUPS: dict[str, tuple[Row, ...]] = {
    "ints": ints.ROWS,
    "tuples": tuples.ROWS,
    "arrays": arrays.ROWS,
    "tasks": tasks.ROWS,
    "carried": carried.ROWS,
    "cpu": cpu.ROWS,
    "data": (*data.ROWS, *flows.ROWS, *executor.ROWS),
    "roundtrip": roundtrip.ROWS,
    "classics": classics.ROWS,
    "select": select.ROWS,
    "mutex": mutex.ROWS,
    "startup": startup.ROWS,
}
