"""Run joblib's own tests of Parallel, which its wheel has, with goproc's backend in them.

    python scripts/joblib_suite.py [--as-loky | --sklearn] [options of pytest]

The backend is made known to joblib before its tests are collected, so that each test that is made for every backend is made
for "goproc", too; these are run. With --as-loky goproc's backend takes the place of loky's: then the tests that are made
for backends with processes run, under loky's name. EXCLUDED names the tests that do not apply, with the reason.

With --sklearn scikit-learn's tests of its forests and of its searches run, which its wheel has, with goproc's backend.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

import joblib
import joblib.parallel
import pytest

from goproc.joblib import GoprocBackend

_NAMED = "a process of another backend does not know the name before it imports goproc.joblib"
EXCLUDED = {
    "test_nested_loop[loky-goproc]": _NAMED,
    "test_nested_loop[back_compat_backend-goproc]": _NAMED,
}
_OF_LOKY = "is of loky itself: its class, its warnings"
_MEMMAPS = (
    "expects joblib's memory maps, which only joblib's own pools make; arrays travel through shared memory"
)
EXCLUDED_AS_LOKY = {
    "test_nested_parallel_warnings": _OF_LOKY,
    "test_backend_context_manager": _OF_LOKY,
    "test_nested_parallelism_limit": _OF_LOKY,
    "test_multiple_generator_call_separated_gc": "expects the error that loky raises where a second Parallel can go on",
    "test_auto_memmap_on_arrays_from_generator": _MEMMAPS,
    "test_memmapping_leaks": _MEMMAPS,
}


class Backend:
    """A plugin of pytest: puts the backend into joblib, and leaves out what does not apply.

    Args:
        as_loky: in place of loky's, and not under a name of its own.
    """

    def __init__(self, as_loky: bool) -> None:
        self.as_loky = as_loky
        name = "loky" if as_loky else "goproc"
        joblib.parallel.BACKENDS[name] = GoprocBackend

    def pytest_collection_modifyitems(self, config: Any, items: list[Any]) -> None:
        word = "loky" if self.as_loky else "goproc"
        for item in list(items):
            reason = EXCLUDED_AS_LOKY.get(item.originalname) if self.as_loky else EXCLUDED.get(item.name)
            if word not in item.name.lower():
                items.remove(item)
            elif reason:
                item.add_marker(pytest.mark.skip(reason=reason))


def of_sklearn(rest: list[str]) -> int:
    """Run scikit-learn's tests of what uses joblib most."""
    import sklearn

    folder = os.path.dirname(sklearn.__file__)
    files = [
        os.path.join(folder, "ensemble", "tests", "test_forest.py"),
        os.path.join(folder, "model_selection", "tests", "test_search.py"),
    ]
    with joblib.parallel_config("goproc"):
        return int(pytest.main(["-p", "no:cacheprovider", "-q", "-rs", "-c", os.devnull, *files, *rest]))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--as-loky", action="store_true", help="in place of loky's backend")
    parser.add_argument("--sklearn", action="store_true", help="scikit-learn's tests in place of joblib's")
    options, rest = parser.parse_known_args()
    if options.sklearn:
        return of_sklearn(rest)
    file = os.path.join(os.path.dirname(joblib.__file__), "test", "test_parallel.py")
    words = [
        "-p",
        "no:cacheprovider",
        "-q",
        "-rs",
        "-c",
        os.devnull,
        "--rootdir",
        os.path.dirname(file),
        file,
        *rest,
    ]
    return int(pytest.main(words, plugins=[Backend(options.as_loky)]))


if __name__ == "__main__":
    sys.exit(main())
