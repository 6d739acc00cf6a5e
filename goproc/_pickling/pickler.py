"""The pickler of messages.

The pickler asks Python about every object that is not a basic one. So the treatment of a type is found once, when the
type is first met, and then looked up in one dictionary. cloudpickle is imported when the first object needs it: a
program that sends plain data never does.
"""

from __future__ import annotations

import copyreg
import functools
import marshal
import os
import pickle
import sys
from collections import deque
from io import TextIOWrapper
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType

from goproc._isolation import loaded
from goproc._pickling import homes, proxies, wrappers
from goproc._pickling.homes import only_here
from goproc._pickling.names import cell_contents
from goproc._pickling.passing import Passing
from goproc._pickling.statics import LRU, importable, is_enumeration, module_of_method
from goproc._raised import OF_OBJECTS, described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from typing import Any

    Closure = tuple[CellType, ...] | None
    Reducer = Callable[[Any, Any], Any]
    Rule = Callable[[type], Reducer | None]  # returns the treatment of a type, or None: the next rule decides

reducers: dict[type, Reducer] = {}  # for these types, not for their subclasses; `type` stands for every class
# For these types and for their subclasses that define no way to be pickled. The first that fits is taken.
families: dict[type, Reducer] = {}
_policy: dict[type, Reducer | None] = {}  # None: pickle's own way is right
_classes = Passing()  # classes in `_policy`


def _decide(kind: type) -> Reducer | None:
    reducer = _policy[kind] = _reducer_for(kind)
    for passed in _classes.add(kind):
        _policy.pop(passed, None)
    return reducer


class Sink(list[bytes]):
    """The file of a pickler: it keeps the written pieces without copying them."""

    __slots__ = ()
    write = list.append


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> None:
        pass


class Pickler(pickle.Pickler):
    """Pickles one message."""

    _namespaces: dict[int, tuple[dict[str, Any], Any]] | None = None
    _cells: dict[int, CellType] | None = None
    refers_to_methods = True  # by the name that they have in their class
    # The ids of the objects that the message brings by other ways than weak references. None: not known so far.
    strong: Container[int] | None = ()
    has_weak = False  # the message has weak references; while `strong` is None it has none of their objects

    def reducer_override(self, obj: Any) -> Any:
        try:
            reducer = _policy[type(obj)]
        except KeyError:
            reducer = _decide(type(obj))
        return NotImplemented if reducer is None else reducer(self, obj)

    def omits_weak(self, obj: Any) -> bool:
        """Return True if the object of a weak reference stays behind in this pickle."""
        self.has_weak = True
        return self.strong is None and not isinstance(obj, type)

    def only_weak(self, obj: Any) -> bool:
        """Return True if only weak references bring an object."""
        return self.strong is not None and id(obj) not in self.strong and not isinstance(obj, type)

    def namespace(self, source: dict[str, Any]) -> dict[str, Any]:
        """Return the dictionary for `source`: empty while it is pickled, and the same one for the whole message."""
        if self._namespaces is None:
            self._namespaces = {}
        return self._namespaces.setdefault(id(source), ({}, source))[0]

    def cells(self, closure: Closure, own: bool = True) -> tuple[Closure, list[tuple[CellType, Any]] | None]:
        """Return the cells, which pickle as empty ones, and the contents of those that are new in this message."""
        if closure is None:
            return None, None
        if self._cells is None:
            self._cells = {}
        contents = []
        for cell in closure:
            if id(cell) not in self._cells:
                self._cells[id(cell)] = cell
                contents += [(cell, value) for value in self.contents(cell, own)]
        return closure, contents or None

    def contents(self, cell: CellType, own: bool) -> tuple[Any, ...]:
        """Return the content of the cell to send: nothing or one object. `own`: its function is not a library's."""
        return cell_contents(cell)


def dump(kind: type[Pickler], obj: Any) -> bytes:
    """Pickle `obj` with nothing out of band."""
    sink = Sink()
    kind(sink, 5).dump(obj)
    return b"".join(sink)


def refusal(obj: Any) -> str | None:
    """Return why `obj` cannot be in a message, or None if it can."""
    from goproc.shm import _core

    try:
        _core.as_pickling(_try_dump, obj)
    except OF_OBJECTS as error:  # pickling may raise anything: the error is the answer
        return described(error)
    return None


def _try_dump(obj: Any) -> None:
    Pickler(_Nowhere(), 5, buffer_callback=lambda buffer: None).dump(obj)


@functools.cache
def learn_cloudpickle() -> None:
    """Import cloudpickle and take over its ways for types that pickle refuses."""
    import cloudpickle  # noqa: F401

    _policy.clear()


def try_cloudpickle() -> None:
    """Learn the ways of cloudpickle, unless this process has no file any more to read it from."""
    try:
        learn_cloudpickle()
    except (ImportError, OSError):
        pass  # the error of pickle is the one to show


# -- the treatment of each type ------------------------------------------------------------------------------


def _reducer_for(kind: type) -> Reducer | None:
    reducer = reducers.get(type if issubclass(kind, type) else kind)
    if reducer is not None:
        return reducer
    for rule in _RULES:
        reducer = rule(kind)
        if reducer is not None:
            return reducer
    return None


def _of_family(kind: type) -> Reducer | None:
    for base, reducer in families.items():
        if issubclass(kind, base) and _is_plain(kind, base):
            return reducer
    return None


def _of_proxy(kind: type) -> Reducer | None:
    return proxies.reduce_proxy if proxies.is_proxy(kind) else None


def _of_library(kind: type) -> Reducer | None:
    rule = _LIBRARIES.get((kind.__module__ or "").partition(".")[0])
    return None if rule is None else rule(kind)


def _of_toolz(kind: type) -> Reducer | None:
    name = kind.__module__, kind.__name__
    return _reduce_curry if name in (("toolz.functoolz", "curry"), ("cytoolz.functoolz", "curry")) else None


def _of_numpy(kind: type) -> Reducer | None:
    if kind.__name__ == "memmap":
        from goproc._pickling.mapped import reduce_memmap

        return reduce_memmap
    return _of_frames(kind)


def _of_frames(kind: type) -> Reducer | None:
    from goproc._pickling.frames import reducer_of

    return reducer_of(kind)


def _of_msgspec(kind: type) -> Reducer | None:
    if not hasattr(kind, "__struct_config__") and not (kind.__module__ or "").startswith("msgspec."):
        return None
    from goproc._pickling import structs

    return structs.reducer_of(kind)


def _of_ctypes(kind: type) -> Reducer | None:
    if kind.__module__ != "ctypes":
        return None
    from goproc._pickling import foreign

    return foreign.reducer_of(kind)


def _of_connection(kind: type) -> Reducer | None:
    if not hasattr(kind, "fileno") or not (kind.__module__ or "").endswith(".connection"):
        return None
    return _refuse_connection


def _of_struct(kind: type) -> Reducer | None:
    if (kind.__module__, kind.__name__) != ("_struct", "Struct"):
        return None
    return lambda _, obj: (kind, (obj.format,))


def _of_dataclasses(kind: type) -> Reducer | None:
    return _reduce_sentinel if kind.__module__ == "dataclasses" else None


def _of_typing(kind: type) -> Reducer | None:
    return _reduce_type_variable if kind.__name__ == "TypeVar" else None


def _of_exception(kind: type) -> Reducer | None:
    if not issubclass(kind, BaseException):
        return None
    from goproc._pickling.sent_exceptions import reduce_exception

    return reduce_exception


def _of_enumeration(kind: type) -> Reducer | None:
    if not is_enumeration(kind) or importable(kind):
        return None
    from goproc._pickling.enumerations import reduce_member

    return reduce_member


def _of_cloudpickle(kind: type) -> Reducer | None:
    cloudpickle = loaded("cloudpickle")
    special = None if cloudpickle is None else cloudpickle.Pickler.dispatch_table.get(kind)
    if special is None or kind in copyreg.dispatch_table:
        return None
    return lambda _, obj: special(obj)


def _of_collection(kind: type) -> Reducer | None:
    if not issubclass(kind, (set, frozenset, deque, bytearray)) or importable(kind):
        return None
    from goproc._pickling import filling

    return None if filling.base_to_fill(kind) is None else filling.reduce_collection


def _of_own_reduce(kind: type) -> Reducer | None:
    plain: tuple[Any, Any] = (object.__reduce__, object.__reduce_ex__)
    return reduce_custom if (kind.__reduce__, kind.__reduce_ex__) != plain else None


def _of_attributes(kind: type) -> Reducer | None:
    """Decide about a class whose objects pickle as the class and their attributes."""
    from goproc._pickling import filling

    if importable(kind):
        return filling.reduce_to_fill if filling.answers_anything(kind) else None
    own_new = type(kind.__new__) is FunctionType
    own_hash = type(kind.__hash__) is FunctionType and not hasattr(kind, "__setstate__")
    if not own_hash and filling.needs_filling(kind):
        return filling.reduce_to_fill
    if not own_new and not own_hash:
        return None
    from goproc._pickling import instances

    return instances.reduce_by_new if own_new else instances.reduce_hashed


# The libraries, by the name of their top-level module, that have types which need a treatment
_LIBRARIES: dict[str, Rule] = {
    "toolz": _of_toolz,
    "cytoolz": _of_toolz,
    "numpy": _of_numpy,
    "polars": _of_frames,
    "pyarrow": _of_frames,
    "ctypes": _of_ctypes,
    "multiprocessing": _of_connection,
    "multiprocess": _of_connection,
    "billiard": _of_connection,
    "_struct": _of_struct,
    "dataclasses": _of_dataclasses,
    "typing": _of_typing,
}
# The first that has a treatment decides. If none has, pickle's own way is right.
_RULES: tuple[Rule, ...] = (
    _of_family,
    _of_proxy,
    _of_library,
    _of_msgspec,
    _of_exception,
    _of_enumeration,
    _of_cloudpickle,
    _of_collection,
    _of_own_reduce,
    _of_attributes,
)


def _is_plain(kind: type, base: type) -> bool:
    """Return True if a class is pickled as its base is."""
    names = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    return kind not in copyreg.dispatch_table and all(
        getattr(kind, name, None) is getattr(base, name, None) for name in names
    )


def _refuse_connection(_: Pickler, obj: Any) -> Any:
    """Refuse the end of a pipe: its attributes are a number, which is another descriptor in another process."""
    raise TypeError(f"cannot pickle {type(obj).__name__!r} object, a descriptor of this process")


def _reduce_sentinel(_: Pickler, obj: Any) -> Any:
    """Keep the identity of the markers of `dataclasses`, which it compares by `is`."""
    if type(obj).__name__ == "_FIELD_BASE":
        return obj.name
    for name, value in vars(loaded("dataclasses")).items():
        if value is obj:
            return name
    return NotImplemented


def _reduce_type_variable(_: Pickler, variable: Any) -> Any:
    """Reduce a type variable by its name in an importable module, else by content: pickle always takes the name."""
    module = sys.modules.get(variable.__module__)
    by_name = getattr(module, variable.__name__, None) is variable
    if by_name and not only_here(variable.__module__):
        return NotImplemented
    learn_cloudpickle()
    return loaded("cloudpickle").Pickler.dispatch_table[type(variable)](variable)


def reduce_custom(_: Pickler, obj: Any) -> Any:
    """Reduce by the type's own method; by content if that gives a name in a module which only this process has."""
    module = getattr(obj, "__module__", None)
    if not isinstance(module, str) or not only_here(module):
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    if not isinstance(reduced, str):
        return reduced
    from goproc._pickling import named

    return named.by_content(obj)


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _reduce_curry(_: Pickler, curry: Any) -> Any:
    """Reduce a function curried by toolz: as the result of a decorator it pickles as the function's name."""
    return _call, (type(curry), (curry.func, *curry.args), curry.keywords or {})


def _reduce_cell(pickler: Pickler, cell: CellType) -> Any:
    if pickler._cells is not None and id(cell) in pickler._cells:
        return CellType, ()
    return CellType, cell_contents(cell)


def fill_cells(contents: list[tuple[CellType, Any]] | None) -> None:
    for cell, value in contents or ():
        cell.cell_contents = value


def _reduce_code(_: Pickler, code: CodeType) -> Any:
    """Reduce a code object as a whole: a traceback shows its file and lines. All processes run the same Python."""
    try:
        return marshal.loads, (marshal.dumps(code),)
    except ValueError:  # code made by hand, with a constant that only pickle can take
        learn_cloudpickle()
        reduced = loaded("cloudpickle").Pickler.dispatch_table[CodeType](code)
        return _code_of_file, (reduced[0], reduced[1], code.co_filename)


def _code_of_file(make: Any, args: tuple[Any, ...], filename: str) -> CodeType:
    code: CodeType = make(*args)
    return code.replace(co_filename=filename)


def _reduce_bound_method(_: Pickler, method: MethodType) -> Any:
    """Reduce a bound method by the class that holds it: by its name alone `super().run` would become `self.run`."""
    function, owner = method.__func__, method.__self__
    name = getattr(function, "__name__", None)
    module = module_of_method(method)
    if module is not None:
        return getattr, (module, name)
    if isinstance(name, str):
        bound = getattr(owner, name, None)
        if type(bound) is MethodType and bound.__func__ is function:
            return getattr, (owner, name)
    if not isinstance(owner, type):
        for cls in type(owner).__mro__:
            for key, value in cls.__dict__.items():
                if value is function:
                    return _bind, (cls, key, owner)
    return MethodType, (function, owner)


def _bind(cls: type, name: str, owner: Any) -> Any:
    return MethodType(cls.__dict__[name], owner)


def _reduce_builtin(_: Pickler, function: Any) -> Any:
    module = module_of_method(function)
    return NotImplemented if module is None else (getattr, (module, function.__name__))


def _reduce_environment(_: Pickler, environment: Any) -> Any:
    """Reduce `os.environ` by its name: programs that a goroutine starts see what it sets there."""
    for name in ("environ", "environb"):
        if environment is getattr(os, name):
            return getattr, (os, name)
    return NotImplemented


def _reduce_stream(_: Pickler, stream: TextIOWrapper) -> Any:
    """Reduce a standard stream by its name: the script may have kept a stream that goproc has replaced since."""
    for name in ("stdout", "stderr", "stdin"):
        if stream is getattr(sys, name) or stream is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    learn_cloudpickle()
    return loaded("cloudpickle").Pickler.dispatch_table[TextIOWrapper](stream)


reducers[CellType] = _reduce_cell
reducers[ModuleType] = reducers[homes.Home] = reducers[homes.Script] = homes.reduce_module
families[ModuleType] = homes.reduce_module
reducers[CodeType] = _reduce_code
reducers[MethodType] = _reduce_bound_method
reducers[BuiltinFunctionType] = _reduce_builtin
reducers[LRU] = wrappers.reduce_lru_cache
reducers[type(os.environ)] = _reduce_environment
reducers[TextIOWrapper] = _reduce_stream
