"""Run CPython's own tests of concurrent.futures with goproc's Executor in place of its pools.

    python scripts/cpython_futures_suite.py [-v] [-k PATTERN]

The tests are those of the running Python (Lib/test/test_concurrent_futures, from Python 3.13 on a package). The classes
that they make for each kind of pool are made for one: an Executor with 5 workers. EXCLUDED names the tests that do not
apply, with the reason.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import sys
import unittest
from typing import Any

import goproc
from goproc.futures import Executor, Future

SUITE = "test.test_concurrent_futures"
MODULES = (
    "test_as_completed",
    "test_deadlock",
    "test_future",
    "test_init",
    "test_process_pool",
    "test_shutdown",
    "test_wait",
)
WORKERS = 5

_INTERNALS = "looks at the manager thread, the call queue or the pipe of ProcessPoolExecutor"
EXCLUDED = {
    "test_exception_with_success": "writes the private fields of a future in place of set_exception()",
    "test_shutdown_deadlock_pickle": _INTERNALS,
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": _INTERNALS,
    "test_del_shutdown": _INTERNALS,
    "test_shutdown_no_wait": _INTERNALS,
    "test_python_finalization_error": _INTERNALS,
    "test_cancel_futures": "expects a call to run that no worker could begin before shutdown() cancelled it: no call is taken ahead",
    "test_processes_terminate": "shares a semaphore of multiprocessing, which only a child of its maker can take",
    "test_saturation": "shares a semaphore of multiprocessing, which only a child of its maker can take",
    "test_context_manager_shutdown": "makes a ProcessPoolExecutor by name",
    "test_max_tasks_per_child": "makes a ProcessPoolExecutor for the start method spawn, by name",
    "test_max_tasks_per_child_defaults_to_spawn_context": "the start methods of multiprocessing do not apply",
    "test_max_tasks_early_shutdown": "makes a ProcessPoolExecutor for the start method spawn, by name",
}


def adapt() -> None:
    """Have the suite make its test classes for goproc's Executor alone."""
    util = importlib.import_module(f"{SUITE}.util")

    # By this name the classes made of it are found in workers, too, which import the suite as it is.
    class ProcessPoolForkMixin(util.ExecutorMixin):  # type: ignore[misc, name-defined]
        worker_count = WORKERS
        executor_type = Executor

        def get_context(self) -> Any:
            return multiprocessing.get_context("spawn")

    made = util.create_executor_tests

    def create(
        remote_globals: dict[str, Any], mixin: type, bases: Any = (util.BaseTestCase,), **kwargs: Any
    ) -> None:
        made(remote_globals, mixin, bases, executor_mixins=(ProcessPoolForkMixin,))

    util.create_executor_tests = create


def adapt_module(module: Any) -> None:
    """Put goproc's names into one module of the suite."""
    if hasattr(module, "FutureTests"):  # futures that the test itself sets
        util = sys.modules[f"{SUITE}.util"]
        util.Future = module.Future = Future  # type: ignore[attr-defined]
        for name, value in list(vars(module).items()):
            if name.endswith("_FUTURE"):
                made = util.create_future(value._state, value._exception, value._result)  # type: ignore[attr-defined]
                setattr(module, name, made)
    run = getattr(module, "assert_python_ok", None)
    if run is not None:  # programs that the test runs name the class they use
        theirs, ours = "from concurrent.futures import Executor", "from goproc.futures import Executor"
        module.assert_python_ok = lambda *args, **env: run(
            *[arg.replace(theirs, ours) for arg in args], **env
        )


def suite(pattern: str) -> tuple[unittest.TestSuite, dict[str, str]]:
    """Return the tests to run, and the others with their reasons."""
    adapt()
    chosen, left_out = unittest.TestSuite(), {}
    for name in MODULES:
        module = importlib.import_module(f"{SUITE}.{name}")
        adapt_module(module)
        for case in _cases(unittest.defaultTestLoader.loadTestsFromModule(module)):
            method = case._testMethodName
            if "ThreadPool" in type(case).__name__ or "ResourcesTest" in type(case).__name__:
                left_out[case.id()] = "is of threads, or of multiprocessing's resource tracker"
            elif method in EXCLUDED:
                left_out[case.id()] = EXCLUDED[method]
            elif pattern in case.id():
                chosen.addTest(case)
    return chosen, left_out


def _cases(tests: Any) -> list[Any]:
    return [
        case for test in tests for case in (_cases(test) if isinstance(test, unittest.TestSuite) else [test])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-v", action="store_true", help="name each test")
    parser.add_argument("-k", default="", metavar="PATTERN", help="only tests whose id has this in it")
    options = parser.parse_args()
    with goproc.runtime(procs=WORKERS):
        tests, left_out = suite(options.k)
        result = unittest.TextTestRunner(verbosity=1 + options.v, stream=sys.stdout).run(tests)
    for name, reason in left_out.items():
        print(f"left out: {name.removeprefix(SUITE + '.')}: {reason}")
    print(f"{result.testsRun} ran, {len(result.skipped)} skipped, {len(left_out)} left out")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
