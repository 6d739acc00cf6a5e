"""The tables: medians over the rounds, and medians of the ratios within each round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping

from bench.model import SUBJECT, Row, Target
from bench.runner import Outcome


def row_table(row: Row, outcomes: Mapping[str, Outcome]) -> str:
    """A row's table: every peer's median and range, how many times goproc's it is, and the targets."""
    lines = [f"{row.name}: {row.title}"]
    lines.append(f"  {'':28} {'median':>9}  {'min .. max':<21} {f'/ {SUBJECT}':>8}  {'min .. max':<17}")
    subject = outcomes.get(SUBJECT)
    for peer in row.peers:
        outcome = outcomes[peer.name]
        good = outcome.good
        if not good:
            reason = f"not installed: {outcome.missing}" if outcome.missing else f"failed: {outcome.error}"
            lines.append(f"  {peer.name:28} {reason}")
            continue
        ratios = _ratios(outcome, subject) if subject and peer.name != SUBJECT else []
        line = (
            f"  {peer.name:28} {quantity(statistics.median(good), row.unit):>9}  {_span(good, row.unit):<21}"
        )
        line += f" {statistics.median(ratios):8.2f}  {_span(ratios, ''):<17}" if ratios else " " * 28
        if outcome.error:
            line += f"  failed in {len(outcome.values) - len(good)} of {len(outcome.values)} rounds: {outcome.error}"
        elif outcome.note:
            line += f"  {outcome.note}"
        lines.append(line.rstrip())
    lines += [f"  target: {line}" for line in target_lines(row, outcomes)]
    return "\n".join(lines)


def target_lines(row: Row, outcomes: Mapping[str, Outcome]) -> list[str]:
    """One line for each target of a row: its figure, and whether it is met."""
    if not row.targets:
        return ["none"]
    lines = []
    for target in row.targets:
        subject = "" if target.subject == SUBJECT else f"{target.subject}: "
        figures = target_figures(target, outcomes)
        if not figures:
            lines.append(f"{subject}{target.text}: NOT MEASURED")
            continue
        median = statistics.median(figures)
        verdict = "met" if target.met(median) else "NOT MET"
        span = _span(figures, target.unit)
        lines.append(f"{subject}{target.text}: {quantity(median, target.unit)} ({span})  {verdict}")
    return lines


def target_figures(target: Target, outcomes: Mapping[str, Outcome]) -> list[float]:
    """The target's figure in every round that has it."""
    rounds = max((len(outcome.values) for outcome in outcomes.values()), default=0)
    figures = []
    for number in range(rounds):
        values = {}
        for name, outcome in outcomes.items():
            value = outcome.values[number] if number < len(outcome.values) else None
            if value is not None:
                values[name] = value
        figure = target.figure(values)
        if figure is not None:
            figures.append(figure)
    return figures


def quantity(value: float, unit: str) -> str:
    """A figure for people: seconds in the unit that fits, ratios with an ``x``."""
    if unit == "x":
        return f"{value:.2f}x"
    if unit != "s":
        return f"{value:.3g}" if abs(value) < 10 else f"{value:.1f}"
    for factor, name in ((1.0, "s"), (1e3, "ms"), (1e6, "us")):
        if abs(value) * factor >= 1:
            return f"{value * factor:.3g} {name}"
    return f"{value * 1e9:.3g} ns"


def _ratios(outcome: Outcome, subject: Outcome) -> list[float]:
    pairs = zip(outcome.values, subject.values, strict=False)
    return [value / own for value, own in pairs if value is not None and own]


def _span(values: Iterable[float], unit: str) -> str:
    figures = sorted(values)
    return f"{quantity(figures[0], unit)} .. {quantity(figures[-1], unit)}" if figures else ""
