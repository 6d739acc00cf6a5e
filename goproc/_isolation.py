"""Imports of goproc's own where a file beside the script has the name of a module of Python's.

Python looks for every module beside the script first. A script select.py, or a module queue.py of the program, takes
the place of Python's module for all code: a library that needs Python's fails, or runs the script a second time.
Without goproc the program would not have noticed. So if there are such files, and only then:

- goproc and the libraries that it needs look beside the script last for the modules that they import;
- modules of those names that they have imported are theirs alone. The program's own imports find its own files.

Their modules have an `__import__` of their own, which brings their import statements here. Pickle looks its names up by
the same function. A name in a pickle means the program's module, as for the program's own pickles. The functions and
classes of a module that is theirs alone have another name, by which every process finds them: see _apart.py.

All processes of a program have the same view. The host tells the zygote the folder (`beside`), and workers inherit it.

Every host and the command line import this file, so it imports only modules that are built in or that Python has loaded.
`__future__` is none of them.
"""

import _frozen_importlib_external as _external
import builtins
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_LIBRARIES = frozenset({"goproc", "greenlet", "cloudpickle", "psutil"})
_SUFFIXES = (".py", ".pyc", ".so")

_import: "Any" = builtins.__import__
_builtins: "dict[str, Any]" = {}  # of the modules of the libraries
_names: frozenset[str] = frozenset()  # files beside the script, by the modules that they hide
_folder = ""
_depth = 0
_path: list[str] = []  # sys.path as the program has it, while an import of ours is under way
_theirs: "dict[str, Any]" = {}  # the program's modules, meanwhile
_ours: "dict[str, Any]" = {}  # our modules, at other times
APART = "goproc._apart."  # before the names of modules that are ours alone


def begin() -> None:
    """Look which files there are beside the script."""
    if sys.path and not sys.flags.safe_path:
        _look(sys.path[0])


def follow(folder: "str | None") -> None:
    """Have the view of the host, in the zygote.

    Args:
        folder: from `beside` in the host; None if the host has not looked so far, and will see the same.
    """
    global _names
    if folder is None or folder == beside():
        return
    if _names:
        sys.meta_path.remove(_Finder)
        _names = frozenset()
    if folder:
        _look(folder)


def beside() -> str:
    """Return the folder of the script if there are such files in it, else an empty text."""
    return _folder if _names else ""


def search_path() -> "list[Any]":
    """Return `sys.path` as the program has it, also during an import of goproc's."""
    return list(_path if _depth else sys.path)


def _look(folder: str) -> None:
    global _names, _folder
    try:
        _folder = os.path.abspath(folder)
    except OSError:
        return  # the current folder was deleted: no file is found there
    _names = frozenset(_modules(_entries(folder)))
    if _folder == os.path.dirname(os.path.abspath(os.__file__)):
        _names = frozenset()
    if _names:
        _builtins.update(vars(builtins), __import__=_import_isolated)
        sys.meta_path.insert(0, _Finder)


def _entries(folder: str) -> "Iterable[str]":
    """Return the names in the folder. Python has read it, to look for goproc."""
    finder = sys.path_importer_cache.get(folder or os.getcwd())
    entries: Iterable[str] = getattr(finder, "_path_cache", ())
    if not entries:
        try:
            entries = os.listdir(folder or ".")
        except OSError:
            return ()
    return list(entries)


def _modules(entries: "Iterable[str]") -> "Iterable[str]":
    """Yield the names of modules that hide one which goproc needs."""
    for entry in entries:
        name, dot, _ = entry.partition(".")
        if name == "goproc" or (name not in sys.stdlib_module_names and name not in _LIBRARIES):
            continue
        if (dot and entry.endswith(_SUFFIXES)) or (
            not dot and os.path.exists(os.path.join(_folder, name, "__init__.py"))
        ):
            yield name


def loaded(name: str) -> "Any":
    """Return a module of Python's or of a library if it is loaded; None for another module of that name."""
    module = sys.modules.get(name)
    if name.partition(".")[0] not in _names or (module is not None and not _is_theirs(name, module)):
        return module
    return _ours.get(name)


def apart(name: str) -> "Any":
    """Return the module of that name as goproc and its libraries see it, whether it is theirs alone or not."""
    with isolated:
        _import(name)
        return sys.modules[name]


class _Isolated:
    """``with isolated:`` imports are those of goproc. It does nothing where no file hides a module."""

    __slots__ = ()

    def __enter__(self) -> None:
        global _depth
        if not _names:
            return
        _depth += 1
        if _depth > 1:
            return
        _path[:] = sys.path
        sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _folder] + [_folder]
        _theirs.update(_take(True))
        sys.modules.update(_ours)

    def __exit__(self, *exc: object) -> None:
        global _depth
        if not _names:
            return
        _depth -= 1
        if _depth:
            return
        sys.path[:] = _path
        ours = _take(False)
        _ours.update(ours)
        for name, module in ours.items():
            _set_apart(name, module)
        sys.modules.update(_theirs)
        _theirs.clear()


isolated = _Isolated()


class Uncollected:
    """``with Uncollected():`` Python looks for no garbage. Imports leave none, and looking for it takes time."""

    __slots__ = ("_off",)

    def __enter__(self) -> None:
        self._off = gc.isenabled()
        gc.disable()

    def __exit__(self, *exc: object) -> None:
        if not self._off:
            return
        if gc.get_freeze_count() == 0:
            # What was imported stays. It joins the old objects, or the next allocation would look at all of it.
            gc.freeze()
            gc.unfreeze()
        gc.enable()


def pause() -> int:
    """Leave the imports of goproc's that are under way, for `resume`: other code runs before they go on."""
    global _depth
    depth = _depth
    if depth:
        _depth = 1
        isolated.__exit__()
    return depth


def resume(depth: int) -> None:
    """Go on with the imports that `pause` has left."""
    global _depth
    if depth:
        isolated.__enter__()
        _depth = depth


_loaded = frozenset(sys.modules)  # by Python itself, at its start: shared by all


def _take(theirs: bool) -> "dict[str, Any]":
    """Take the modules that are the program's, or those that are not, out of sys.modules."""
    found = {}
    for name, module in list(sys.modules.items()):
        if (
            name.partition(".")[0] in _names
            and _is_theirs(name, module) is theirs
            and (theirs or _is_private(name))
        ):
            found[name] = sys.modules.pop(name)
    return found


def _is_theirs(name: str, module: "Any") -> bool:
    """Return True if a module comes from the file, or the package, beside the script."""
    origin = getattr(getattr(module, "__spec__", None), "origin", None) or getattr(module, "__file__", None)
    return isinstance(origin, str) and _is_beside(name, origin)


def _is_beside(name: str, origin: str) -> bool:
    place = os.path.join(_folder, name.partition(".")[0])
    return os.path.abspath(origin).startswith((place + ".", place + os.sep))


def _is_private(name: str) -> bool:
    """Return True for modules hidden from the program: it has one of this name, which is not the script itself."""
    return name not in _loaded and not _is_script(name.partition(".")[0])


def _is_script(top: str) -> bool:
    script = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    return os.path.abspath(script) == os.path.join(_folder, top + ".py")


def _set_apart(name: str, module: "Any") -> None:
    """Give a module that is ours alone, and its functions and classes, a name that pickles can use."""
    if APART + name in sys.modules or getattr(getattr(module, "__spec__", None), "_initializing", False):
        return
    sys.modules[APART + name] = module
    for value in list(vars(module).values()):
        if isinstance(value, (type, type(begin))) and value.__module__ == name:
            try:
                value.__module__ = APART + name
            except TypeError:  # a class written in C
                pass


def _import_isolated(
    name: str, globals: "Any" = None, locals: "Any" = None, fromlist: "Any" = (), level: int = 0
) -> "Any":
    top = name.partition(".")[0]
    if level == 0 and top not in _names and name in sys.modules:
        return _import(name, globals, locals, fromlist, level)
    # C code, which gives a list, asks for a module of a pickle. The script is not imported once more.
    if type(fromlist) is list and top in _names and not _depth and not _is_script(top):
        return _import(name, globals, locals, fromlist, level)
    with isolated:
        return _import(name, globals, locals, fromlist, level)


class _Loader(_external.SourceFileLoader):
    def exec_module(self, module: "Any") -> None:
        module.__dict__["__builtins__"] = _builtins
        super().exec_module(module)


class _Finder:
    @staticmethod
    def find_spec(name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name.partition(".")[0] not in _LIBRARIES or (path is None and not _depth):
            return None
        spec = _external.PathFinder.find_spec(name, path, target)
        if spec is None or (name.partition(".")[0] in _names and _is_beside(name, spec.origin or "")):
            return spec
        if type(spec.loader) is _external.SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec
