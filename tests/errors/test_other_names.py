"""Arguments as other libraries call them: the error names the argument of goproc's."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from goproc import Group, flow, go, pfor, pmap, psort, runtime
from goproc._other_names import _OTHERS, hint
from goproc.futures import Executor

pytestmark = pytest.mark.usefixtures("runtime2")


def mapped(*iterables: Any) -> None:
    with Executor(1) as executor:
        executor.map(pow, *iterables)


CASES: dict[str, tuple[Callable[[], Any], str]] = {
    "pmap(chunksize)": (lambda: pmap(abs, [1], chunksize=4), "'chunksize'; goproc has chunk="),  # type: ignore[call-arg]
    "pmap(n_jobs)": (lambda: pmap(abs, [1], n_jobs=4), "goproc has workers="),  # type: ignore[call-arg]
    "pmap(max_workers)": (lambda: pmap(abs, [1], max_workers=4), "goproc has workers="),  # type: ignore[call-arg]
    "pmap(processes)": (lambda: pmap(abs, [1], processes=4), "goproc has workers="),  # type: ignore[call-arg]
    "pmap(desc)": (lambda: pmap(abs, [1], desc="x"), "goproc has progress="),  # type: ignore[call-arg]
    "pmap(callback)": (lambda: pmap(abs, [1], callback=print), "loop over the results"),  # type: ignore[call-arg]
    "pmap(initargs)": (lambda: pmap(abs, [1], initargs=(1,)), "goproc has init=lambda: f"),  # type: ignore[call-arg]
    "pmap(func)": (lambda: pmap(func=abs), "goproc has f="),  # type: ignore[call-arg]
    "pmap(f, xs, 4)": (lambda: pmap(abs, [1], 4), "iterable 2: 'int' object is not iterable; options have names"),  # type: ignore[arg-type]
    "pfor(n_jobs)": (lambda: pfor(abs, [1], n_jobs=4), "'n_jobs'; goproc has workers="),
    "psort(n_jobs)": (lambda: psort([1], n_jobs=4), "goproc has workers="),  # type: ignore[call-arg]
    "flow(maxsize)": (lambda: flow([], maxsize=4), "goproc has buffer="),  # type: ignore[call-arg]
    "Flow.map(n_jobs)": (lambda: flow([]).map(abs, n_jobs=4), "goproc has workers="),  # type: ignore[call-arg]
    "Group(max_workers)": (lambda: Group(max_workers=4), "goproc has limit="),  # type: ignore[call-arg]
    "runtime(num_cpus)": (lambda: runtime(num_cpus=4), "goproc has procs="),  # type: ignore[call-arg]
    "go(args)": (lambda: go(abs, args=(1,)), "abs() has no argument 'args': write go(abs, ...)"),  # type: ignore[call-arg]
    "go.local(args)": (lambda: go.local(mapped, args=(1,)), "write go(mapped, ...)"),  # type: ignore[call-arg]
    "go.on(args)": (lambda: go.on(1)(abs, args=(1,)), "write go(abs, ...)"),  # type: ignore[call-arg]
    "Executor.map(f, xs, 4)": (lambda: mapped([1], 4), "iterable 2: 'int' object is not iterable; timeout= and"),
    "Executor.map(f, 4)": (lambda: mapped(4), "iterable 1: 'int' object is not iterable"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_error_names_the_argument_that_is_meant(case: str) -> None:
    call, said = CASES[case]
    with pytest.raises(TypeError, match=re.escape(said)):
        call()


def test_a_name_that_nobody_knows_has_no_hint() -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument 'colour'$"):
        pmap(abs, [1], colour=4)  # type: ignore[call-arg]


def test_a_parameter_called_args_is_given() -> None:
    def f(args: Any = 0, **more: Any) -> Any:
        return args

    def g(**more: Any) -> Any:
        return more

    assert go(f, args=(1,)).result() == (1,)
    assert go.local(g, args=2).result() == {"args": 2}


def test_each_name_leads_to_an_argument() -> None:
    for own, others in _OTHERS.items():
        for name in others.split():
            if name != "initargs":
                assert hint(name, {own}) == f"; goproc has {own}="
    assert hint("n_jobs", {"f"}) == ""
