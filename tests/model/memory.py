"""Shared memory as a string of bytes: cells with names, and the steps that one can take on them."""

from __future__ import annotations

from collections.abc import Callable

from model.explorer import Step

Guard = Callable[[bytes | bytearray, int], None]  # raises Violation if this process may not use the cell now


class Cell:
    """A small number in shared memory.

    Args:
        at: its place.
        name: for traces.
        show: a value in words.
        private: only its process uses it while that lives.
        guard: checked at each access. Whoever passes it is alone with the cell, so that the steps are private.
    """

    __slots__ = ("_guard", "_private", "_show", "at", "name")

    def __init__(
        self,
        at: int,
        name: str,
        show: Callable[[int], str],
        private: bool = False,
        guard: Guard | None = None,
    ) -> None:
        self.at = at
        self.name = name
        self._show = show
        self._private = private or guard is not None
        self._guard = guard

    def _step(self, text: str, run: Callable[[bytearray], object], pure: bool = False) -> Step:
        guard = self._guard
        if guard is None:
            return Step(text, lambda s, me: run(s), private=self._private, pure=pure)

        def guarded(s: bytearray, me: int) -> object:
            guard(s, me)
            return run(s)

        return Step(text, guarded, private=self._private, pure=pure)

    def shown(self, s: bytes | bytearray) -> str:
        """Return its value in words."""
        return self._show(s[self.at])

    def load(self) -> Step:
        """gp_get, gp_acquire: the result is the value."""
        at = self.at
        return self._step(f"read {self.name}", lambda s: s[at], pure=True)

    def peek(self) -> Step:
        """Read it without the lock that guards it."""
        at = self.at
        return Step(f"read {self.name}", lambda s, me: s[at])

    def store(self, value: int) -> Step:
        """gp_set, gp_release."""
        at = self.at

        def run(s: bytearray) -> None:
            s[at] = value

        return self._step(f"{self.name} = {self._show(value)}", run)

    def exchange(self, value: int) -> Step:
        """atomic_exchange: the result is the value before."""
        at = self.at

        def run(s: bytearray) -> int:
            before = s[at]
            s[at] = value
            return before

        return self._step(f"{self.name} := {self._show(value)}", run)

    def cas(self, expect: int, value: int) -> Step:
        """atomic_compare_exchange_strong: the result is True if it has stored the value."""
        at = self.at

        def run(s: bytearray) -> bool:
            if s[at] != expect:
                return False
            s[at] = value
            return True

        return self._step(f"{self.name}: {self._show(expect)} => {self._show(value)}?", run)

    def add(self, change: int) -> Step:
        """atomic_fetch_add: the result is the value before."""
        at = self.at

        def run(s: bytearray) -> int:
            before = s[at]
            s[at] = before + change & 255
            return before

        return self._step(f"{self.name} += {change}", run)

    def set_bits(self, bits: int) -> Step:
        """atomic_fetch_or: the result is the value before."""
        at = self.at

        def run(s: bytearray) -> int:
            before = s[at]
            s[at] = before | bits
            return before

        return self._step(f"{self.name} |= {bits}", run)

    def clear_bits(self, bits: int) -> Step:
        """atomic_fetch_and of all others: the result is the value before."""
        at = self.at

        def run(s: bytearray) -> int:
            before = s[at]
            s[at] = before & ~bits & 255
            return before

        return self._step(f"{self.name} &= ~{bits}", run)


class Memory:
    """Hands out the cells of one configuration."""

    def __init__(self) -> None:
        self.start = bytearray()

    def cell(
        self,
        name: str,
        value: int = 0,
        show: Callable[[int], str] = str,
        private: bool = False,
        guard: Guard | None = None,
    ) -> Cell:
        self.start.append(value)
        return Cell(len(self.start) - 1, name, show, private, guard)


def note(text: str, run: Callable[[bytearray], object]) -> Step:
    """A step that no process can see: what the model writes down for its checks."""
    return Step(text, lambda s, me: run(s), private=True)
