"""How a function travels: templates are made, stored, loaded and cached here; and functions inside a message."""

from __future__ import annotations

import builtins
import pickle
from types import CellType, FunctionType

from goproc.pickling import names, pickler, store
from goproc.pickling.classes import is_static_class
from goproc.pickling.names import cell_contents, names_of
from goproc.pickling.pickler import Pickler
from goproc.pickling.statics import BASE_GLOBALS, NotStatic, importable, is_handle, is_static, library
from goproc.pickling.templates import (
    Member,
    Template,
    attributes_of,
    set_attributes,
    static_kwdefaults,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from goproc.pickling.store import Ref

# Code that names one of these can reach any global, so it gets a namespace of its own.
_REFLECTION = frozenset({"globals", "exec", "eval", "vars"})
# Code made by eval() would fill the sender's caches: they are dropped when they get this large.
_CACHED_CODES = 4096

by_code: dict[int, Template] = store.cache({})  # sender: id(code) -> the latest template made from that code
by_ref: dict[Ref, Template] = store.cache({})  # receiver
# Functions found importable, met in messages; forgotten when a pickle fails.
known_importable: set[FunctionType] = store.cache(set())


def template_of(function: FunctionType) -> Template:
    """Return the template of a function, made anew if it no longer says what the function is."""
    template = by_code.get(id(function.__code__))
    if template is not None and template.fits(function):
        return template
    with store.lock:
        return _new_template(function, template)


def load_template(ref: Ref) -> Template:
    """Return the template behind `ref`, loaded once per process."""
    template = by_ref.get(ref)
    if template is None:
        with store.lock:
            loaded = pickle.loads(store.get(ref))
            make = Template.load if type(loaded) is tuple else Template.of_importable
            template = make(loaded)
            # What was received is sent on under the same reference.
            _remember(template, ref)
    return template


def _remember(template: Template, ref: Ref) -> None:
    template.ref = ref
    if len(by_code) > _CACHED_CODES:
        by_code.clear()
        names.known.clear()
    by_code[id(template.code)] = template
    if type(ref) is int:
        by_ref[ref] = template


# -- Making a template ------------------------------------------------------------------------------------------------


class _TemplatePickler(Pickler):
    """Pickles a template: nothing in it may be state that changes, or a handle."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if is_handle(kind):
            raise NotStatic("a handle")
        if kind is FunctionType and not importable(obj):
            raise NotStatic("a function")
        if issubclass(kind, type) and not is_static_class(obj):
            raise NotStatic("a class with state")
        return super().reducer_override(obj)


def _new_template(function: FunctionType, old: Template | None) -> Template:
    pickler.learn_cloudpickle()
    if importable(function):
        template = Template.of_importable(function)
        blob = pickler.dump(_TemplatePickler, function)
    else:
        template = Template()
        if old is not None and old.owner is None:
            template.volatile = old.volatile | old.moved(function.__globals__)
            template.moving_defaults = old.moving_defaults or old.defaults is not function.__defaults__
            template.moving_title = old.moving_title or old.title != function.__name__
        _slice(template, function)
        blob = _dump(template, function)
        template.prepare()
    _remember(template, store.put(blob, (template.code.co_filename, template.code.co_qualname)))
    return template


def _dump(template: Template, function: FunctionType) -> bytes:
    try:
        return pickler.dump(_TemplatePickler, template.fields())
    except Exception:
        pass
    if _strip_hints(template):
        try:
            return pickler.dump(_TemplatePickler, template.fields())
        except Exception:
            pass
    # Something in a constant is not static after all, or cannot be pickled: the message will tell.
    template.volatile |= set(template.statics)
    _slice(template, function)
    _strip_hints(template)
    return pickler.dump(_TemplatePickler, template.fields())


def _strip_hints(template: Template) -> bool:
    """Forget the annotations, if there are any: they may name anything, and are not worth an error."""
    stripped = False
    for body in (template, *template.members):
        kept = tuple([pair for pair in body.attributes if pair[0] != "__annotations__"])
        stripped |= len(kept) < len(body.attributes)
        body.attributes = kept
    return stripped


def _slice(t: Template, function: FunctionType) -> None:
    """Fill in the template: find out how each global that the function can reach is to travel."""
    _head(t, function)
    namespace = function.__globals__
    t.base, t.statics = {}, {}
    dynamic: list[str] = []
    selfs: list[str] = []
    absent: list[str] = []
    members: list[Member] = []
    reached, plain_functions = [names_of(t.code)], {}
    rebound: frozenset[str] = frozenset()
    t.library = library(namespace)
    if t.library is None:
        t.base = {name: namespace[name] for name in BASE_GLOBALS if is_static(namespace.get(name, t))}
        plain_functions = _reach(reached, function, t.volatile)
        # A `global` statement in any member concerns all.
        rebound = rebound.union(*[code.rebound for code in reached])
        for name in dict.fromkeys([name for code in reached for name in code.used]):
            if name not in namespace:
                absent.append(name)
            elif name in t.volatile or name in rebound:
                dynamic.append(name)
            elif namespace[name] is function:
                selfs.append(name)
            elif name in plain_functions:
                members.append(plain_functions[name])
            elif is_static(namespace[name]):
                t.statics[name] = namespace[name]
            else:
                dynamic.append(name)
    t.dynamic, t.selfs, t.absent, t.members = tuple(dynamic), tuple(selfs), tuple(absent), tuple(members)
    # Nor may calls share the functions of a namespace if one keeps attributes on them.
    keeps = bool(selfs or members) and any(code.sets_attributes for code in reached)
    own = bool(rebound) or keeps or not _REFLECTION.isdisjoint(absent)
    t.simple = not (
        dynamic
        or own
        or function.__closure__ is not None
        or t.moving_defaults
        or t.moving_title
        or function.__kwdefaults__ is not t.kwdefaults
        or function.__dict__
    )
    differs = set() if t.simple else {*dynamic, *selfs}
    t.fresh = own or bool(differs)
    # A member needs to be built anew with each namespace if what it can reach differs from call to call.
    while grown := {
        m.name for m in members if m.name not in differs and not differs.isdisjoint(names_of(m.code).used)
    }:
        differs |= grown
    for member in members:
        member.fresh = own or member.name in differs
    attributes = frozenset[str]().union(*[code.attributes for code in reached])
    cells = [value for cell in function.__closure__ or () for value in cell_contents(cell)]
    t.submodules = names.submodules([*t.statics.values(), *cells], attributes)


def _head(t: Template, function: FunctionType) -> None:
    """Fill in all but what concerns the globals."""
    t.code = function.__code__
    t.title = function.__name__
    t.moving_defaults = t.moving_defaults or not is_static(function.__defaults__)
    t.defaults = None if t.moving_defaults else function.__defaults__
    t.kwdefaults = function.__kwdefaults__ if static_kwdefaults(function) else None
    t.attributes = tuple(
        [pair for pair in attributes_of(function) if pair[0] != "__kwdefaults__" or pair[1] is t.kwdefaults]
    )


def _reach(reached: list[names.Names], function: FunctionType, volatile: set[str]) -> dict[str, Member]:
    """Find the plain functions reached by global names, and add the names of their code to `reached`."""
    namespace = function.__globals__
    found: dict[str, Member] = {}
    for code in reached:
        for name in code.used:
            value = namespace.get(name)
            if name in found or name in volatile or value is function:
                continue
            member = Member.of(name, value, namespace)
            if member is not None:
                found[name] = member
                reached.append(names_of(member.code))
    return found


# -- Functions inside a message ---------------------------------------------------------------------------------------


def _reduce_function(message: Pickler, function: FunctionType) -> Any:
    """Reduce a function met in a message; all functions of a message share one namespace per module."""
    if function in known_importable:
        return NotImplemented
    if importable(function):
        known_importable.add(function)
        return NotImplemented
    template = template_of(function)
    if template.simple and not template.reads_state:
        return _load_function, (template.ref,)
    source = function.__globals__
    namespace = None if template.library is not None else message.namespace(source)
    name = function.__name__
    home = name if source.get(name) is function else None
    cells, contents = message.cells(function.__closure__)
    dynamic = {name: source[name] for name in template.dynamic if name in source} or None
    state = (dynamic, contents, template.extra(function))
    return _new_function, (template.ref, namespace, home, cells), state, None, None, _set_function


def _load_function(ref: Ref) -> Any:
    return load_template(ref).function


def _new_function(
    ref: Ref, namespace: dict[str, Any] | None, home: str | None, cells: tuple[CellType, ...] | None
) -> Any:
    template = load_template(ref)
    if namespace is None:
        return template.make(template.namespace, cells)
    if home is not None:
        present = namespace.get(home)
        if type(present) is FunctionType and present.__code__ is template.code:
            return present
    namespace["__builtins__"] = builtins  # C code that imports, as NumPy's methods do, looks for them there
    function = template.make(namespace, cells)
    namespace.update(template.base)
    for name, value in template.statics.items():
        namespace.setdefault(name, value)
    if home is not None:
        namespace[home] = function
    for name in template.selfs:
        namespace[name] = function
    for member in template.members:
        if member.name not in namespace:
            namespace[member.name] = member.build(namespace)
    return function


def _set_function(function: Any, state: tuple[Any, ...]) -> None:
    dynamic, contents, extra = state
    if dynamic is not None:
        function.__globals__.update(dynamic)
    pickler.fill_cells(contents)
    set_attributes(function, extra or ())


pickler.reducers[FunctionType] = _reduce_function
