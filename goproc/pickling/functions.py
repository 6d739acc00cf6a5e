"""How a function travels: templates are made, stored, loaded and cached here; and functions inside a message."""

from __future__ import annotations

import builtins
import pickle
import sys
import weakref
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType

from goproc.pickling import homes, identities, names, pickler, store, wrappers
from goproc.pickling.classes import class_entry, is_static_class
from goproc.pickling.names import cell_contents, names_of
from goproc.pickling.pickler import Pickler
from goproc.pickling.rebinding import Rebound
from goproc.pickling.statics import BASE_GLOBALS, NotStatic, importable, is_handle, is_static, library
from goproc.pickling.templates import (
    Member,
    Template,
    attributes_of,
    home_of,
    set_attributes,
    static_kwdefaults,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
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
        _note_own(template, function)
        template.prepare()
        template.watch(function)
        template.maker = weakref.ref(function)
    _remember(template, store.put(blob, (template.code.co_filename, template.code.co_qualname)))
    return template


def _note_own(template: Template, function: FunctionType) -> None:
    """Let functions that come back to this process be its own; those that use only what is imported are it for goroutines, too."""
    namespace = function.__globals__
    found = [(member, namespace[member.name]) for member in template.members if member.cached is None]
    for body, own in ((template, function), *found):
        used = [namespace[name] for name in names_of(body.code).used if name in namespace]
        imports = all(value is own or _is_imported(value) for value in used)
        identities.note(body.uid, own, imports and template.library is None)


def _is_imported(value: Any) -> bool:
    kind = type(value)
    if kind is FunctionType or isinstance(value, type):
        return importable(value)
    return kind in (ModuleType, BuiltinFunctionType) and is_static(value)


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
    apart = keeps or any(code.reflects for code in reached)
    t.simple = not (
        t.dynamic
        or apart
        or rebound
        or function.__closure__ is not None
        or t.moving_defaults
        or t.moving_title
        or function.__kwdefaults__ is not t.kwdefaults
        or function.__dict__
    )
    differs = {*t.dynamic, *rebound} if t.simple else {*t.dynamic, *rebound, *t.selfs}
    t.fresh = apart or bool(differs)
    # A member needs to be built anew with each namespace if what it can reach differs from call to call.
    while grown := {
        m.name for m in t.members if m.name not in differs and not differs.isdisjoint(_met(t, m))
    }:
        differs |= grown
    for member in t.members:
        member.fresh = apart or member.name in differs
    attributes = frozenset[str]().union(*[code.attributes for code in reached])
    cells = [value for cell in function.__closure__ or () for value in cell_contents(cell)]
    t.submodules = names.submodules([*t.statics.values(), *cells], attributes)
    _identify(t, function, differs)


def _met(t: Template, body: Template | Member) -> tuple[str, ...]:
    """Return the names of globals by which the code of a function reaches something, those in its texts among them."""
    code = names_of(body.code)
    meant = [name for name in code.mentioned if type(t.statics.get(name)) is not ModuleType]
    return *code.used, *sorted(meant)


def _identify(t: Template, function: FunctionType, differs: set[str]) -> None:
    """Give uids to the functions that reach only what cannot change, and note what they read that could be rebound.

    Args:
        t: the template.
        function: that it is made from.
        differs: the names that do not mean the same for each call.
    """
    members = {member.name: member for member in t.members}
    rebound = Rebound(function.__globals__)
    state = {name for name, value in t.statics.items() if rebound.may_be(name, value)}
    state |= {name for name in t.absent if not hasattr(builtins, name) and rebound.may_be(name, None)}
    t.reads_state = bool(state)
    t.uid = identities.uid_of(t.code, _parts(t, t, members)) if t.simple else ""
    for member in t.members:
        reach = _reach(t, member, members)
        member.stateful = not state.isdisjoint(reach)
        codes = [names_of(member.code), *[names_of(members[name].code) for name in reach if name in members]]
        keeps = len(codes) > 1 and any(code.sets_attributes for code in codes)
        varies = keeps or not differs.isdisjoint(reach) or any(code.reflects for code in codes)
        if not varies and member.cached is None:
            member.uid = identities.uid_of(member.code, _parts(t, member, members))


def _reach(t: Template, body: Template | Member, members: Mapping[str, Member]) -> dict[str, None]:
    """Return the names of all globals that a function reaches, also by way of other functions."""
    found = dict.fromkeys(_met(t, body))
    todo = list(found)
    for name in todo:
        inner = t if name in t.selfs else members.get(name)
        if inner is not None:
            more = [other for other in _met(t, inner) if other not in found]
            found.update(dict.fromkeys(more))
            todo += more
    return found


def _parts(t: Template, body: Template | Member, members: Mapping[str, Member]) -> list[Any]:
    """Return the objects that a function is made of and that it reaches."""
    parts = body.parts()
    for name in _reach(t, body, members):
        if name in t.statics:
            parts += [name, t.statics[name]]
        elif name in t.selfs:
            parts += [name, *t.parts()]
        elif name in members:
            parts += [name, *members[name].parts()]
    return parts


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
    """Reduce a function met in a message; all functions of a message share one namespace per module.

    Where other functions of the module are in the message, one that has no state is looked for among theirs, too.
    """
    if function in known_importable and not homes.registered(function.__module__):
        return NotImplemented
    if importable(function):
        known_importable.add(function)
        return NotImplemented
    holder = _holder(function) if "." in function.__qualname__ else None
    if holder is not None and message.refers_to_methods:
        return getattr, (holder, function.__name__)
    template = template_of(function)
    source = function.__globals__
    back = bool(template.uid) and not identities.is_original(function)
    if template.simple and not template.reads_state:
        if not template.stands_for(function):
            return _load_copy, (template.ref,)
        if message._namespaces is None or template.library is not None:
            return load_function, (template.ref, back)
        return load_function, (template.ref, back, message.namespace(source), home_of(function))
    namespace = None if template.library is not None else message.namespace(source)
    home = home_of(function) if function.__closure__ is None else None
    cells, contents = message.cells(function.__closure__)
    dynamic = {name: source[name] for name in template.dynamic if name in source} or None
    state = (dynamic, contents, template.extra(function))
    return _new_function, (template.ref, namespace, home, cells, back), state, None, None, _set_function


def _holder(function: FunctionType) -> type | None:
    """Return the class of the script that has a function under its name, if messages refer to the class."""
    path, _, name = function.__qualname__.rpartition(".")
    found: Any = sys.modules.get(function.__module__)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or name != function.__name__ or getattr(found, name, None) is not function:
        return None
    entry = class_entry(found)
    return None if entry.uid is None or entry.inline else found


def by_itself(function: FunctionType) -> Template | None:
    """Return the template of a global function if it reaches only what cannot change and no class of the script."""
    namespace = function.__globals__
    if home_of(function) is None or library(namespace) is not None:
        return None
    todo = [function]
    for known in todo:
        code = names_of(known.__code__)
        for name in (*code.used, *code.mentioned, *names.identifiers(_text_hints(known))):
            value = namespace.get(name)
            if type(value) is FunctionType and value.__globals__ is namespace:
                todo += [value] if value not in todo else []
            elif not _is_plain(value):
                return None
    template = template_of(function)
    return template if template.simple else None


def _is_plain(value: Any) -> bool:
    """Return True if a static value is no class of the script."""
    return importable(value) if isinstance(value, type) else is_static(value)


def load_function(
    ref: Ref, back: bool = False, namespace: dict[str, Any] | None = None, home: str | None = None
) -> Any:
    template = load_template(ref)
    found = _present(template, namespace, home)
    if found is None:
        found = (_own(template) if back else None) or template.function
        if namespace is not None and home is not None:
            namespace[home] = found
    return found


def _load_copy(ref: Ref) -> Any:
    template = load_template(ref)
    return template.make(template.namespace)


def _present(template: Template, namespace: dict[str, Any] | None, home: str | None) -> Any:
    """Return the function of a template if it is in a namespace already."""
    present = None if namespace is None or home is None else namespace.get(home)
    return present if type(present) is FunctionType and present.__code__ == template.code else None


def _own(template: Template) -> Any:
    """Return the function that has come back here, if it is still what it was."""
    function = identities.own(template.uid)
    return function if function is not None and template_of(function).uid == template.uid else None


def _new_function(
    ref: Ref,
    namespace: dict[str, Any] | None,
    home: str | None,
    cells: tuple[CellType, ...] | None,
    back: bool,
) -> Any:
    template = load_template(ref)
    if namespace is None:
        return template.make(template.namespace, cells)
    found = _present(template, namespace, home) or (_own(template) if back else None)
    if found is not None:
        return found
    namespace["__builtins__"] = builtins  # C code that imports, as NumPy's methods do, looks for them there
    namespace.update(template.base)  # first, since a function takes the name of its module from them
    function = template.make(namespace, cells)
    for name, value in template.statics.items():
        namespace.setdefault(name, value)
    if home is not None:
        namespace[home] = function
    for name in template.selfs:
        namespace[name] = function
    for member in template.members:
        if member.name not in namespace:
            shared = not member.fresh and not member.stateful
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
