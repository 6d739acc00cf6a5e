"""Run CPython's own tests of concurrent.futures with goproc's Executor in place of its pools.

    python scripts/cpython_futures_suite.py [-v] [-k PATTERN] [--tests FOLDER]

The tests are those of the running Python, Lib/test/test_concurrent_futures. Some builds of Python have no tests: --tests
names the folder Lib/test of another Python. The classes that the tests make for each kind of pool are made for one: an
Executor with 5 workers. EXCLUDED names the tests that do not apply, with the reason.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import importlib
import importlib.util
import multiprocessing.context
import os
import sys
import tempfile
import unittest
from types import SimpleNamespace
from typing import Any

import goproc
from goproc import chan
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
    "test_processes_terminate": "waits for the end of the processes, which are workers of the runtime and go on",
    "test_cancel_futures": "expects a call to run that no worker could begin before shutdown() cancelled it: no call is taken ahead",
    "test_max_tasks_per_child_defaults_to_spawn_context": "the start methods of multiprocessing do not apply",
}
BY_NAME = ("test_context_manager_shutdown",)  # tests that make a ProcessPoolExecutor by its name


class Permits:
    """A semaphore that calls on goproc's workers can take. As those of multiprocessing it has no upper bound."""

    def __init__(self, value: int) -> None:
        self.permits = chan(1000)
        for _ in range(value):
            self.release()

    def acquire(self) -> bool:
        self.permits.recv()
        return True

    def release(self) -> None:
        self.permits.send(None)


class Context(multiprocessing.context.SpawnContext):
    """A context of multiprocessing with semaphores for goproc's workers."""

    def Semaphore(self, value: int = 1) -> Any:
        return Permits(value)


def adapt() -> None:
    """Have the suite make its test classes for goproc's Executor alone."""
    util = importlib.import_module(f"{SUITE}.util")

    # By this name the classes made of it are found in workers, too, which import the suite as it is.
    class ProcessPoolForkMixin(util.ExecutorMixin):  # type: ignore[misc, name-defined]
        worker_count = WORKERS
        executor_type = Executor

        def get_context(self) -> Any:
            return Context()

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
        module.assert_python_ok = lambda *args, **env: run(*[_adapted(arg) for arg in args], **env)
    for case in vars(module).values():
        for name in BY_NAME:
            if isinstance(case, type) and name in vars(case):
                setattr(case, name, _with_executor(getattr(case, name), module))


def _adapted(argument: str) -> str:
    """Return an argument of python; a program uses goproc's Executor and finds the tests."""
    theirs, ours = "from concurrent.futures import Executor", "from goproc.futures import Executor"
    if theirs not in argument:
        return argument
    return f"import sys; sys.path[:] = {sys.path!r}\n" + argument.replace(theirs, ours)


def _with_executor(method: Any, module: Any) -> Any:
    """Return a method of a test for which futures.ProcessPoolExecutor is goproc's Executor."""
    ours = SimpleNamespace(ProcessPoolExecutor=Executor)

    def test(case: unittest.TestCase) -> None:
        module.futures = ours
        try:
            method(case)
        finally:
            module.futures = concurrent.futures

    return test


def find_tests(folder: str | None, links: str) -> None:
    """Have "test" be the package of the tests.

    Args:
        folder: that package of another Python, or None.
        links: an empty folder, for the path on which modules are found.
    """
    if folder is not None:
        os.symlink(os.path.abspath(folder), os.path.join(links, "test"))
        sys.path.insert(0, links)
    if importlib.util.find_spec(SUITE) is None:
        where = folder or f"the tests of {sys.executable}"
        sys.exit(
            f"no {SUITE} in {where}: name the folder of the tests of another Python, --tests .../lib/python3.13/test"
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
    parser.add_argument("--tests", metavar="FOLDER", help="the folder Lib/test of another Python")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as links:
        find_tests(options.tests, links)
        return run(options)


def run(options: argparse.Namespace) -> int:
    with goproc.runtime(procs=WORKERS):
        tests, left_out = suite(options.k)
        result = unittest.TextTestRunner(verbosity=1 + options.v, stream=sys.stdout).run(tests)
    for name, reason in left_out.items():
        print(f"left out: {name.removeprefix(SUITE + '.')}: {reason}")
    print(f"{result.testsRun} ran, {len(result.skipped)} skipped, {len(left_out)} left out")
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
