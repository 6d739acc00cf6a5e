"""Warnings of workers are shown by the script, once for each place."""

from __future__ import annotations

from programs import Run, ok


def test_once_for_each_place(run: Run) -> None:
    script = """
        import warnings
        from goproc import go
        def job():
            for i in range(3): warnings.warn("careful")
            warnings.warn("another place", RuntimeWarning)
        job()
        for g in [go.on(p)(job) for p in (1, 2, 1, 2)]: g.result()
    """
    done = run(script)
    assert (done.status, done.out) == (0, "")
    assert done.err.count("UserWarning: careful\n  for i in range(3)") == 1, done.err
    assert done.err.count("RuntimeWarning: another place") == 1 and done.err.count("\n") == 4


def test_they_come_before_the_result_and_where_the_script_wants_them(run: Run) -> None:
    script = """
        import warnings
        from goproc import go
        class Own(UserWarning): pass
        def job(i): warnings.warn(Own(f"number {i}"), stacklevel=2)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for i in range(20): go(job, i).result()
        print([str(w.message) for w in caught] == [f"number {i}" for i in range(20)], {w.category for w in caught} == {Own})
        shown = []
        warnings.showwarning = lambda message, category, *rest: shown.append((str(message), category.__name__))
        go(warnings.warn, "by hand", DeprecationWarning).result()
        def deprecated(): warnings.warn("old", DeprecationWarning)
        go(deprecated).result()
        print(shown)
    """
    assert ok(run(script)) == "True True\n[('old', 'DeprecationWarning')]\n"


def test_filters_that_are_set_later_hold(run: Run) -> None:
    script = """
        import warnings
        from goproc import go
        def job(): warnings.warn("x")
        warnings.simplefilter("ignore")
        go.on(1)(job).result()
        warnings.simplefilter("error")
        try: go.on(1)(job).result()
        except UserWarning as exc: print("raised", exc)
        warnings.simplefilter("ignore")
        go.on(1)(job).result()
    """
    assert ok(run(script)) == "raised x\n"


def test_captured_by_logging(run: Run) -> None:
    script = """
        import logging, warnings
        from goproc import go
        logging.basicConfig(format="%(name)s:%(message)s")
        logging.captureWarnings(True)
        def job(): warnings.warn("careful")
        go.on(1)(job).result()
    """
    done = run(script)
    assert done.err.startswith("py.warnings:") and "UserWarning: careful" in done.err


def test_a_goroutine_that_catches_its_own(run: Run) -> None:
    script = """
        import warnings
        from goproc import go
        def job():
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                warnings.warn("x")
            return len(caught)
        print(go.on(1)(job).result())
    """
    assert ok(run(script)) == "1\n"
