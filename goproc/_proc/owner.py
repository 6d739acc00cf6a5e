"""The owner of this process: its program, or a prompt, a notebook or a test run."""

from __future__ import annotations

import os
import sys

from goproc._proc import main_exit


def is_another() -> bool:
    """Return True if the process belongs to a prompt, a notebook or a test run, which must outlive a panic."""
    if main_exit.interactive():
        return True
    modules = sys.modules
    ipython = modules.get("IPython")
    if ipython is not None and getattr(ipython, "get_ipython", lambda: None)() is not None:
        return True
    return is_test_run()


def is_test_run() -> bool:
    # Programs that a test starts inherit the variables, but are no test runs.
    return "_pytest.config" in sys.modules and (
        "PYTEST_VERSION" in os.environ or "PYTEST_CURRENT_TEST" in os.environ
    )
