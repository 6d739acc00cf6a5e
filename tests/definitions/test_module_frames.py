"""A library that looks for names among the local variables of all callers finds the globals of a goroutine's function."""

from __future__ import annotations

from pathlib import Path

import programs
from programs import Run

# In place of polars: its sql() does this.
_POLARS = """
import sys
def sql(text):
    name = text.split()[-1]
    frame = sys._getframe(1)
    while frame is not None:
        if name in frame.f_locals:
            return frame.f_locals[name]
        frame = frame.f_back
    raise NameError(name)
"""


def test_a_global_that_a_text_names(run: Run, tmp_path: Path) -> None:
    (tmp_path / "polars.py").write_text(_POLARS)
    script = """
        import polars
        from goproc import go
        numbers = [[1], [2]]
        def use(*args, **kwargs): return polars.sql("select from numbers"), args, kwargs
        def importing():
            import polars
            return polars.sql("select from numbers")
        def of_its_own():
            here = 5
            return polars.sql("select from here")
        class Model:
            def use(self): return polars.sql("select from numbers")
        def through_a_method(): return Model().use(), "numbers"
        def fails(): return polars.sql("select from nothing"), "numbers"
        def picture(error): return [type(error).__name__, str(error), [n for n in error.__notes__ if "module_frames" in n]]
        for f in (use, importing, of_its_own, through_a_method):
            assert f() == go.on(0)(f).result() == go.on(1)(f).result() == go.on(2)(f).result(), f
        print(go.on(1)(use, 1, x=2).result(), picture(go.on(1)(fails).exception()))
        numbers.append([3])
        print(go.on(1)(importing).result())
    """
    expected = "([[1], [2]], (1,), {'x': 2}) ['NameError', 'nothing', []]\n[[1], [2], [3]]\n"
    assert programs.ok(run(script, procs=2)) == expected
