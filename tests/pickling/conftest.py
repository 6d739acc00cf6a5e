"""The two processes in one that most tests of pickling use."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from wire import Wire

from goproc._pickling import store


@pytest.fixture
def wire() -> Iterator[Wire]:
    wire = Wire()
    yield wire
    store.disconnect()
