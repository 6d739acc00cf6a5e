"""Arguments as other libraries call them: the error for one of them names the argument of goproc's that is meant."""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection
    from typing import Any

# The argument of goproc's: the names that it has in multiprocessing, concurrent.futures, joblib, mpire, tqdm and the like.
_OTHERS = {
    "workers": "n_jobs max_workers processes num_workers n_workers num_proc num_procs nprocs jobs n_threads concurrency",
    "procs": "n_jobs max_workers processes num_workers n_workers num_proc num_procs nprocs num_cpus",
    "chunk": "chunksize chunk_size batch_size n_splits",
    "progress": "desc description progress_bar progress_bar_options tqdm show_progress verbose",
    "init": "initializer initargs worker_init setup",
    "exit": "worker_exit finalizer teardown",
    "recycle": "maxtasksperchild max_tasks_per_child worker_lifespan",
    "timeout": "task_timeout time_limit",
    "total": "iterable_len length",
    "ahead": "max_tasks_active pre_dispatch prefetch buffersize maxsize",
    "buffer": "maxsize buffersize prefetch",
    "on_error": "error_callback return_exceptions errors on_exception",
    "retries": "max_retries retry tries attempts",
    "memory": "max_memory memory_limit",
    "f": "func fn function target",
    "limit": "max_concurrency max_workers",
}
_SENTENCES = {
    "callback": "goproc has none: loop over the results, which come as they are there with ordered=False",
    "initargs": "goproc has init=lambda: f(...), a function without arguments",
}
_UNEXPECTED = re.compile(r"got an unexpected keyword argument '(\w+)'")


def hint(name: str, known: Collection[str]) -> str:
    """Return what to write in place of an argument, to be added to a message; "" if there is nothing to say.

    Args:
        name: of the argument, as the user has given it.
        known: the names of those that the function has.
    """
    if name in _SENTENCES and ("init" in known or name == "callback"):
        return f"; {_SENTENCES[name]}"
    meant = next((own for own, others in _OTHERS.items() if own in known and name in others.split()), None)
    return "" if meant is None else f"; goproc has {meant}="


def explain(exc: BaseException, f: Any) -> None:
    """Add a hint to the exception for arguments that do not fit the parameters of f."""
    found = _UNEXPECTED.search(str(exc))
    if found is not None:
        from inspect import signature

        exc.args = (f"{exc}{hint(found[1], signature(f).parameters)}",)


def refuse_args(f: Any) -> None:
    """Raise TypeError for ``go(f, args=(1, 2))``, as one writes for threads, unless f has such a parameter."""
    from inspect import Parameter, signature

    try:
        parameters = signature(f).parameters
    except (TypeError, ValueError):  # of a function in C perhaps
        parameters = {}  # type: ignore[assignment]
    takes = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    if any(
        p.kind is Parameter.VAR_KEYWORD or (p.name == "args" and p.kind in takes) for p in parameters.values()
    ):
        return
    name = getattr(f, "__name__", None) or type(f).__name__
    raise TypeError(
        f"{name}() has no argument 'args': write go({name}, ...), with the arguments after the function"
    )
