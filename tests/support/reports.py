"""The text of a dump, or of the report of a deadlock, taken apart."""

from __future__ import annotations

import re


class Entry:
    """One goroutine of a dump."""

    def __init__(self, text: str) -> None:
        header, self.about, *self.lines = text.splitlines()
        found = re.fullmatch(r"goroutine (\d+) \[([^\]]+)\](?: (\{.*\}))?:", header)
        assert found, text
        self.id, self.state, self.labels = int(found[1]), found[2], found[3]
        self.text = text

    @property
    def created(self) -> list[str]:
        at = next((i for i, line in enumerate(self.lines) if line.startswith("created by")), len(self.lines))
        return self.lines[at:]

    @property
    def functions(self) -> list[str]:
        return re.findall(r"^  File .*, line \d+, in (\S+)$", self.text, re.M)


def entries(text: str) -> dict[int, Entry]:
    parts = [part for part in re.split(r"\n(?=\n|goroutine )", text) if part.startswith("goroutine ")]
    found = [Entry(part) for part in parts]
    assert len({e.id for e in found}) == len(found), text
    return {e.id: e for e in found}


def headers(text: str) -> int:
    return len(re.findall(r"^goroutine \d+ \[", text, re.M))
