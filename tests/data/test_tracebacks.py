"""The traceback of an error of a map or a flow: lines of the user's code, and none of goproc's."""

from __future__ import annotations

import asyncio
import threading
import traceback
from operator import attrgetter
from typing import Any

import pytest

from goproc import chan, context, flow, pfilter, pfor, pmap, pmap_array, preduce, psort, sleep
from goproc._data.engine import Engine
from goproc._frames import PACKAGE

pytestmark = pytest.mark.usefixtures("runtime2")

LOCK = threading.Lock()


def fails_at_3(x: int) -> int:
    if x == 3:
        raise KeyError("three")
    return x


def fails(*_: Any) -> Any:
    raise KeyError("always")


def source() -> Any:
    yield 1
    raise KeyError("the source is gone")


def closed() -> Any:
    ch = chan(1)
    ch.close()
    return ch


async def every(values: Any) -> None:
    async for _ in values:
        pass


def in_time() -> None:
    with context.timeout(0.05):
        list(pmap(lambda x: sleep(60), range(3)))


def in_time_flow() -> None:
    with context.timeout(0.05):
        list(flow(range(3)).map(lambda x: sleep(60)))


def array() -> Any:
    return pytest.importorskip("numpy").zeros(3)


CASES = {
    "pmap": lambda: list(pmap(fails_at_3, range(10))),
    "pmap, retries": lambda: list(pmap(fails_at_3, range(10), retries=1)),
    "pmap, unordered": lambda: list(pmap(fails_at_3, range(10), ordered=False)),
    "pmap, async": lambda: asyncio.run(every(pmap(fails_at_3, range(10)))),
    "pmap, init": lambda: list(pmap(fails_at_3, range(10), init=fails)),
    "pmap, exit": lambda: list(pmap(abs, range(10), exit=fails)),
    "pmap, timeout": lambda: list(pmap(lambda x: sleep(60), range(10), timeout=0.05)),
    "pmap, deadline": in_time,
    "pmap, letters": lambda: list(pmap(fails_at_3, range(10), on_error=closed())),
    "pmap, function": lambda: list(pmap(lambda x: LOCK, range(10))),
    "pmap, item": lambda: list(pmap(abs, [threading.Lock()])),
    "pmap, source": lambda: list(pmap(abs, source())),
    "pmap, source in C": lambda: list(pmap(abs, map(fails_at_3, range(10)))),
    "pmap, key": lambda: list(pmap(abs, range(10), key=fails)),
    "pfilter": lambda: list(pfilter(fails_at_3, range(10))),
    "pfor": lambda: pfor(fails_at_3, range(10)),
    "preduce": lambda: preduce(fails, range(10)),
    "psort, key": lambda: list(psort(range(10), key=fails)),
    "psort, source": lambda: list(psort(source())),
    "pmap_array": lambda: pmap_array(fails, array()),
    "flow": lambda: list(flow(range(10)).map(fails_at_3)),
    "flow, run": lambda: flow(range(10)).map(fails_at_3).run(),
    "flow, async": lambda: asyncio.run(every(flow(range(10)).map(fails_at_3))),
    "flow, here": lambda: list(flow(range(10)).map(fails_at_3, 0)),
    "flow, retries": lambda: flow(range(10)).map(fails_at_3, retries=1).run(),
    "flow, source": lambda: list(flow(source()).map(abs)),
    "flow, function": lambda: list(flow(range(10)).map(lambda x: LOCK)),
    "flow, deadline": in_time_flow,
    "flow, tee": lambda: list(flow(range(10)).map(fails_at_3).tee(1)[0]),
}


@pytest.mark.parametrize("case", CASES)
def test_no_line_of_goproc_is_shown(case: str) -> None:
    with pytest.raises(Exception) as raised:
        CASES[case]()
    files = [frame.filename for frame in traceback.extract_tb(raised.value.__traceback__)]
    assert __file__ in files
    assert [file for file in files if file.startswith(PACKAGE)] == []


def test_the_line_of_the_source_is_shown() -> None:
    for run in (lambda: list(pmap(abs, source())), lambda: flow(source()).map(abs).run()):
        with pytest.raises(KeyError) as raised:
            run()
        assert traceback.extract_tb(raised.value.__traceback__)[-1].name == "source"


def test_a_defect_is_shown_with_all_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "read", property(attrgetter("nothing")))  # raises without a line of its own
    with pytest.raises(AttributeError) as raised:
        list(pmap(abs, range(10)))
    assert "advance" in [frame.name for frame in traceback.extract_tb(raised.value.__traceback__)]


def test_an_item_that_cannot_be_sent_is_named() -> None:
    with pytest.raises(Exception, match=r"cannot pickle the item -> \['x'\] -> _thread.lock") as raised:
        list(pmap(len, [{"x": threading.Lock()}]))
    assert any(note.startswith("item 0: ") for note in raised.value.__notes__)
