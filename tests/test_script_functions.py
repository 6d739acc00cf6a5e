"""Functions of a script in its goroutines: their globals, and which of them are one object."""

from __future__ import annotations

import textwrap

from programs import Run, ok

HEAD = """
    import functools, pickle, sys
    from goproc import chan, go

    def everywhere(f, *args):
        found = [go.on(p)(f, *args).result(30) for p in (0, 1, 2)]
        return found[0] if found[0] == found[1] == found[2] else found
"""


def script(text: str) -> str:
    return textwrap.dedent(HEAD) + textwrap.dedent(text)


def test_a_cached_function_reads_what_a_class_and_a_decorated_function_read(run: Run) -> None:
    text = """
        CONFIG = {"n": 3}

        def decorated(f):
            @functools.wraps(f)
            def around(*args):
                return f(*args)
            return around

        @functools.cache
        def model(): return CONFIG["n"]
        @decorated
        @functools.cache
        def inner(): return CONFIG["n"]
        @decorated
        def plain(): return CONFIG["n"]
        class Loader:
            def get(self): return CONFIG["n"], model(), inner()

        def task():
            return Loader().get(), model(), inner(), plain()
        print(everywhere(Loader().get), everywhere(task))
    """
    assert ok(run(script(text))) == "(3, 3, 3) ((3, 3, 3), 3, 3, 3)\n"


def test_the_cache_of_a_decorated_function_is_filled_once_per_process(run: Run) -> None:
    text = """
        from goproc.sync import Atomic
        LOADS = Atomic(0)

        def decorated(f):
            @functools.wraps(f)
            def around(*args):
                return f(*args)
            return around

        @decorated
        @functools.cache
        def load(): return LOADS.add(1)
        for _ in range(3):
            go.on(1)(load).result(30)
        print(LOADS.load())
    """
    assert ok(run(script(text))) == "1\n"


def test_a_cached_function_in_a_container_reads_the_latest_globals(run: Run) -> None:
    text = """
        CONFIG = {"n": 3}
        @functools.lru_cache
        def model(n): return n * CONFIG["n"]
        TABLE = {"model": model}
        def task(n): return TABLE["model"](n)
        print(go.on(1)(task, 1).result(30))
        CONFIG["n"] = 4
        print(go.on(1)(task, 2).result(30))
    """
    assert ok(run(script(text))) == "3\n8\n"
