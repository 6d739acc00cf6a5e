"""A map or a flow that nobody iterates has run nothing: a warning says so, and only then."""

from __future__ import annotations

import gc
import warnings
from typing import Any

import pytest
from programs import Run

from goproc import flow, pfilter, pmap


def work(x: int) -> int:
    return x


def statement() -> None:
    pmap(work, range(3))


def filtered() -> None:
    pfilter(work, range(3))


@pytest.mark.parametrize("forgets", [statement, filtered])
def test_a_map_that_is_never_iterated_warns_at_its_line(forgets: Any) -> None:
    with pytest.warns(
        RuntimeWarning, match=r"p(map|filter)\(work\) was never iterated, so nothing has run: "
    ) as told:
        forgets()
    assert [(one.filename, one.lineno) for one in told] == [(__file__, forgets.__code__.co_firstlineno + 1)]


def forgotten_flow() -> None:
    flow(range(3)).map(work).each(work)


def test_a_flow_that_is_never_run_warns_at_its_line() -> None:
    text = r"flow work > work was never iterated, so nothing has run: add \.run\(\)"
    with pytest.warns(RuntimeWarning, match=text) as told:
        forgotten_flow()
    assert [(one.filename, one.lineno) for one in told] == [
        (__file__, forgotten_flow.__code__.co_firstlineno + 1)
    ]


def handed_on() -> Any:
    results = pmap(work, range(3))
    return results


def assigned_again() -> None:
    results: Any = pmap(work, range(3))
    results = None
    assert results is None


def deleted() -> None:
    results = flow(range(3)).map(work)
    del results


def raises() -> None:
    results = pmap(work, range(3))
    raise LookupError(results)


def raises_beside_it() -> None:
    print(pmap(work, range(3)), [][1])


def used_wrongly() -> None:
    with pytest.raises(TypeError):
        pmap(work, range(3)).__reduce__()
    print()


def test_no_warning_for_an_object_with_a_name_or_after_an_exception() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handed_on()
        assigned_again()
        deleted()
        used_wrongly()
        for fails in (raises, raises_beside_it):
            with pytest.raises(LookupError):
                fails()
        gc.collect()


def test_no_warning_for_a_map_that_is_iterated_closed_or_extended(runtime2: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results: Any = pmap(work, range(30))
        next(results)
        del results
        results = pmap(work, range(3))
        results.close()
        del results
        with pmap(work, range(3)) as results:
            pass
        del results
        base: Any = flow(range(4))
        assert list(base.map(work)) == [0, 1, 2, 3]
        one: Any
        other: Any
        one, other = base.tee()
        assert sorted(one.merge(flow([9]), other)) == [0, 0, 1, 1, 2, 2, 3, 3, 9]
        base.map(work).run()
        del base, one, other


@pytest.mark.parametrize("end", ["", "1 / 0", "raise SystemExit"])
def test_no_warning_at_the_end_of_the_script(run: Run, end: str) -> None:
    done = run(f"""
        from goproc import flow, pmap
        results = pmap(abs, range(3))
        stages = flow(range(3)).map(abs)
        {end}
    """)
    assert "never iterated" not in done.err
