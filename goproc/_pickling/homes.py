"""Modules whose definitions travel by value, and the stand-ins for such modules in processes that have not run them.

No other process can import `__main__`, or a module that the script made at run time or loaded from a path of its own.
Their functions and classes travel by value. A process that receives one has a `Home` in `sys.modules` under the
module's name: pickle, `typing.get_type_hints()` and dataclasses look there for a definition by its name.

The globals of a module are a snapshot, and each goroutine has its own. So the attributes of a home are, in this order:
the globals that the running goroutine reaches, the classes and functions of the module that this process has received,
the globals of its other goroutines, and those of the methods of its classes.
"""

from __future__ import annotations

import builtins
import importlib
import os
import sys
from _frozen_importlib_external import PathFinder
from types import FunctionType, ModuleType
from weakref import WeakValueDictionary

from goproc._isolation import loaded
from goproc._record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping
    from typing import Any

MAIN = ("__main__", "__mp_main__")


class Answer(Record):
    """The answer for one module of `sys.modules`."""

    module: ModuleType
    only_here: bool


_ANSWERS = 4096

_answers: dict[str, Answer] = {}
_received: dict[str, WeakValueDictionary[str, Any]] = {}
_installed: dict[str, ModuleType] = {}
_mentioned: dict[str, dict[str, Any]] = {}  # the objects that annotations name

# The part of goproc that runs goroutines sets these two.
running: Callable[[], dict[str, Any] | None] = type(None)  # returns the globals of the running goroutine
# Returns the globals of all goroutines of this process.
all_of_them: Callable[[], Iterable[dict[str, Any]]] = tuple

_path: list[str] | None = None  # the sys.path with which workers begin; None if there are no workers
_asked: set[str] = set()  # modules of finders and loaders, while it is being found out who can import them

# The namespace of a module object, even if its `__dict__` is replaced.
_attributes: Callable[[ModuleType], dict[str, Any]] = getattr(vars(ModuleType)["__dict__"], "__get__")  # noqa: B009
_CLOUDPICKLE = "cloudpickle.cloudpickle"
# Names of the modules that the program has asked cloudpickle to send by value
_registry: Container[str] | None = None


def begin(path: list[str] | None) -> None:
    """Note the sys.path with which the workers of this runtime begin; None: there are no workers any more."""
    global _path
    _path = path
    _answers.clear()


def registered(name: str) -> bool:
    """Return True if the program has asked cloudpickle to send the module, or its package, by value."""
    global _registry
    if _registry is None:
        if _CLOUDPICKLE not in sys.modules:
            return False
        _registry = getattr(loaded(_CLOUDPICKLE), "_PICKLE_BY_VALUE_MODULES", None)
    if not _registry:
        return False
    parts = name.split(".")
    return any(".".join(parts[:count]) in _registry for count in range(1, len(parts) + 1))


def only_here(name: str) -> bool:
    """Return True if no other process can import the module `name`, or if it has to travel by value."""
    if name in MAIN or registered(name):
        return True
    module = sys.modules.get(name)
    if module is None:
        return True
    answer = _answers.get(name)
    if answer is None or answer.module is not module:
        if len(_answers) >= _ANSWERS:  # the program makes modules at run time, again and again
            _answers.clear()
        answer = _answers[name] = Answer(module, type(module) is Home or not _is_found(name, module))
    return answer.only_here


def _is_found(name: str, module: ModuleType) -> bool:
    """Return True if an import in another process finds `module`.

    Only the top-level package is looked for: some packages make their modules when they are imported.
    """
    top, _, inner = name.partition(".")
    if top in sys.builtin_module_names or top in sys.stdlib_module_names or top.startswith("_cython_"):
        return True  # the first import of any module of Cython's makes its modules of shared types
    if top == "goproc":
        return True  # every process has it, even if it could not be found any more, as after os.chroot()
    if inner and top in sys.modules:
        return not only_here(top)
    if _is_of_script(getattr(getattr(module, "__spec__", None), "loader", None)):
        return False
    spec = _find(top)
    if spec is None:
        return False
    try:
        here, there = module.__file__, spec.origin
    except Exception:  # the module has no file, or is an object of its own class
        return True
    if not isinstance(here, str) or not there or not spec.has_location:
        return True
    return bool(os.path.realpath(here) == os.path.realpath(there))


def _find(top: str) -> Any:
    """Return the spec that an import of a top-level module would use in a worker, or None.

    Workers have neither the finders and hooks of the script nor the folders that it has added to sys.path since.
    """
    for finder in sys.meta_path:
        if _is_of_script(finder):
            continue
        path = _path if finder is PathFinder else None
        try:
            spec = finder.find_spec(top, path, None)
        except Exception:  # a finder without that method, or one that fails
            continue
        if spec is not None and not _is_of_script(spec.loader):
            return spec
    return None


def _is_of_script(found: Any) -> bool:
    """Return True if the class of a finder or a loader is in a module that no other process can import."""
    kind = found if isinstance(found, type) else type(found)
    name = kind.__module__
    if name in _asked or not isinstance(name, str):
        return False
    _asked.add(name)
    try:
        return only_here(name)
    finally:
        _asked.discard(name)


# -- the receiver --------------------------------------------------------------------------------------------


class Home(ModuleType):
    """A module that this process has not run."""

    def __getattr__(self, name: str) -> Any:
        for namespace in (self._running(), *self._known(), *self._all(), *self._of_classes()):
            if name in namespace:
                return namespace[name]
        raise AttributeError(
            f"module {self.__name__!r} has no attribute {name!r} in this process: only those that the goroutine reaches are there"
        )

    def __setattr__(self, name: str, value: Any) -> None:
        namespace = self._running()
        if namespace:
            namespace[name] = value
        else:
            super().__setattr__(name, value)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        """Return all attributes, in a new dictionary."""
        received, mentioned = self._known()
        found: dict[str, Any] = {}
        for namespace in self._of_classes():
            found.update(namespace)
        return {**found, **_attributes(self), **mentioned, **received, **self._running()}

    def _known(self) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        name = self.__name__
        return _received.get(name, {}), _mentioned.get(name, {})

    def _running(self) -> dict[str, Any]:
        namespace = running()
        return namespace if namespace and namespace.get("__name__") == self.__name__ else {}

    def _of_classes(self) -> list[dict[str, Any]]:
        name = self.__name__
        found: dict[int, dict[str, Any]] = {}
        for cls in list(_received.get(name, {}).values()):
            methods = vars(cls).values() if isinstance(cls, type) else ()
            for method in methods:
                if type(method) is FunctionType and method.__globals__.get("__name__") == name:
                    found[id(method.__globals__)] = method.__globals__
        return list(found.values())

    def _all(self) -> list[dict[str, Any]]:
        return [namespace for namespace in all_of_them() if namespace.get("__name__") == self.__name__]


class Script(ModuleType):
    """`__main__` in the process of the script, as a goroutine sees it: copies of functions are found by their names.

    Goroutines that came in a message have their own globals there, too. For others this is the module itself.
    """

    def __getattribute__(self, name: str) -> Any:
        namespace = running()
        if (
            namespace is not None
            and name in namespace
            and namespace.get("__name__") == _attributes(self)["__name__"]
        ):
            return namespace[name]
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        namespace = running()
        if namespace is not None and namespace.get("__name__") == _attributes(self)["__name__"]:
            namespace[name] = value
        else:
            super().__setattr__(name, value)


def show_to_goroutines(shown: bool) -> None:
    """Have the attributes of the script's `__main__` depend on the goroutine that asks, or no longer."""
    module = sys.modules.get("__main__")
    plain, ours = (ModuleType, Script) if shown else (Script, ModuleType)
    if type(module) is plain:
        module.__class__ = ours


def provide(name: str) -> None:
    """Make a home under `name` if `sys.modules` has no such module."""
    if name not in sys.modules:
        sys.modules[name] = Home(name)


def install(modules: Iterable[ModuleType]) -> None:
    """Let code import modules that came by value. A module that this process has made itself stays."""
    for module in modules:
        name = module.__name__
        present = sys.modules.get(name)
        if present is None or type(present) is Home or present is _installed.get(name):
            sys.modules[name] = _installed[name] = module


def receive(definition: Any, name: str | None = None) -> None:
    """Make a function or class of a module that travels by value an attribute of the module's home.

    Nothing happens in the process of the script, which has its modules.

    Args:
        definition: the function or class.
        name: the name of the global, if it differs from the definition's own.
    """
    module = definition.__module__
    name = name or definition.__qualname__
    if type(sys.modules.get("__main__")) is Home and isinstance(module, str) and "." not in name:
        provide(module)
        if type(sys.modules[module]) is Home:
            _received.setdefault(module, WeakValueDictionary())[name] = definition


def mention(module: object, found: dict[str, Any]) -> None:
    """Make objects that annotations name, other than classes of the module, attributes of the module's home, too."""
    if isinstance(module, str) and type(sys.modules.get(module)) is Home:
        kept = {
            name: value
            for name, value in found.items()
            if not isinstance(value, type) or not only_here(value.__module__)
        }
        _mentioned.setdefault(module, {}).update(kept)


def namespace_of(function: Any) -> dict[str, Any] | None:
    """Return the globals of a callable's code, if they are those of a module that travels by value."""
    namespace = globals_of(function)
    name = None if namespace is None else namespace.get("__name__")
    return namespace if isinstance(name, str) and only_here(name) else None


def globals_of(function: Any) -> dict[str, Any] | None:
    """Return the globals of a callable's code; None if it is not written in Python."""
    for _ in range(16):
        if type(function) is FunctionType:
            return function.__globals__
        for link in ("__func__", "func", "__wrapped__"):
            inner = getattr(function, link, None)
            if inner is not None:
                break
        else:
            inner = vars(type(function)).get("__call__")
            if type(inner) is not FunctionType:
                return None
        function = inner
    return None


# -- a module inside a message -------------------------------------------------------------------------------


def reduce_module(_: Any, module: ModuleType) -> Any:
    """Reduce a module by its content where no other process can import it."""
    name = module.__name__
    known = sys.modules.get(name)
    if known is not None and not only_here(name):
        return importlib.import_module, (name,)
    if known is module and (name in MAIN or type(module) is Home):
        return _home, (name,)
    kept = {key: value for key, value in vars(module).items() if key not in _OF_IMPORT}
    return _new_module, (name, type(module)), kept, None, None, _fill_module


_OF_IMPORT = frozenset({"__builtins__", "__loader__", "__spec__", "__cached__"})


def _home(name: str) -> ModuleType:
    provide(name)
    return sys.modules[name]


def _new_module(name: str, kind: Any) -> ModuleType:
    module: ModuleType = kind.__new__(kind)
    ModuleType.__init__(module, name)
    vars(module)["__builtins__"] = builtins
    return module


def _fill_module(module: ModuleType, attributes: dict[str, Any]) -> None:
    vars(module).update(attributes)
