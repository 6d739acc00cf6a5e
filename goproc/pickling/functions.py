"""How a function travels: templates are made, stored, loaded and cached here; and functions inside a message."""

from __future__ import annotations

import builtins
import pickle
from types import CellType, FunctionType, ModuleType

from goproc.pickling import homes, names, pickler, store, wrappers
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
    from collections.abc import Iterable
    from typing import Any

    from goproc.pickling.store import Ref

# As many names of texts that are no globals yet are watched, for each function that gives names.
_WATCHED = 4
_OF_SHELLS = frozenset({"In", "Out", "exit", "quit", "get_ipython", "open"})  # IPython's own globals
# Code made by eval() would fill the sender's caches: they are dropped when they get this large.
_CACHED_CODES = 1024

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
            names = old.title, old.qualname
            template.moving_title = old.moving_title or names != (function.__name__, function.__qualname__)
        _slice(template, function)
        blob = _dump(template, function)
        template.prepare()
        template.watch(function)
        _use_own(template, function)
    _remember(template, store.put(blob, (template.code.co_filename, template.code.co_qualname)))
    return template


def _use_own(template: Template, function: FunctionType) -> None:
    """Let functions that come back to this process be its own, if they use no globals: copies could not be told from them."""
    if template.library is not None:
        return
    namespace = function.__globals__
    for member in template.members:
        if not member.fresh and namespace.keys().isdisjoint(names_of(member.code).used):
            template.namespace[member.name] = namespace[member.name]
    if template.simple and namespace.keys().isdisjoint(names_of(template.code).used):
        template.original = function


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


class _Slice:
    """The way in which each global that a function can reach is to travel."""

    def __init__(self, function: FunctionType, volatile: set[str]) -> None:
        self.function = function
        self.namespace = function.__globals__
        self.volatile = volatile
        self.statics: dict[str, Any] = {}
        self.dynamic: list[str] = []
        self.selfs: list[str] = []
        self.absent: list[str] = []
        self.omitted: dict[str, str] = {}
        self.watched: tuple[str, ...] = ()
        self.size = 0
        self.reached = [names_of(function.__code__)]
        self.hard = self._members([function])
        # A `global` statement in any member concerns all.
        self.rebound = frozenset[str]().union(*[code.rebound for code in self.reached])
        self.members: list[Member] = []
        for name in dict.fromkeys([name for code in self.reached for name in code.used]):
            if name in self.hard:
                self.members.append(self.hard[name])
            else:
                self._place(name)

    def _members(self, functions: list[FunctionType]) -> dict[str, Member]:
        """Find the plain functions reached by global names, and add the names of their code to `reached`."""
        found: dict[str, Member] = {}
        for code in self.reached:
            for name in code.used:
                member = None if name in found else self._member(name)
                if member is not None:
                    found[name] = member
                    self.reached.append(names_of(member.code))
        return found

    def _member(self, name: str) -> Member | None:
        value = self.namespace.get(name)
        if name in self.volatile or value is self.function:
            return None
        return Member.of(name, value, self.namespace)

    def _place(self, name: str) -> None:
        if name not in self.namespace:
            self.absent.append(name)
        elif name in self.volatile or name in self.rebound:
            self.dynamic.append(name)
        elif self.namespace[name] is self.function:
            self.selfs.append(name)
        elif is_static(self.namespace[name]):
            self.statics[name] = self.namespace[name]
        else:
            self.dynamic.append(name)

    # -- globals by which the code may be named in a text only

    def add_mentioned(self) -> None:
        """Add the globals that texts and annotations name, or all if the code reflects, as far as they can be pickled."""
        known = {*self.statics, *self.dynamic, *self.selfs, *self.absent, *self.hard}
        todo = self._mentioned(self.reached, [self.function, *self.members])
        for name in todo:
            if name in known or (name.startswith("__") and name.endswith("__")):
                continue
            known.add(name)
            member = self._member(name)
            if member is None:
                self._place_mentioned(name)
                continue
            code = names_of(member.code)
            self.members.append(member)
            self.reached.append(code)
            self.rebound |= code.rebound
            todo += [*code.used, *self._mentioned([code], [member])]

    def _mentioned(self, codes: Iterable[names.Names], bodies: Iterable[FunctionType | Member]) -> list[str]:
        hints = [hint for body in bodies for hint in _text_hints(body)]
        found = names.identifiers(hints).union(*[code.mentioned for code in codes])
        absent = {name for name in found if name not in self.namespace}.union(self.watched)
        if len(absent) <= _WATCHED:
            self.watched = tuple(absent)
        dotted = names.identifiers(hints, names.DOT).union(*[code.dotted for code in codes])
        reflects = any(code.reflects for code in codes)
        if reflects:
            self.size = len(self.namespace)

        def is_meant(name: str, value: Any) -> bool:
            if is_handle(type(value)):  # it would keep alive what it stands for
                return reflects and name in found
            if type(value) is ModuleType and not reflects:  # an import may take long
                return name in dotted
            return name in found or (reflects and not name.startswith("_") and name not in _OF_SHELLS)

        return [name for name, value in self.namespace.items() if is_meant(name, value)]

    def _place_mentioned(self, name: str) -> None:
        if name not in self.namespace:
            return
        value = self.namespace[name]
        if value is self.function:
            self.selfs.append(name)
        elif name not in self.rebound and name not in self.volatile and is_static(value):
            self.statics[name] = value
        elif (reason := pickler.refusal(value)) is None:
            self.dynamic.append(name)
        else:
            self.omitted[name] = reason


def _text_hints(body: FunctionType | Member) -> list[str]:
    """Return the annotations of a function that are texts."""
    hints = (
        body.__annotations__
        if type(body) is FunctionType
        else dict(body.attributes).get("__annotations__", {})
    )
    return [hint for hint in hints.values() if isinstance(hint, str)]


def _slice(t: Template, function: FunctionType) -> None:
    """Fill in the template: find out how each global that the function can reach is to travel."""
    _head(t, function)
    t.base, t.statics, t.omitted, t.size, t.watched = {}, {}, {}, 0, ()
    t.dynamic, t.selfs, t.absent, t.members = (), (), (), ()
    t.library = library(function.__globals__)
    t.home = t.library is None and homes.only_here(function.__globals__.get("__name__", ""))
    reached, rebound = [names_of(t.code)], frozenset[str]()
    if t.library is None:
        namespace = function.__globals__
        t.base = {name: namespace[name] for name in BASE_GLOBALS if is_static(namespace.get(name, t))}
        found = _Slice(function, t.volatile)
        found.add_mentioned()
        t.statics, t.omitted, t.size, t.watched = found.statics, found.omitted, found.size, found.watched
        t.dynamic, t.selfs = tuple(found.dynamic), tuple(found.selfs)
        t.absent, t.members = tuple(found.absent), tuple(found.members)
        reached, rebound = found.reached, found.rebound
    _decide(t, function, reached, rebound)


def _decide(t: Template, function: FunctionType, reached: list[names.Names], rebound: frozenset[str]) -> None:
    """Decide which parts calls can share."""
    # Nor may calls share the functions of a namespace if one keeps attributes on them.
    keeps = bool(t.selfs or t.members) and any(code.sets_attributes for code in reached)
    own = bool(rebound) or keeps or any(code.reflects for code in reached)
    t.simple = not (
        t.dynamic
        or own
        or function.__closure__ is not None
        or t.moving_defaults
        or t.moving_title
        or function.__kwdefaults__ is not t.kwdefaults
        or function.__dict__
    )
    differs = set() if t.simple else {*t.dynamic, *t.selfs}
    t.fresh = own or bool(differs)
    # A member needs to be built anew with each namespace if what it can reach differs from call to call.
    while grown := {
        m.name for m in t.members if m.name not in differs and not differs.isdisjoint(names_of(m.code).used)
    }:
        differs |= grown
    for member in t.members:
        member.fresh = own or member.name in differs
    attributes = frozenset[str]().union(*[code.attributes for code in reached])
    cells = [value for cell in function.__closure__ or () for value in cell_contents(cell)]
    t.submodules = names.submodules([*t.statics.values(), *cells], attributes)


def why_missing(function: Any, name: object) -> str | None:
    """Return why a global that a function's code only mentions did not travel with it; None if that is not so."""
    template = by_code.get(id(getattr(function, "__code__", None)))
    return template.omitted.get(name) if template is not None and isinstance(name, str) else None


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


# -- Functions inside a message ---------------------------------------------------------------------------------------


def _reduce_function(message: Pickler, function: FunctionType) -> Any:
    """Reduce a function met in a message; all functions of a message share one namespace per module."""
    if function in known_importable and not homes.registered(function.__module__):
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
    template = load_template(ref)
    return template.original or template.function


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
            shared = not member.fresh and not template.reads_state
            namespace[member.name] = template.namespace[member.name] if shared else member.build(namespace)
    template.refresh_wrappers(namespace)
    return function


def _set_function(function: Any, state: tuple[Any, ...]) -> None:
    dynamic, contents, extra = state
    if dynamic is not None:
        function.__globals__.update(dynamic)
        wrappers.refresh_all(function.__globals__)
    pickler.fill_cells(contents)
    set_attributes(function, extra or ())


pickler.reducers[FunctionType] = _reduce_function
