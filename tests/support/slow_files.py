"""The files of tests that take longest: campaigns, and tests that start programs and wait for their ends.

``-m "not slow"`` leaves them out, ``-m slow`` runs them alone. CI does both.
"""

from __future__ import annotations

from pathlib import Path

FOLDERS = {"model", "preload", "recovery", "stress", "torture"}
FILES = {
    "cli/test_dump_command.py",
    "conformance/test_m_deadlock.py",
    "conformance/test_r_programs.py",
    "data/test_data_examples.py",
    "data/test_flow_deaths.py",
    "data/test_flow_ends.py",
    "data/test_flow_parts.py",
    "data/test_importing.py",
    "data/test_pmap_deaths.py",
    "deadlock/test_deadlock.py",
    "deadlock/test_idle_threads.py",
    "definitions/test_class_state.py",
    "definitions/test_definitions.py",
    "definitions/test_definitions_changed.py",
    "definitions/test_definitions_of_classes.py",
    "ends/test_alike.py",
    "ends/test_death.py",
    "ends/test_interrupt.py",
    "ends/test_interrupt_in_c.py",
    "ends/test_interrupt_places.py",
    "ends/test_main_panic.py",
    "ends/test_nothing_outlives.py",
    "ends/test_nothing_to_import.py",
    "ends/test_panic.py",
    "ends/test_runtimes.py",
    "ends/test_survivors.py",
    "ends/test_worker_end.py",
    "errors/test_bad_input.py",
    "event_loops/test_awaiting.py",
    "fuzz/test_flows.py",
    "fuzz/test_maps.py",
    "goroutine/test_dump.py",
    "memory/test_full_memory.py",
    "memory/test_memory_reuse.py",
    "memory/test_no_memory.py",
    "modules/test_hidden_modules.py",
    "notebook/test_interactive.py",
    "notebook/test_notebook.py",
    "output/test_logs.py",
    "output/test_unread_stderr.py",
    "processes/test_closed_descriptors.py",
    "processes/test_forked_memory.py",
    "processes/test_forks.py",
    "processes/test_inherited.py",
    "project/test_distribution.py",
    "project/test_examples.py",
    "scheduler/test_placement.py",
    "start/test_limits.py",
    "start/test_zygote.py",
    "testing/test_testing.py",
    "types/test_types.py",
}


def is_slow(path: Path, tests: Path) -> bool:
    """Return True if a file of the folder `tests` is one of those that take longest."""
    place = path.relative_to(tests)
    return place.parts[0] in FOLDERS or place.as_posix() in FILES
