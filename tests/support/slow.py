"""The files of tests that take longest: campaigns, and tests that start programs and wait for their ends.

``-m "not slow"`` leaves them out, ``-m slow`` runs them alone. CI does both.
"""

from __future__ import annotations

from pathlib import Path

FOLDERS = {"model", "preload", "recovery", "stress", "torture"}
FILES = {
    "deadlock/test_deadlock.py",
    "deadlock/test_idle_threads.py",
    "conformance/test_m_deadlock.py",
    "data/test_flow_deaths.py",
    "data/test_flow_ends.py",
    "data/test_pmap_deaths.py",
    "test_alike.py",
    "test_awaiting.py",
    "test_bad_input.py",
    "test_closed_descriptors.py",
    "test_death.py",
    "test_definitions.py",
    "test_definitions_changed.py",
    "test_definitions_of_classes.py",
    "test_dump.py",
    "test_dump_command.py",
    "test_examples.py",
    "test_forked_memory.py",
    "test_forks.py",
    "test_full_memory.py",
    "test_hidden_modules.py",
    "test_inherited.py",
    "test_interactive.py",
    "test_interrupt.py",
    "test_interrupt_in_c.py",
    "test_logs.py",
    "test_main_panic.py",
    "test_memory_reuse.py",
    "test_notebook.py",
    "test_nothing_outlives.py",
    "test_nothing_to_import.py",
    "test_panic.py",
    "test_placement.py",
    "test_runtimes.py",
    "test_survivors.py",
    "test_testing.py",
    "test_unread_stderr.py",
    "test_worker_end.py",
    "test_zygote.py",
    "types/test_types.py",
}


def is_slow(path: Path, tests: Path) -> bool:
    """Return True if a file of the folder `tests` is one of those that take longest."""
    place = path.relative_to(tests)
    return place.parts[0] in FOLDERS or place.as_posix() in FILES
