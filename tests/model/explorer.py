"""The explorer: all interleavings of some processes over one shared memory, with deaths at any step.

A process is a generator. It yields a `Step` for each access to shared memory, and is sent the result of that access. What it
does between two yields is private to it. So a protocol is written as in C, one line an access.

A state must be copied, and a generator cannot be. But the results that a generator has been sent decide what it does next.
The explorer runs a generator once along each list of results, and makes a `Node` of each place where it waits for a result.
So the steps of a process become a graph of nodes, which grows as the exploration meets new results. Two lists of results that
lead to the same lines with the same local variables lead to the same node. A state is a string of bytes: the shared memory,
and the node of each process. To take a step is to apply it to a copy of these bytes, and to follow one edge of the graph.

Three rules follow for the source of a process; test_explorer.py checks the first two. No value is half computed at a yield:
the yield is the right side of an assignment, a condition, a statement, or the last part of an expression. A `for` with a
yield in its body goes over a range. Local variables hold numbers, strings, tuples of these, or records that live as long as
the configuration.

Deaths. While `kills` are left, a process that may die can do so at every node. Its generator goes no further. `Process.dies`
does what the kernel does then.

Fewer states, with the same ends. A step is `private` if no other live process can see it or change what it is about: a store
to the own journal, which is read only after the death of its process, or an access to a field by the holder of the lock that
guards it. Such a step can always be taken, and commutes with all steps and deaths of others. So where a process is at a
private step, the explorer lets only this process go on: it takes the step, or it dies before it. Every execution that runs to
an end takes that step, or that death; what others do before it can as well come after it, with the same end. And where a
process cannot die any more, or the private step is `pure` (a read), so that a death before it and one after it leave the same
memory, the step is taken together with the one before it. A field that a lock guards tests at each access that the process
holds the lock, so that a protocol that breaks this rule is found out. What is wrong is looked for at the ends, or in steps
themselves. test_explorer.py compares the ends with those of all interleavings.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from types import FunctionType
from typing import Any, NamedTuple

END, DEAD = 0, 1  # the nodes of a process that has ended, and of one that has died

Steps = Generator["Step", Any, Any]


class Violation(Exception):
    """An invariant does not hold."""


class Step:
    """One access to shared memory: what it does, and when it can.

    Args:
        text: for the trace.
        run: changes the bytes in one step and returns the result. Called with the memory, the number of the process, and the
            option if there are options.
        ready: True if the step can be taken; None: always.
        options: what can happen here, each in its turn: the world decides, not the process.
        private: no other live process can tell when it is taken.
        pure: it changes nothing.
    """

    __slots__ = ("options", "private", "pure", "ready", "run", "text")

    def __init__(
        self,
        text: str,
        run: Callable[..., Any],
        ready: Callable[[bytes], bool] | None = None,
        options: Callable[[bytes], Sequence[Any]] | None = None,
        private: bool = False,
        pure: bool = False,
    ) -> None:
        self.text = text
        self.run = run
        self.ready = ready
        self.options = options
        self.private = private
        self.pure = pure


class Process(NamedTuple):
    name: str
    body: Callable[[], Steps]
    dies: Callable[[bytearray], None] | None = None  # called to note its death; None: it cannot die


class Node:
    """A place of a process where it waits for the result of a step."""

    __slots__ = ("children", "path", "place", "step")

    def __init__(self, step: Step | None, path: tuple[Any, ...], place: str) -> None:
        self.step = step
        self.path = path
        self.place = place
        self.children: dict[Any, int] = {}


class Move(NamedTuple):
    """An edge between two states, in words: see Exploration.trace()."""

    process: str
    place: str
    text: str
    result: Any


class Result(NamedTuple):
    states: int
    moves: int
    ends: int
    violation: str
    trace: tuple[Move, ...]


class Explorer:
    """Explores one configuration.

    Args:
        memory: the shared memory at the start.
        processes: those that run.
        kills: how many of them may die.
        check: raises Violation at an end of an execution that is wrong. It is called with the memory, and with the names of the
            processes that cannot go on and have not ended.
    """

    def __init__(
        self,
        memory: bytes,
        processes: Sequence[Process],
        kills: int,
        check: Callable[[bytes, frozenset[str]], None],
    ) -> None:
        self.reduces = True  # False: every interleaving is a state of its own, to compare with
        self._processes = processes
        self.check = check
        self._nodes: list[Node] = [Node(None, (), "has ended"), Node(None, (), "is dead")]
        self._known: list[dict[Any, int]] = [{} for _ in processes]
        self._at = len(memory)  # of the first node in a state
        self._kills_at = self._at + 2 * len(processes)
        state = bytearray(memory) + bytearray(2 * len(processes) + 1)
        for p in range(len(processes)):
            self._go_to(state, p, self._node(p, ()))
        state[self._kills_at] = kills
        self._start = bytes(state)

    # -- the graph of a process

    def _go_to(self, state: bytearray, process: int, node: int) -> None:
        at = self._at + 2 * process
        state[at], state[at + 1] = divmod(node, 256)

    def _node(self, process: int, path: tuple[Any, ...]) -> int:
        """Return the number of the node that a process comes to with these results."""
        generator = self._processes[process].body()
        try:
            step = next(generator)
            for result in path:
                step = generator.send(result)
        except StopIteration:
            return END
        key = _position(generator)
        known = self._known[process]
        number = known.get(key)
        if number is None:
            number = known[key] = len(self._nodes)
            if number > 0xFFFF:
                raise OverflowError("more nodes than two bytes can number: is a local variable counting?")
            self._nodes.append(Node(step, path, _place(generator)))
        generator.close()
        return number

    def _after(self, process: int, node: Node, result: Any) -> int:
        number = node.children.get(result)
        if number is None:
            number = node.children[result] = self._node(process, (*node.path, result))
        return number

    # -- the graph of states

    def _moves(self, state: bytes) -> Iterator[tuple[bytes, int, Node, Any]]:
        """Yield each next state, the process that moves, the node that it leaves, and the result: None where it dies."""
        active = []
        for p in range(len(self._processes)):
            at = self._at + 2 * p
            number = state[at] << 8 | state[at + 1]
            if number <= DEAD:
                continue
            node = self._nodes[number]
            if self.reduces and node.step.private:  # type: ignore[union-attr]
                active = [(p, node)]
                break
            active.append((p, node))
        for p, node in active:
            if state[self._kills_at] and self._processes[p].dies is not None:
                yield self._death(state, p), p, node, _DIES
            yield from self._steps(state, p, node)

    def _death(self, state: bytes, process: int) -> bytes:
        new = bytearray(state)
        new[self._kills_at] -= 1
        self._go_to(new, process, DEAD)
        self._processes[process].dies(new)  # type: ignore[misc]
        return bytes(new)

    def _steps(
        self, state: bytes, p: int, node: Node, log: list[Move] | None = None
    ) -> Iterator[tuple[bytes, int, Node, Any]]:
        step = node.step
        assert step is not None
        if step.ready is not None and not step.ready(state):
            return
        options: Iterable[Any] = _ONE if step.options is None else step.options(state)
        for option in options:
            new = bytearray(state)
            result = self._take(new, p, node, option, log)
            yield bytes(new), p, node, result

    def _take(self, new: bytearray, p: int, node: Node, option: Any, log: list[Move] | None) -> Any:
        """Take a step, and those after it at which nothing else can happen. Return the result of the first."""
        first = _NONE
        immortal = not new[self._kills_at] or self._processes[p].dies is None
        while True:
            step = node.step
            assert step is not None
            try:
                result = step.run(new, p) if step.options is None else step.run(new, p, option)
                number = node.children.get(result)
                if number is None:
                    number = self._after(p, node, result)
            except Violation as wrong:
                raise _Found(str(wrong), Move(self._processes[p].name, node.place, step.text, None)) from None
            if log is not None:
                log.append(self._move(p, node, result))
            if first is _NONE:
                first = result
            if number <= DEAD:
                break
            node = self._nodes[number]
            following = node.step
            assert following is not None
            alone = self.reduces and following.private and following.options is None
            if not alone or not (immortal or following.pure):
                break
        at = self._at + 2 * p
        new[at] = number >> 8
        new[at + 1] = number & 255
        return first

    def _end(self, state: bytes) -> None:
        waiting = set()
        for p, process in enumerate(self._processes):
            at = self._at + 2 * p
            if state[at] << 8 | state[at + 1] > DEAD:
                waiting.add(process.name)
        self.check(state[: self._at], frozenset(waiting))

    def explore(self, deep: bool = False) -> Result:
        """Visit states until all are seen, or one is wrong.

        Args:
            deep: the newest first, which mostly finds something wrong sooner; else the nearest to the start first, which finds
                the shortest way to it.
        """
        seen: dict[bytes, bytes | None] = {self._start: None}
        level = [self._start]
        moves = ends = 0
        state = self._start
        try:
            while level:
                following = level if deep else []
                for state in _emptied(level) if deep else level:
                    last = True
                    for new, _, _, result in self._moves(state):
                        last = last and result is _DIES  # nobody has to die
                        moves += 1
                        if new not in seen:
                            seen[new] = state
                            following.append(new)
                    if last:
                        ends += 1
                        self._end(state)
                level = following
        except _Found as found:
            trace = (*self._trace(seen, state), found.move)
            return Result(len(seen), moves, ends, found.text, trace)
        except Violation as wrong:
            return Result(len(seen), moves, ends, str(wrong), self._trace(seen, state))
        return Result(len(seen), moves, ends, "", ())

    def _trace(self, seen: dict[bytes, bytes | None], state: bytes) -> tuple[Move, ...]:
        trace: list[Move] = []
        before = seen[state]
        while before is not None:
            trace[:0] = self._between(before, state)
            state, before = before, seen[before]
        return tuple(trace)

    def _between(self, before: bytes, after: bytes) -> list[Move]:
        """Return the steps from a state to one of the next."""
        for new, p, node, result in self._moves(before):
            if new != after:
                continue
            if result is _DIES:
                return [self._move(p, node, result)]
            log: list[Move] = []
            for again, _, _, _ in self._steps(before, p, node, log):
                if again == after:
                    return log
                log.clear()
        raise AssertionError("no step leads there")

    def _move(self, p: int, node: Node, result: Any) -> Move:
        assert node.step is not None
        if result is _DIES:
            return Move(self._processes[p].name, node.place, f"dies before: {node.step.text}", None)
        return Move(self._processes[p].name, node.place, node.step.text, result)


_DIES = object()
_NONE = object()
_ONE = (None,)


class _Found(Exception):
    def __init__(self, text: str, move: Move) -> None:
        super().__init__(text)
        self.text = text
        self.move = move


def _emptied(stack: list[bytes]) -> Iterator[bytes]:
    while stack:
        yield stack.pop()


def _frames(generator: Any) -> Iterator[Any]:
    while generator is not None and hasattr(generator, "gi_frame"):
        if generator.gi_frame is not None:
            yield generator
        generator = generator.gi_yieldfrom


def _position(generator: Any) -> Any:
    """Return what a generator will do next, as a key: its lines and local variables, and those of whom it calls."""
    return tuple((g.gi_code, g.gi_frame.f_lasti, _variables(g.gi_frame.f_locals)) for g in _frames(generator))


def _variables(variables: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Local functions and steps are made of the others, and anew each time."""
    return tuple(sorted((k, v) for k, v in variables.items() if not isinstance(v, FunctionType | Step)))


def _place(generator: Any) -> str:
    """Return the functions that a generator is in, outermost first."""
    return " > ".join(g.gi_code.co_name for g in _frames(generator))


def told(result: Result, configuration: str) -> str:
    """Return a violation in words, with the steps that lead to it."""
    lines = [
        f"{configuration}: {result.violation}",
        f"after {len(result.trace)} steps ({result.states} states were seen):",
    ]
    width = max((len(move.process) for move in result.trace), default=0)
    for number, move in enumerate(result.trace, 1):
        value = "" if move.result is None else f" -> {move.result}"
        lines.append(f"{number:4}  {move.process:{width}}  {move.text}{value}    [{move.place}]")
    return "\n".join(lines)
