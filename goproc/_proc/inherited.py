"""Programs, processes and threads that a goroutine starts inherit the same state as if the script had started them.

A worker is bound to one CPU, and its libraries are told to use one thread each (topology.blas_defaults). Both settings
are for the goroutines of the worker alone. No documented hook sees the start of every program (subprocess uses vfork,
and then an at-fork function does not run). So the functions of Python that start something are replaced in workers:

- the calling thread may use the CPUs of the script while such a function runs;
- the variables are left out of the environment that is passed on, where it came from os.environ. A goroutine that sets
  one of them, in os.environ or in ``env=``, has it passed on as it is.

Threads that a native library starts by itself stay on the CPU of the worker, as its computations do.
"""

from __future__ import annotations

import os
import signal

from goproc._isolation import loaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

_MARK = b"01"  # the encoding of a variable that goproc has set: its readers still see a 1

_cpu: int | None = None  # the CPU that this process is bound to
_cpus: set[int] = set()  # the CPUs that the script may use
on_interrupt: Callable[[], None] | None = None  # called when Ctrl-C has ended a shell
# The variables that goproc has set, with their values in the script.
_variables: dict[bytes, bytes | None] = {}


class _Text(str):
    """A variable that goproc has set, as os.environ gives it. A copy of the environment keeps the mark."""

    __slots__ = ()

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return _MARK

    def __reduce__(self) -> tuple[Any, ...]:
        return str, (str.__str__(self),)


class _Bytes(bytes):
    """A variable that goproc has set, as os.environ holds it."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return bytes, (bytes(self),)


# -- in a worker ---------------------------------------------------------------------------------------------


def bind(cpu: int | None) -> None:
    """Bind this process to a CPU, if one is given."""
    global _cpu, _cpus
    if cpu is None:
        return
    _cpus = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {cpu})
        _cpu = cpu
    except OSError:
        pass  # the mask was narrowed since; the process may run on any CPU of it


def bind_again() -> None:
    """Follow the host, which may have chosen another CPU for this process, or none. Not where the program has chosen one."""
    global _cpu
    from goproc.shm import _core

    cpu = _core.cpu()
    if cpu == _cpu:
        return
    if _cpu is not None and _sched_getaffinity(0) == {_cpu}:
        try:
            os.sched_setaffinity(0, _cpus)
        except OSError:
            return
        _cpu = None
    if _cpu is None:
        bind(cpu)


def mark_variables(names: Iterable[str], script: Mapping[str, str]) -> None:
    """Note the variables of os.environ that goproc has set.

    Args:
        names: of the variables.
        script: the environment of the script.
    """
    environ: Any = os.environ
    decode = environ.decodevalue

    def decoded(value: bytes) -> str:
        text: str = decode(value)
        return _Text(text) if type(value) is _Bytes else text

    for name in names:
        key = os.fsencode(name)
        if environ._data.get(key) == b"1":
            environ._data[key] = _Bytes(b"1")
            _variables[key] = os.fsencode(script[name]) if name in script else None
    if _variables:
        environ.decodevalue = decoded


def give_back() -> None:
    """Give this process, a child that a goroutine has forked, the CPUs and variables of a child of the script."""
    global _cpu
    if _cpu is not None and _sched_getaffinity(0) == {_cpu}:
        try:
            os.sched_setaffinity(0, _cpus)
        except OSError:
            pass
    _cpu = None
    for key in _ours():
        value = _variables[key]
        name = os.fsdecode(key)
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = os.fsdecode(value)
    _variables.clear()


def _ours() -> list[bytes]:
    """Return the names of the variables that goproc has set and the program has not."""
    data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    return [key for key in _variables if type(data.get(key)) is _Bytes]


class _Unbound:
    """``with _Unbound():`` the calling thread may use the CPUs of the script, unless the program has set others."""

    __slots__ = ("_bound",)

    def __enter__(self) -> None:
        self._bound = _cpu is not None and _sched_getaffinity(0) == {_cpu}
        if self._bound:
            self._set(_cpus)

    def __exit__(self, *exc: object) -> None:
        if self._bound and _cpu is not None:
            self._set({_cpu})

    def _set(self, cpus: set[int]) -> None:
        try:
            os.sched_setaffinity(0, cpus)
        except OSError:
            pass


# -- the functions that are replaced -------------------------------------------------------------------------


def install() -> None:
    """Replace the functions of this process that start something. Before bind() they act as the originals do.

    The zygote calls this before it imports any module that might keep one of the functions; workers inherit the new
    ones.
    """
    import _posixsubprocess
    import _thread

    _replace(_posixsubprocess, "fork_exec", _fork_exec)
    subprocess = loaded("subprocess")
    if subprocess is not None:
        subprocess._fork_exec = _posixsubprocess.fork_exec
    for name in ("posix_spawn", "posix_spawnp"):
        _replace(os, name, _posix_spawn)
    _replace(os, "execve", _execve)
    _replace(os, "system", _system)
    _replace(os, "sched_getaffinity", _getaffinity)
    threading = loaded("threading")
    for name in ("start_new_thread", "start_joinable_thread"):
        if hasattr(_thread, name):
            _replace(_thread, name, _start)
            if threading is not None and hasattr(threading, f"_{name}"):
                setattr(threading, f"_{name}", getattr(_thread, name))


def _replace(owner: Any, name: str, by: Callable[..., Any]) -> None:
    original = getattr(owner, name)

    def replacement(*args: Any, **kwargs: Any) -> Any:
        return by(original, *args, **kwargs)

    replacement.__name__ = replacement.__qualname__ = name
    replacement.__module__ = owner.__name__
    replacement.__doc__ = original.__doc__
    setattr(owner, name, replacement)


def _start(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    with _Unbound():
        return original(*args, **kwargs)


def _fork_exec(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Replace _posixsubprocess.fork_exec(), whose sixth argument is the environment: a list of bytes, or None."""
    if _variables and len(args) > 5:
        args = (*args[:5], _listed(args[5]), *args[6:])
    with _Unbound():
        return original(*args, **kwargs)


def _listed(env: list[bytes] | None) -> list[bytes] | None:
    ours = _ours()
    if env is None:
        if not ours:
            return None
        data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
        passed = {**data, **{key: _variables[key] for key in ours}}
        return [key + b"=" + value for key, value in passed.items() if value is not None]
    marked = {key + b"=" + _MARK: key for key in _variables}
    found = []
    for entry in env:
        key = marked.get(entry)
        if key is None:
            found.append(entry)
        elif (value := _variables[key]) is not None:
            found.append(key + b"=" + value)
    return found


def _posix_spawn(original: Callable[..., Any], path: Any, argv: Any, env: Any, **kwargs: Any) -> Any:
    with _Unbound():
        return original(path, argv, _mapped(env), **kwargs)


def _execve(original: Callable[..., Any], path: Any, argv: Any, env: Any) -> Any:
    return original(path, argv, _mapped(env))


def _mapped(env: Any) -> Any:
    """Return the environment for os.posix_spawn() and os.execve() without goproc's variables.

    From Python 3.13 on None is an environment, too.
    """
    if env is None and _ours():
        env = os.environ
    if not _variables or not hasattr(env, "items"):
        return env
    found = {}
    for name, value in env.items():
        if type(value) in (_Text, _Bytes):
            value = _variables.get(os.fsencode(name))
            if value is None:
                continue
        found[name] = value
    return found


def _system(original: Callable[..., Any], command: Any) -> Any:
    """Replace os.system(): the variables are taken out of the C environment, which the C library passes on."""
    words = []
    for key in _ours():
        value = _variables[key]
        words.append(b"unset " + key if value is None else key + b"=" + value)
    if words:
        command = b"; ".join(words) + b"; " + os.fsencode(command)
    with _Unbound():
        status = original(command)
    if status & 0x7F == signal.SIGINT and on_interrupt is not None:
        on_interrupt()  # the C library ignores SIGINT while the shell runs, so this process has not seen Ctrl-C
    return status


def _getaffinity(original: Callable[..., Any], pid: int, /) -> Any:
    """Replace os.sched_getaffinity(): a caller that asks for the CPUs of this process is going to start something."""
    found = original(pid)
    if _cpu is not None and pid in (0, os.getpid()) and found == {_cpu}:
        return set(_cpus)
    return found


_sched_getaffinity = os.sched_getaffinity
