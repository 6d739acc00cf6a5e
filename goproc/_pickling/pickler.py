"""The pickler of messages.

The pickler asks Python about every object that is not a basic one. So the treatment of a type is found once, when the
type is first met, and then looked up in one dictionary. cloudpickle is imported when the first object needs it: a
program that sends plain data never does.
"""

from __future__ import annotations

import builtins
import copyreg
import functools
import importlib
import marshal
import os
import pickle
import sys
from collections import deque
from io import TextIOWrapper
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType, ModuleType
from typing import NamedTuple

from goproc._isolation import loaded
from goproc._pickling import homes, proxies, store, wrappers
from goproc._pickling.homes import MAIN, only_here
from goproc._pickling.names import cell_contents
from goproc._pickling.passing import Passing
from goproc._pickling.statics import LRU, importable, is_enumeration, is_static, module_of_method

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from typing import Any

    Closure = tuple[CellType, ...] | None
    Reducer = Callable[[Any, Any], Any]

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
    except Exception as error:  # pickling may raise anything: the error is the answer
        return f"{type(error).__name__}: {error}"
    return None


def _try_dump(obj: Any) -> None:
    Pickler(_Nowhere(), 5, buffer_callback=lambda buffer: None).dump(obj)


@functools.cache
def learn_cloudpickle() -> None:
    """Import cloudpickle and take over its ways for types that pickle refuses."""
    import cloudpickle  # noqa: F401

    _policy.clear()


# -- the treatment of each type ------------------------------------------------------------------------------


def _reducer_for(kind: type) -> Reducer | None:
    reducer = reducers.get(type if issubclass(kind, type) else kind)
    if reducer is not None:
        return reducer
    for base, reducer in families.items():
        if issubclass(kind, base) and _is_plain(kind, base):
            return reducer
    name = (kind.__module__ or "", kind.__name__)
    if proxies.is_proxy(kind):
        return proxies.reduce_proxy
    if name in (("toolz.functoolz", "curry"), ("cytoolz.functoolz", "curry")):
        return _reduce_curry
    if name[0].partition(".")[0] == "numpy" and name[1] == "memmap":
        from goproc._pickling.mapped import reduce_memmap

        return reduce_memmap
    if name[0].partition(".")[0] in ("numpy", "polars", "pyarrow"):
        from goproc._pickling.frames import reducer_of

        found = reducer_of(kind)
        if found is not None:
            return found
    if hasattr(kind, "__struct_config__") or name[0].startswith("msgspec."):
        from goproc._pickling import structs

        found = structs.reducer_of(kind)
        if found is not None:
            return found
    if name[0] == "ctypes":
        from goproc._pickling import foreign

        found = foreign.reducer_of(kind)
        if found is not None:
            return found
    if name == ("_struct", "Struct"):
        return lambda _, obj: (kind, (obj.format,))
    if kind.__module__ == "dataclasses":
        return _reduce_sentinel
    if issubclass(kind, BaseException):
        from goproc._pickling.sent_exceptions import reduce_exception

        return reduce_exception
    if is_enumeration(kind) and not importable(kind):
        from goproc._pickling.enumerations import reduce_member

        return reduce_member
    cloudpickle = loaded("cloudpickle")
    if cloudpickle is not None:
        special = cloudpickle.Pickler.dispatch_table.get(kind)
        if special is not None and kind not in copyreg.dispatch_table:
            return lambda _, obj: special(obj)
    if issubclass(kind, (set, frozenset, deque, bytearray)) and not importable(kind):
        from goproc._pickling import filling

        if filling.base_to_fill(kind) is not None:
            return filling.reduce_collection
    plain: tuple[Any, Any] = (object.__reduce__, object.__reduce_ex__)
    if (kind.__reduce__, kind.__reduce_ex__) != plain:
        return _reduce_custom
    from goproc._pickling import filling

    if importable(kind):
        return filling.reduce_to_fill if filling.answers_anything(kind) else None
    own_new = type(kind.__new__) is FunctionType
    own_hash = type(kind.__hash__) is FunctionType and not hasattr(kind, "__setstate__")
    if not own_hash and filling.needs_filling(kind):
        return filling.reduce_to_fill
    return _reduce_by_new if own_new else _reduce_hashed if own_hash else None


def _is_plain(kind: type, base: type) -> bool:
    """Return True if a class is pickled as its base is."""
    names = ("__reduce__", "__reduce_ex__", "__getstate__", "__setstate__")
    return kind not in copyreg.dispatch_table and all(
        getattr(kind, name, None) is getattr(base, name, None) for name in names
    )


def _reduce_by_new(pickler: Pickler, obj: Any) -> Any:
    """Reduce an object of a script's class with a `__new__`, as pickle does."""
    make, args, *rest = obj.__reduce_ex__(5)
    make = maker_for(type(obj), make)
    hashed = type(type(obj).__hash__) is FunctionType and not hasattr(obj, "__setstate__")
    if hashed and type(rest[0]) is dict:
        return _in_two_steps(obj, make, args, *rest)
    return (make, args, *rest)


_BEFORE = frozenset({int, float, bool, str, bytes, type(None)})


def _reduce_hashed(_: Pickler, obj: Any) -> Any:
    """Reduce an object of a script's class with a `__hash__`: the object may be in a set that it holds itself."""
    for value in getattr(obj, "__dict__", {}).values():
        if type(value) not in _BEFORE:
            break
    else:
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    return _in_two_steps(obj, *reduced) if type(reduced[2]) is dict else reduced


class _First(NamedTuple):
    """The attributes of an object that are set before its others are loaded, since those may need its hash."""

    obj: Any
    attributes: dict[str, Any]


def _in_two_steps(obj: Any, make: Any, args: tuple[Any, ...], state: dict[str, Any], *items: Any) -> Any:
    first = {name: value for name, value in state.items() if is_static(value)}
    others = {name: value for name, value in state.items() if name not in first}
    listed, keyed = (*items, None, None)[:2]
    return make, args, (_First(obj, first), others), listed, keyed, _set_others


def _reduce_first(_: Pickler, first: _First) -> Any:
    return _set_first, tuple(first)


def _set_first(obj: Any, attributes: dict[str, Any]) -> None:
    obj.__dict__.update(attributes)


def _set_others(obj: Any, state: tuple[None, dict[str, Any]]) -> None:
    obj.__dict__.update(state[1])


def maker_for(kind: Any, make: Any) -> Any:
    """Return the function in place of pickle's `__newobj__` for a class with a `__new__`; others as they are."""
    if make is not copyreg.__newobj__:  # type: ignore[attr-defined]
        return make
    # A number, a text or a tuple gives its value as the argument; the class's own `__new__` may take other arguments.
    of_value = type(getattr(kind, "__getnewargs__", _new)) is not FunctionType
    return _new_of_value if of_value else _new


def _new(cls: Any, *args: Any) -> Any:
    """Make an object by the script's `__new__`.

    The call fails if `__new__` reads an attribute of the class that holds this very object, as a singleton does. Then
    the object is made without it, and gets its attributes.
    """
    try:
        return cls.__new__(cls, *args)
    except Exception:  # a __new__ of the program may raise anything
        base = _base_of(cls)
        return base.__new__(cls, *(() if base is object else args))


def _new_of_value(cls: Any, *args: Any) -> Any:
    return _base_of(cls).__new__(cls, *args)


def _base_of(cls: Any) -> Any:
    """Return the first base whose `__new__` is not the script's."""
    return next(base for base in cls.__mro__ if type(base.__new__) is not FunctionType)


def _reduce_sentinel(_: Pickler, obj: Any) -> Any:
    """Keep the identity of the markers of `dataclasses`, which it compares by `is`."""
    if type(obj).__name__ == "_FIELD_BASE":
        return obj.name
    for name, value in vars(loaded("dataclasses")).items():
        if value is obj:
            return name
    return NotImplemented


def _reduce_custom(_: Pickler, obj: Any) -> Any:
    """Reduce by the type's own method; by content if that gives a name in a module which only this process has."""
    module = getattr(obj, "__module__", None)
    if not isinstance(module, str) or not only_here(module):
        return NotImplemented
    reduced = obj.__reduce_ex__(5)
    return _by_content(obj) if isinstance(reduced, str) else reduced


# Objects that pickle as a name in such a module: one object for each name in a process, so that a marker is itself
# everywhere, and the cache of a decorator is filled once. Their creator gives them a uid, which is the key.
_uids: dict[int, tuple[Any, str]] = store.cache({})
_named: dict[str, Any] = store.cache({})
_table = store.Threshold()
_HELD = 4  # references to an object in _forget_unused(): two tables, the variable, the call


def _keep_named(uid: str, obj: Any) -> None:
    _named[uid] = obj
    _uids[id(obj)] = obj, uid
    if _table.passed(len(_named)):
        _forget_unused()


def _forget_unused() -> None:
    """Forget the objects to which no other reference is left."""
    for uid in list(_named):
        obj = _named[uid]
        if sys.getrefcount(obj) <= _HELD:
            del _named[uid], _uids[id(obj)]
    _table.set(len(_named))


def _by_content(obj: Any) -> Any:
    """Reduce an object as if its class had no method for that, which would give the name of a function."""
    kind = type(obj)
    args, kwargs = (), {}
    if hasattr(kind, "__getnewargs_ex__"):
        args, kwargs = obj.__getnewargs_ex__()
    elif hasattr(kind, "__getnewargs__"):
        args = obj.__getnewargs__()
    try:
        state = object.__getstate__(obj)
    except TypeError as error:
        raise pickle.PicklingError(f"it pickles as a name of {obj.__module__}, and {error}") from error
    known = _uids.get(id(obj))
    uid = os.urandom(16).hex() if known is None else known[1]
    if uid not in _named:
        _keep_named(uid, obj)
    return _new_named, (uid, kind, args, kwargs), (uid, state), None, None, _set_named


def _new_named(uid: str, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    obj = _named.get(uid)
    return kind.__new__(kind, *args, **kwargs) if obj is None else obj


def _set_named(obj: Any, state: tuple[str, Any]) -> None:
    uid, content = state
    if uid in _named:
        return
    _keep_named(uid, obj)
    attributes, slots = content if type(content) is tuple else (content, None)
    if attributes:
        obj.__dict__.update(attributes)
    for name, value in (slots or {}).items():
        setattr(obj, name, value)


def _call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return function(*args, **kwargs)


def _reduce_curry(_: Pickler, curry: Any) -> Any:
    """Reduce a function curried by toolz: as the result of a decorator it pickles as the function's name."""
    return _call, (type(curry), (curry.func, *curry.args), curry.keywords or {})


def _reduce_module(_: Pickler, module: ModuleType) -> Any:
    """Reduce a module by its content where no other process can import it."""
    name = module.__name__
    known = sys.modules.get(name)
    if known is not None and not only_here(name):
        return importlib.import_module, (name,)
    if known is module and (name in MAIN or type(module) is homes.Home):
        return _home, (name,)
    kept = {key: value for key, value in vars(module).items() if key not in _OF_IMPORT}
    return _new_module, (name, type(module)), kept, None, None, _fill_module


_OF_IMPORT = frozenset({"__builtins__", "__loader__", "__spec__", "__cached__"})


def _home(name: str) -> ModuleType:
    homes.provide(name)
    return sys.modules[name]


def _new_module(name: str, kind: Any) -> ModuleType:
    module: ModuleType = kind.__new__(kind)
    ModuleType.__init__(module, name)
    vars(module)["__builtins__"] = builtins
    return module


def _fill_module(module: ModuleType, attributes: dict[str, Any]) -> None:
    vars(module).update(attributes)


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


def _reduce_lru_cache(_: Pickler, wrapper: Any) -> Any:
    """Reduce an object of `lru_cache`: by reference if importable, else as the function inside and an empty cache.

    A wrapper of a module's function is one object in each process, and so is its cache. (A wrapped class is one object
    anyway.)
    """
    if importable(wrapper):
        return NotImplemented
    function = wrapper.__wrapped__
    if type(function) is FunctionType and function.__qualname__ == function.__name__:
        name = function.__name__ if function.__globals__.get(function.__name__) is wrapper else None
        return _receive_wrapper, (wrappers.cached(wrapper), function, name)
    parameters = wrapper.cache_parameters()
    return _make_lru_cache, (function, parameters["maxsize"], parameters["typed"])


def _make_lru_cache(function: Any, maxsize: int | None, typed: bool) -> Any:
    return functools.lru_cache(maxsize, typed)(function)


def _receive_wrapper(cached: wrappers.Cached, function: FunctionType, name: str | None) -> Any:
    make = functools.partial(_over, function)
    return wrappers.receive(cached, make, name, function.__globals__)


def _over(function: FunctionType, namespace: dict[str, Any]) -> FunctionType:
    """Return a copy of a function over another namespace."""
    made = FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    made.__kwdefaults__ = function.__kwdefaults__
    made.__dict__.update(function.__dict__)
    return made


def _reduce_cached_property(_: Pickler, obj: Any) -> Any:
    """Reduce a cached_property so that it is made anew: on some versions of Python it holds a lock."""
    return _make_cached_property, (obj.func, obj.attrname)


def _make_cached_property(function: Any, name: str | None) -> Any:
    made = functools.cached_property(function)
    made.attrname = name
    return made


def _reduce_stream(_: Pickler, stream: TextIOWrapper) -> Any:
    """Reduce a standard stream by its name: the script may have kept a stream that goproc has replaced since."""
    for name in ("stdout", "stderr", "stdin"):
        if stream is getattr(sys, name) or stream is getattr(sys, f"__{name}__"):
            return getattr, (sys, name)
    learn_cloudpickle()
    return loaded("cloudpickle").Pickler.dispatch_table[TextIOWrapper](stream)


reducers[_First] = _reduce_first
reducers[CellType] = _reduce_cell
reducers[ModuleType] = reducers[homes.Home] = reducers[homes.Script] = _reduce_module
families[ModuleType] = _reduce_module
reducers[CodeType] = _reduce_code
reducers[MethodType] = _reduce_bound_method
reducers[BuiltinFunctionType] = _reduce_builtin
reducers[type(os.environ)] = _reduce_environment
reducers[LRU] = _reduce_lru_cache
reducers[functools.cached_property] = _reduce_cached_property
reducers[TextIOWrapper] = _reduce_stream
