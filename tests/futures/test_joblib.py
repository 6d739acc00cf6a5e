"""goproc.joblib as scripts use it. joblib's own tests run by scripts/joblib_suite.py."""

from __future__ import annotations

import importlib.util

import pytest
from programs import Run, ok

needs_joblib = pytest.mark.skipif(
    importlib.util.find_spec("joblib") is None, reason="joblib is not installed"
)
needs_sklearn = pytest.mark.skipif(
    importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed"
)
pytestmark = needs_joblib


def test_calls_run_on_workers_and_come_back_in_order(run: Run) -> None:
    done = run("""
        import os
        import goproc.joblib
        from joblib import Parallel, delayed, parallel_config

        def work(i):
            return i * i, os.getpid()

        with parallel_config("goproc", n_jobs=2):
            found = Parallel()(delayed(work)(i) for i in range(200))
        print([value for value, _ in found] == [i * i for i in range(200)])
        print(os.getpid() in {pid for _, pid in found})
    """)
    assert ok(done) == "True\nFalse\n"


def test_a_generator_of_results(run: Run) -> None:
    done = run("""
        import goproc.joblib
        from joblib import Parallel, delayed

        for kind in ("generator", "generator_unordered"):
            results = Parallel(n_jobs=2, backend="goproc", return_as=kind)(delayed(abs)(-i) for i in range(50))
            print(sorted(results) == list(range(50)))
    """)
    assert ok(done) == "True\nTrue\n"


def test_an_exception_ends_the_others_and_the_next_call_works(run: Run) -> None:
    done = run(
        """
        import time
        import goproc.joblib
        from joblib import Parallel, delayed

        def work(i):
            if i == 3:
                raise KeyError("the third")
            time.sleep(0.01)  # the length of the call
            return i

        try:
            Parallel(n_jobs=2, backend="goproc", batch_size=1)(delayed(work)(i) for i in range(1000))
        except KeyError as error:
            print(error, "raise KeyError" in str(error.__cause__))
        print(Parallel(n_jobs=2, backend="goproc")(delayed(work)(i) for i in range(4, 8)))
        """
    )
    assert (done.status, done.out) == (0, "'the third' True\n[4, 5, 6, 7]\n"), done


def test_n_jobs(run: Run) -> None:
    done = run(
        """
        import goproc, goproc.joblib
        from joblib import effective_n_jobs, parallel_config
        from goproc.shm import _core

        with parallel_config("goproc"):
            print(*[effective_n_jobs(n) for n in (1, 2, 3, -1, -2)], _core.attached())
        """,
        procs=3,
    )
    assert ok(done) == "1 2 3 3 2 False\n"


def test_threads_of_libraries(run: Run) -> None:
    done = run("""
        import os
        import goproc.joblib
        from joblib import Parallel, delayed, parallel_config

        with parallel_config("goproc", n_jobs=2):
            print(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(2)))
        with parallel_config("goproc", n_jobs=2, inner_max_num_threads=3):
            print(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(2)))
        with parallel_config("goproc", n_jobs=2):
            print(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(2)))
    """)
    assert ok(done) == "['1', '1']\n['3', '3']\n['1', '1']\n"


def test_a_parallel_on_a_worker_runs_one_after_the_other(run: Run) -> None:
    done = run("""
        import warnings
        import goproc.joblib
        from goproc import go
        from joblib import Parallel, delayed

        def inner():
            import goproc.joblib
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                found = Parallel(n_jobs=2, backend="goproc")(delayed(abs)(-i) for i in range(3))
            return found, len(caught)

        print(go(inner).result())
    """)
    assert ok(done) == "([0, 1, 2], 1)\n"


@pytest.mark.watchdog(180)
@needs_sklearn
def test_a_grid_search(run: Run) -> None:
    done = run(
        """
        import goproc.joblib
        from joblib import parallel_config
        from sklearn.datasets import load_iris
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import GridSearchCV

        X, y = load_iris(return_X_y=True)

        def best(**options):
            search = GridSearchCV(RandomForestClassifier(5, random_state=0), {"max_depth": [1, 3]}, cv=3, **options)
            return search.fit(X, y).cv_results_["mean_test_score"].tolist()

        with parallel_config("goproc"):
            print(best(n_jobs=2) == best())
        """,
        limit=90,
    )
    assert ok(done) == "True\n"


def test_a_call_may_write_to_its_array_and_nobody_else_sees_that(run: Run) -> None:
    done = run("""
        import numpy
        import goproc.joblib
        from joblib import Parallel, delayed, parallel_config
        array = numpy.zeros(200_000)

        def write(x):
            before = float(x[0])
            x[0] = 1
            return before

        with parallel_config("goproc", n_jobs=2):
            print(Parallel()(delayed(write)(array) for _ in range(8)) == [0.0] * 8, array[0])
    """)
    assert ok(done) == "True 0.0\n"


def test_batches_take_longer_where_their_sending_takes_long() -> None:
    from goproc.joblib import GoprocBackend

    backend = GoprocBackend()

    def limits_after(seconds: float) -> tuple[float, float]:
        for _ in range(50):
            backend._note_sending(seconds)
        return backend.MIN_IDEAL_BATCH_DURATION, backend.MAX_IDEAL_BATCH_DURATION

    assert limits_after(0.0001) == (0.005, 0.1)
    large_array = 0.003  # 20 MB are compared with their copy
    assert limits_after(large_array) == pytest.approx((0.03, 0.3), rel=0.01)
    assert limits_after(1.0) == (0.2, 2.0)
    backend.terminate()
    assert limits_after(0.0) == (0.005, 0.1)
