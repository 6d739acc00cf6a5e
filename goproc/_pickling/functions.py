"""Functions travel as templates, which are made, stored, loaded and cached here, and as parts of a message."""

from __future__ import annotations

import builtins
import contextlib
import pickle
import sys
import weakref
from functools import partial
from types import BuiltinFunctionType, CellType, FunctionType, ModuleType

from goproc._pickling import homes, identities, names, pickler, reach, store, wrappers
from goproc._pickling.classes import class_entry, is_static_class
from goproc._pickling.members import home_of, set_attributes
from goproc._pickling.names import names_of
from goproc._pickling.pickler import Pickler
from goproc._pickling.statics import NotStatic, importable, is_class, is_handle, is_static
from goproc._pickling.templates import Template

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from goproc._pickling.store import Ref

# Code made by eval() would fill the sender's caches: they are emptied at this size.
_CACHED_CODES = 1024

# Of the sender: id(code) -> the latest template made from that code.
by_code: dict[int, Template] = store.cache({})
by_ref: dict[Ref, Template] = store.cache({})  # of the receiver
# Importable functions that were met in messages. A failing pickle empties the table.
known_importable: set[FunctionType] = store.cache(set())


def template_of(function: FunctionType) -> Template:
    """Return the template of a function. Make a new one if the present one no longer describes the function."""
    template = by_code.get(id(function.__code__))
    if template is not None and template.matches(function):
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
            # A function that was received is sent on under the same reference.
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


# -- making a template ---------------------------------------------------------------------------------------


class _TemplatePickler(Pickler):
    """Pickles a template: no part of it may be state that changes, or a handle."""

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if is_handle(kind):
            raise NotStatic("a handle")
        if kind is FunctionType and not importable(obj):
            raise NotStatic("a function")
        if issubclass(kind, type) and not is_static_class(obj):
            raise NotStatic("a class with state")
        return super().reducer_override(obj)


identities.pickled = partial(pickler.dump, _TemplatePickler)


def _new_template(function: FunctionType, old: Template | None) -> Template:
    if importable(function):
        template = Template.of_importable(function)
        blob = pickler.dump(_TemplatePickler, function)
    else:
        template = Template()
        if old is not None and old.owner is None:
            template.volatile = old.volatile | old.moved(function.__globals__)
            template.defaults_vary = old.defaults_vary or old.defaults is not function.__defaults__
            names = old.title, old.qualname
            template.name_varies = old.name_varies or names != (function.__name__, function.__qualname__)
        reach.fill(template, function)
        blob = _dump(template, function)
        _note_own(template, function)
        template.prepare()
        template.watch(function)
        template.maker = weakref.ref(function)
    _remember(template, store.put(blob, (template.code.co_filename, template.code.co_qualname)))
    return template


def _note_own(template: Template, function: FunctionType) -> None:
    """Have functions that come back to this process be its own.

    Goroutines get the function itself, too, if it uses only importable objects.
    """
    namespace = function.__globals__
    found = [(member, namespace[member.name]) for member in template.members if member.cached is None]
    for body, own in ((template, function), *found):
        used = [namespace[name] for name in names_of(body.code).used if name in namespace]
        imports = all(value is own or _is_imported(value) for value in used)
        identities.note(body.uid, own, imports and template.library is None)


def _is_imported(value: Any) -> bool:
    kind = type(value)
    if kind is FunctionType or is_class(value):
        return importable(value)
    return kind in (ModuleType, BuiltinFunctionType) and is_static(value)


def _dump(template: Template, function: FunctionType) -> bytes:
    try:
        return pickler.dump(_TemplatePickler, template.fields())
    except NotStatic:
        pass
    except Exception:  # pickling may raise anything: the second try is with the types that cloudpickle knows
        pickler.try_cloudpickle()
        with contextlib.suppress(Exception):
            return pickler.dump(_TemplatePickler, template.fields())
    if _strip_hints(template):
        try:
            return pickler.dump(_TemplatePickler, template.fields())
        except Exception:  # pickling may raise anything: see below
            pass
    # A part of a constant is not static, or cannot be pickled: the message will raise the error.
    template.volatile |= set(template.statics)
    reach.fill(template, function)
    _strip_hints(template)
    return pickler.dump(_TemplatePickler, template.fields())


def _strip_hints(template: Template) -> bool:
    """Drop the annotations, if there are any: they may name anything, and are no reason for an error."""
    stripped = False
    for body in (template, *template.members):
        kept = tuple([pair for pair in body.attributes if pair[0] != "__annotations__"])
        stripped |= len(kept) < len(body.attributes)
        body.attributes = kept
    return stripped


def why_missing(function: Any, name: object) -> str | None:
    """Return the reason why a global that a function's code only mentions did not travel; None if it did."""
    template = by_code.get(id(getattr(function, "__code__", None)))
    return template.omitted.get(name) if template is not None and isinstance(name, str) else None


# -- functions inside a message ------------------------------------------------------------------------------


def _reduce_function(message: Pickler, function: FunctionType) -> Any:
    """Reduce a function in a message; all functions of a message share one namespace per module.

    If the message has other functions of the module, a function without state is looked for among theirs, too.
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
    modules = [sys.modules[name] for name in template.modules if name in sys.modules]
    state = (dynamic, contents, template.extra(function), modules)
    return _new_function, (template.ref, namespace, home, cells, back), state, None, None, _set_function


def _holder(function: FunctionType) -> type | None:
    """Return the class of the script that has a function under its name, if messages refer to that class."""
    path, _, name = function.__qualname__.rpartition(".")
    found: Any = sys.modules.get(function.__module__)
    for part in path.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, type) or name != function.__name__ or getattr(found, name, None) is not function:
        return None
    entry = class_entry(found)
    return None if entry.uid is None or entry.inline else found


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
    """Return the function of a template if the namespace has it already."""
    present = None if namespace is None or home is None else namespace.get(home)
    return present if type(present) is FunctionType and present.__code__ == template.code else None


def _own(template: Template) -> Any:
    """Return this process's own function that has come back, if it has not changed."""
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
    # C code that imports, such as NumPy's methods, looks for builtins there.
    namespace["__builtins__"] = builtins
    namespace.update(template.base)  # first, since a function takes the name of its module from these
    function = template.make(namespace, cells)
    for name, value in template.statics.items():
        namespace.setdefault(name, value)
    if home is not None:
        namespace[home] = function
    for name in template.self_names:
        namespace[name] = function
    for member in template.members:
        if member.name not in namespace:
            shared = not member.fresh and not member.stateful
            namespace[member.name] = template.namespace[member.name] if shared else member.build(namespace)
    template.refresh_wrappers(namespace)
    return function


def _set_function(function: Any, state: tuple[Any, ...]) -> None:
    dynamic, contents, extra, modules = state
    homes.install(modules)
    if dynamic is not None:
        function.__globals__.update(dynamic)
        wrappers.refresh_all(function.__globals__)
    pickler.fill_cells(contents)
    set_attributes(function, extra or ())


pickler.reducers[FunctionType] = _reduce_function
