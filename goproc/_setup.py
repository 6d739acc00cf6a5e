"""The set-up of a process before its first goroutine: the function of ``--init``, and the choice of a GPU."""

from __future__ import annotations

import os

from goproc._misuse import not_callable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

VISIBLE = "CUDA_VISIBLE_DEVICES"


# -- the function --------------------------------------------------------------------------------------------


def check_name(text: str, source: str) -> str:
    """Return the text if it has the form ``module:function``.

    Raises:
        ValueError: it has not.
    """
    module, colon, function = text.partition(":")
    if not colon or not all(part.isidentifier() for part in [*module.split("."), *function.split(".")]):
        raise ValueError(f"{source}: {text!r} is not of the form module:function, such as mymodule:setup")
    return text


def check_function(init: Any) -> Any:
    """Return `init` if it can be called or names a function.

    Raises:
        TypeError, ValueError: `init` is neither.
    """
    if isinstance(init, str):
        return check_name(init, "runtime(init=...)")
    if init is not None and not callable(init):
        said = f"runtime(init=...) takes a function without arguments, not {type(init).__name__}"
        raise not_callable(said, init, at="init")
    return init


def name_of(init: Callable[[], object] | str) -> str:
    return init if isinstance(init, str) else getattr(init, "__qualname__", type(init).__qualname__)


def call(init: Callable[[], object] | str) -> None:
    """Call the function in this process. An exception says in a note where it comes from."""
    from importlib import import_module

    from goproc.shm import _core

    try:
        function: Any = init
        if isinstance(init, str):
            module, _, path = init.partition(":")
            function = import_module(module)
            for name in path.split("."):
                function = getattr(function, name)
        function()
    except Exception as exc:
        where = f"in worker {_core.proc()}" if _core.proc() else "in the process of the script"
        exc.add_note(f"goproc: the function {name_of(init)} that sets up each process (init) failed {where}")
        raise


def call_in_worker(init: Callable[[], object] | str) -> None:
    """Call the function before any goroutine begins. If it fails, the program ends as by a panic."""
    from goproc import _logs
    from goproc._pickling import failure
    from goproc._proc import fatal
    from goproc._sched import scheduler

    scheduler.held_until = float("inf")
    try:
        call(init)
        _logs.flush()
    except BaseException as exc:
        _logs.flush()
        if isinstance(exc, SystemExit):
            fatal.exit_program(exc)
        fatal.panic(fatal.first_line(exc), 0, failure.format_traceback(exc), 0, 0, "")
    finally:
        scheduler.release()


# -- GPUs ----------------------------------------------------------------------------------------------------


def parse_gpus(text: str, source: str) -> str:
    """Return ``auto``, or numbers or UUIDs of GPUs with commas.

    Raises:
        ValueError: it is neither.
    """
    names = [name.strip() for name in text.split(",")]
    if text.strip() == "auto":
        return "auto"
    if not all(name.isdigit() or name.startswith(("GPU-", "MIG-")) for name in names):
        raise ValueError(f"{source}: {text!r} is neither auto nor a list of GPUs such as 0,1")
    if len(set(names)) < len(names):
        raise ValueError(
            f"{source}: {text!r} names a GPU twice; per_gpu (--per-gpu) puts several workers on each"
        )
    return ",".join(names)


def parse_per_gpu(value: Any, source: str) -> int:
    """Return the number of workers on each GPU.

    Raises:
        ValueError: it is no whole number from 1 on.
    """
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or isinstance(value, float):
        raise ValueError(f"{source}: {value!r} is not a number of workers, such as 2")
    return number


def find_gpus(chosen: str, environ: Mapping[str, str], source: str) -> list[str]:
    """Return the GPUs for workers, as CUDA_VISIBLE_DEVICES names them.

    Args:
        chosen: from parse_gpus(). ``auto``: those of CUDA_VISIBLE_DEVICES, else all of the machine.
        environ: the environment of the script.

    Raises:
        ValueError: a GPU is not among those of CUDA_VISIBLE_DEVICES.
    """
    visible = environ.get(VISIBLE)
    allowed = None if visible is None else _visible(visible)
    if chosen == "auto":
        return _of_machine() if allowed is None else allowed
    names = chosen.split(",")
    if allowed is None or all(name in allowed for name in names):
        return names
    # Places in the list, as CUDA counts.
    if all(name.isdigit() and int(name) < len(allowed) for name in names):
        return [allowed[int(name)] for name in names]
    raise ValueError(f"{source}: {chosen!r} is not among the GPUs of {VISIBLE}={visible}")


def _visible(value: str) -> list[str]:
    """Return the GPUs of a value of CUDA_VISIBLE_DEVICES. To CUDA those from the first -1 on are invisible."""
    names = [name.strip() for name in value.split(",") if name.strip()]
    return names[: names.index("-1")] if "-1" in names else names


def _of_machine() -> list[str]:
    try:
        count = len(os.listdir("/proc/driver/nvidia/gpus"))
    except OSError:
        try:
            count = len(
                [name for name in os.listdir("/dev") if name.startswith("nvidia") and name[6:].isdigit()]
            )
        except OSError:
            count = 0
    return [str(number) for number in range(count)]


def choose_gpu(proc: int, gpus: list[str]) -> None:
    """Give this worker its GPU. Before anything is imported that looks for GPUs."""
    if gpus:
        os.environ[VISIBLE] = gpus[(proc - 1) % len(gpus)]


def check_room(gpus: list[str], per_gpu: int | None, procs: int, source: str) -> None:
    """Refuse more workers than fit.

    Raises:
        ValueError: they are more.
    """
    if gpus and per_gpu is not None and procs > len(gpus) * per_gpu:
        raise ValueError(
            f"{source}: {procs} workers do not fit on {len(gpus)} GPU{'s' if len(gpus) > 1 else ''} "
            f"with per_gpu={per_gpu}; leave per_gpu out to share them among all"
        )


class Setup:
    """The settings of a runtime for the set-up of its processes.

    Args:
        init, gpus, per_gpu: as for runtime(); None: as the environment has it.
        environ: the environment of the script.

    Raises:
        TypeError, ValueError: one of them is wrong.
    """

    def __init__(
        self, init: Any, gpus: str | list[int] | None, per_gpu: int | None, environ: Mapping[str, str]
    ) -> None:
        self.init = check_function(init)
        if init is None and environ.get("GOPROC_INIT"):
            self.init = check_name(environ["GOPROC_INIT"], "GOPROC_INIT")
        self._source = "runtime(gpus=...)" if gpus is not None else "GOPROC_GPUS"
        if gpus is None:
            gpus = environ.get("GOPROC_GPUS") or ""
        elif not isinstance(gpus, str):
            gpus = ",".join(map(str, gpus if isinstance(gpus, (list, tuple)) else [gpus]))
        self.gpus = find_gpus(parse_gpus(gpus, self._source), environ, self._source) if gpus else []
        self.per_gpu: int | None = None
        if per_gpu is not None:
            self.per_gpu = parse_per_gpu(per_gpu, "runtime(per_gpu=...)")
        elif environ.get("GOPROC_PER_GPU"):
            self.per_gpu = parse_per_gpu(environ["GOPROC_PER_GPU"], "GOPROC_PER_GPU")
        if self.per_gpu is not None and not gpus:
            raise ValueError(
                "per_gpu needs gpus: runtime(gpus='auto', per_gpu=...) or --gpus auto --per-gpu ..."
            )

    def default_procs(self) -> int | None:
        """Return the number of workers that the GPUs suggest, if they do."""
        return len(self.gpus) * self.per_gpu if self.gpus and self.per_gpu is not None else None

    def check_room(self, procs: int) -> None:
        check_room(self.gpus, self.per_gpu, procs, self._source)

    def for_workers(self) -> dict[str, Any]:
        """Return the arguments of prepare() in the workers. The runtime is about to start."""
        self._shared = None
        if self.init is not None and not isinstance(self.init, str):
            from goproc._pickling.copies import Copy
            from goproc._pickling.wire import Whole

            self._shared = Copy(Whole(self.init))  # kept: a worker that is replaced reads it, too
        init = _address(self._shared) if self._shared is not None else self.init
        return {"init": init, "gpus": self.gpus}


def _address(copy: Any) -> tuple[int, int, int, int]:
    from goproc.shm import _core

    reduced: Any = _core.as_pickling(copy.__reduce__)
    return reduced[1]  # type: ignore[no-any-return]


def call_given(init: Any) -> None:
    """Call the function that for_workers() has packed. In a worker."""
    from goproc.shm import _core

    if init is not None:
        call_in_worker(init if isinstance(init, str) else _core._handle(*init)._load(False))
