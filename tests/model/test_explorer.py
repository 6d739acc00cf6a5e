"""The explorer itself: it finds what is wrong, leaves no end out, and the processes are written as it needs them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.cases import CONFIGURATIONS
from model.explorer import Explorer, Process, Step, Steps, Violation, told
from model.memory import Cell, Memory

HERE = Path(__file__).parent
SOURCES = [f for f in sorted(HERE.glob("*.py")) if not f.stem.startswith(("test_", "explorer"))]


# ---- two that count


def count(cell: Cell) -> Steps:
    n = yield cell.load()
    yield cell.store(n + 1)


def count_at_once(cell: Cell) -> Steps:
    yield cell.add(1)


def counted_by(body: object, kills: int) -> tuple[Explorer, Cell]:
    memory = Memory()
    cell = memory.cell("n")
    processes = [Process(name, lambda: body(cell), lambda s: None) for name in "AB"]  # type: ignore[operator]

    def check(s: bytes, waiting: frozenset[str]) -> None:
        if s[cell.at] != 2:
            raise Violation(f"two have counted, and n is {s[cell.at]}")

    return Explorer(bytes(memory.start), processes, kills, check), cell


def test_a_race_is_found_with_the_steps_that_lead_to_it() -> None:
    result = counted_by(count, 0)[0].explore()
    assert result.violation == "two have counted, and n is 1"
    assert [move.process for move in result.trace] == ["A", "B", "A", "B"]
    text = told(result, "counting")
    assert text.startswith("counting: two have counted, and n is 1\n") and "A  read n -> 0    [count]" in text


@pytest.mark.parametrize("deep", [False, True])
def test_right_programs_pass(deep: bool) -> None:
    result = counted_by(count_at_once, 0)[0].explore(deep)
    assert (result.violation, result.states, result.ends) == ("", 4, 1)


def test_a_death_is_found() -> None:
    result = counted_by(count_at_once, 1)[0].explore()
    assert result.violation == "two have counted, and n is 1"
    assert [move.text for move in result.trace] == ["dies before: n += 1", "n += 1"]


def test_nobody_has_to_die() -> None:
    explorer, cell = counted_by(count_at_once, 2)
    ends = set()
    explorer.check = lambda s, waiting: ends.add(s[cell.at])
    explorer.explore()
    assert ends == {0, 1, 2}


def test_a_violation_in_a_step_is_found() -> None:
    def wrong(s: bytearray, me: int) -> None:
        raise Violation("no")

    def body() -> Steps:
        yield Step("try", wrong)

    result = Explorer(b"", [Process("A", body)], 0, lambda s, waiting: None).explore()
    assert result.violation == "no" and [move.text for move in result.trace] == ["try"]


def test_process_that_waits_for_ever_is_named() -> None:
    def body() -> Steps:
        yield Step("wait", lambda s, me: None, ready=lambda s: False)

    found = []
    Explorer(b"", [Process("A", body)], 0, lambda s, waiting: found.append(waiting)).explore()
    assert found == [frozenset("A")]


# ---- fewer states have the same ends


@pytest.mark.parametrize(
    "name", ["channel: a send and a receive, 2 die", "tasks: one that may start again", "wait group"]
)
def test_fewer_states_have_the_same_ends(name: str) -> None:
    def ends(reduces: bool) -> tuple[int, set[tuple[bytes, frozenset[str]]]]:
        found = set()
        explorer = CONFIGURATIONS[name].explorer(frozenset())
        explorer.reduces = reduces
        explorer.check = lambda s, waiting: found.add((s, waiting))
        return explorer.explore().states, found

    fewer, some = ends(True)
    more, all_of_them = ends(False)
    assert some == all_of_them
    assert fewer < more


# ---- how a process is written


def functions_with_yields() -> Iterator[ast.FunctionDef]:
    for file in SOURCES:
        for node in ast.walk(ast.parse(file.read_text(), str(file))):
            if isinstance(node, ast.FunctionDef) and any(own(node, ast.Yield | ast.YieldFrom)):
                yield node


def own(function: ast.AST, kinds: object) -> Iterator[ast.AST]:
    """Yield the nodes of some kinds in a function, and not in those that it defines."""
    for child in ast.iter_child_nodes(function):
        if isinstance(child, kinds):  # type: ignore[arg-type]
            yield child
        if not isinstance(child, ast.FunctionDef | ast.Lambda | ast.GeneratorExp):
            yield from own(child, kinds)


def has_yield(node: ast.AST) -> bool:
    return isinstance(node, ast.Yield | ast.YieldFrom) or any(own(node, ast.Yield | ast.YieldFrom))


def halves(function: ast.FunctionDef) -> Iterator[int]:
    """Yield the lines at which a value of one step waits on the stack while the next one is taken."""
    for node in own(function, ast.BinOp | ast.Compare | ast.Call | ast.Tuple):
        parts = list(ast.iter_child_nodes(node))
        yields = [i for i, part in enumerate(parts) if has_yield(part)]
        if yields and any(
            not isinstance(p, ast.Name | ast.Constant | ast.Attribute)
            for p in parts[: yields[-1]]
            if not isinstance(p, ast.operator | ast.cmpop)
        ):
            yield node.lineno  # type: ignore[attr-defined]


def test_no_value_is_half_computed_where_a_process_waits() -> None:
    found = [
        f"{function.name}: line {line}" for function in functions_with_yields() for line in halves(function)
    ]
    assert not found


def test_loops_go_over_ranges() -> None:
    found = [
        f"{function.name}: line {loop.lineno}"  # type: ignore[attr-defined]
        for function in functions_with_yields()
        for loop in own(function, ast.For)
        if has_yield(loop) and ast.unparse(loop.iter).split("(")[0] != "range"  # type: ignore[attr-defined]
    ]
    assert not found
