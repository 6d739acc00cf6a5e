"""The modules that an import of goproc loads, and those of its first use. They are compared by name: times vary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from programs import Run, ok

import goproc

_LOADED = "import os, sys; before = set(sys.modules); {}; print(*sorted(set(sys.modules) - before))"
_IMPORT = {"gc", "goproc", "goproc._isolation"}
_NAMES = {
    *_IMPORT,
    "__future__",
    "errno",
    "goproc._channel",
    "goproc._go",
    "goproc._proc",
    "goproc._proc.begin",
    "goproc._proc.limits",
    "goproc._proc.sigint_early",
    "goproc._public",
    "goproc._tracebacks",
    "goproc.shm",
    "goproc.shm._core",
}


def loaded_by(statement: str) -> set[str]:
    """Return the modules that a statement loads in an interpreter that has loaded none but its own."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LOADED.format(statement)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(goproc.__path__[0]).parent)},
        timeout=30,
    )
    assert done.returncode == 0, done
    return set(done.stdout.split())


def test_the_import_of_goproc() -> None:
    assert loaded_by("import goproc") == _IMPORT


def test_the_import_of_the_two_most_used_names() -> None:
    assert loaded_by("from goproc import chan, go") == _NAMES


def test_no_annotation_is_needed_to_subscribe_a_channel() -> None:
    assert loaded_by("from goproc import Chan, chan; Chan[int], chan[int]") == _NAMES - {"goproc._go"}


def test_the_zygote_boots_while_the_host_imports(run: Run) -> None:
    done = run(
        """
        import sys
        from goproc import go
        class Look:
            def find_spec(self, name, path=None, target=None):
                if name in ("greenlet", "goproc._sched.scheduler", "goproc._proc.host"):
                    from goproc._proc import early
                    print(name, early._early is not None)
        sys.meta_path.insert(0, Look())
        print(go.on(1)(pow, 2, 3).result())
        """,
        how="python",
    )
    lines = ok(done).splitlines()
    assert sorted(lines[:-1]) == [
        f"{name} True" for name in ("goproc._proc.host", "goproc._sched.scheduler", "greenlet")
    ]
    assert lines[-1] == "8"


def test_threads_that_use_goproc_at_once_start_one_zygote(run: Run) -> None:
    done = run(
        """
        import threading
        from goproc import go
        from goproc._proc import launch
        launched, both = [], threading.Barrier(2)
        original = launch.launch
        def counted(*args):
            launched.append(args)
            try:
                both.wait(0.5)  # the other thread has that long to come here, too
            except threading.BrokenBarrierError:
                pass
            return original(*args)
        launch.launch = counted
        results = []
        def use(): results.append(go.on(1)(pow, 2, 3).result())
        threads = [threading.Thread(target=use) for _ in range(2)]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        print(results, len(launched))
        """,
        how="python",
    )
    assert ok(done) == "[8, 8] 1\n"


def test_a_first_use_that_fails_leaves_no_zygote_with_an_old_environment(run: Run) -> None:
    done = run(
        """
        import os
        from goproc import go
        try:
            go(5)
        except TypeError as error:
            print(error)
        from goproc._proc import early
        first = early._early.pid
        os.environ["VALUE"] = "1"
        print(go.on(1)(os.getenv, "VALUE").result(), go.on(1)(os.getppid).result() != first)
        """,
        how="python",
    )
    assert ok(done).splitlines()[1:] == ["1 True"]


def test_a_first_use_that_fails_and_a_second_in_the_same_environment(run: Run) -> None:
    done = run(
        """
        import os
        from goproc import go
        try:
            go(5)
        except TypeError:
            pass
        from goproc._proc import early
        first = early._early.pid
        print(go.on(1)(os.getppid).result() == first)
        """,
        how="python",
    )
    assert ok(done) == "True\n"


def test_a_first_use_that_fails_and_nothing_more(run: Run) -> None:
    """The zygote ends with the program."""
    done = run("from goproc import go\ntry:\n  go(5)\nexcept TypeError:\n  print('no')", how="python")
    assert ok(done) == "no\n"


def test_no_zygote_where_goroutines_run_in_this_process(run: Run) -> None:
    done = run(
        """
        from goproc import go
        from goproc._proc import early
        try:
            go(5)
        except TypeError:
            pass
        print(early._early is None)
        from goproc import runtime
        with runtime(procs=0):
            print(go(pow, 2, 3).result(), early._early)
        """,
        how="python",
    )
    assert ok(done) == "False\n8 None\n"


@pytest.mark.parametrize("enabled", [True, False])
def test_the_first_use_looks_for_no_garbage(run: Run, enabled: bool) -> None:
    done = run(
        f"""
        import gc, sys
        from goproc._proc.begin import begin
        if not {enabled}: gc.disable()
        looks = []
        gc.callbacks.append(lambda phase, info: looks.append(phase))
        before = len(sys.modules)
        begin()
        count = gc.get_count()[0]
        print(len(sys.modules) - before > 50, len(looks), gc.isenabled(), not {enabled} or count < 100)
        """
    )
    assert done.out == f"True 0 {enabled} True\n", done


def test_objects_that_the_program_has_frozen_stay_so(run: Run) -> None:
    done = run(
        """
        import gc
        from goproc import go
        kept = [[]]
        gc.freeze()
        before = gc.get_freeze_count()
        go.local(int).result()
        print(gc.get_freeze_count() > before / 2 > 0)
        """
    )
    assert done.out == "True\n", done


def test_garbage_of_before_the_first_use_is_found_after_it(run: Run) -> None:
    done = run(
        """
        import gc, weakref
        from goproc import go
        class Ring: pass
        ring = Ring()
        ring.self = ring
        gone = weakref.ref(ring)
        del ring
        go.local(int).result()
        gc.collect()
        print(gone())
        """
    )
    assert done.out == "None\n", done


@pytest.mark.parametrize("how", ["goproc", "python"])
@pytest.mark.parametrize(("more", "loaded"), [("", False), ("class Own: pass", True)])
def test_cloudpickle_is_there_for_scripts_with_classes(run: Run, how: str, more: str, loaded: bool) -> None:
    """Workers share the zygote's: each would need 10 ms and 2.5 MB for its own."""
    done = run(
        f"""
        import sys
        from goproc import chan, go
        def scale(k, *, by=lambda x: x): return lambda x: by(x * k + len(LETTERS))
        def there(f, ch):
            ch.send(scale(3))
            return f(1), "cloudpickle" in sys.modules
        LETTERS = "abc"
        {more}
        ch = chan(1)
        print(*go.on(1)(there, scale(2), ch).result(), ch.recv()(1))
        """,
        how=how,
    )
    assert ok(done) == f"5 {loaded} 6\n"
