"""Modules that only the script can import, by its own finders or from a place that it has added, travel by value."""

from __future__ import annotations

from programs import Run, ok

FINDER = """
    import importlib.abc, importlib.machinery, importlib.util, sys
    from goproc import chan, go
    SOURCES = {
        "virtual": "BASE = 3\\ndef get(x): return x + BASE\\nclass Made:\\n    def base(self): return BASE\\n",
        "bundle": "from . import inner\\ndef top(): return inner.deep()\\n",
        "bundle.inner": "DEEP = 9\\ndef deep(): return DEEP\\nclass Error(Exception): pass\\n",
    }
    class Loader(importlib.abc.Loader):
        def exec_module(self, module): exec(SOURCES[module.__name__], vars(module))
"""

USES = """
    def f(): return virtual.get(1), Made().base(), type(Made()) is virtual.Made, bundle.top(), bundle.inner.DEEP
    def imports():
        import virtual as own
        from bundle.inner import deep
        return own.get(2), deep()
    def fail(): raise bundle.inner.Error("lost")
    for proc in (0, 1):
        print(go.on(proc)(f).result(), go.on(proc)(imports).result(), go.on(proc)(virtual.get, 4).result())
        try:
            go.on(proc)(fail).result()
        except bundle.inner.Error as error:
            print(error, type(go.on(proc)(Made).result()) is Made)
"""
FOUND = "(4, 3, True, 9, 9) (5, 9) 7\nlost True\n" * 2


def test_a_finder_of_the_script(run: Run) -> None:
    script = f"""{FINDER}
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name in SOURCES: return importlib.util.spec_from_loader(name, Loader(), is_package=name == "bundle")
    sys.meta_path.append(Finder())
    import virtual, bundle
    from virtual import Made
    {USES}"""
    assert ok(run(script, procs=1)) == FOUND


def test_a_class_as_a_finder_and_a_loader_of_python(run: Run) -> None:
    script = f"""{FINDER}
    import os, tempfile
    folder = tempfile.TemporaryDirectory()
    for name, text in SOURCES.items():
        file = os.path.join(folder.name, name + ".txt")
        with open(file, "w") as out: out.write(text)
    class Finder:
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            if name not in SOURCES: return None
            file = os.path.join(folder.name, name + ".txt")
            loader = importlib.machinery.SourceFileLoader(name, file)
            places = [folder.name] if name == "bundle" else None
            return importlib.util.spec_from_file_location(name, file, loader=loader, submodule_search_locations=places)
    sys.meta_path.insert(0, Finder)
    import virtual, bundle
    from virtual import Made
    {USES}"""
    assert ok(run(script, procs=1)) == FOUND


def test_a_path_hook_of_the_script(run: Run) -> None:
    script = f"""{FINDER}
    class Entry:
        def __init__(self, path):
            if path != "memory://": raise ImportError
        def find_spec(self, name, target=None):
            if name in SOURCES: return importlib.util.spec_from_loader(name, Loader())
    class Package(Loader):
        def is_package(self, name): return True
    sys.path_hooks.insert(0, Entry)
    sys.path.append("memory://")
    sys.modules["bundle"] = bundle = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("bundle", Loader(), is_package=True))
    bundle.__path__.append("memory://")
    sys.modules["bundle.inner"] = bundle.inner = importlib.util.module_from_spec(importlib.machinery.ModuleSpec("bundle.inner", Loader()))
    Loader().exec_module(bundle.inner)
    Loader().exec_module(bundle)
    import virtual
    from virtual import Made
    {USES}"""
    assert ok(run(script, procs=1)) == FOUND


def test_a_loader_that_changes_the_source(run: Run) -> None:
    script = """
    import importlib.abc, importlib.machinery, os, sys, tempfile
    from goproc import go
    folder = tempfile.mkdtemp()
    with open(os.path.join(folder, "plain.py"), "w") as out: out.write("def get(): return WORD\\nWORD = 'plain'\\n")
    sys.path.insert(0, folder)
    class Upper(importlib.machinery.SourceFileLoader):
        def get_data(self, path): return super().get_data(path).replace(b"'plain'", b"'changed'")
        def path_stats(self, path): raise OSError
    class Finder(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            if name != "plain": return None
            return importlib.util.spec_from_file_location(name, os.path.join(folder, "plain.py"), loader=Upper(name, os.path.join(folder, "plain.py")))
    import importlib.util
    sys.meta_path.insert(0, Finder())
    import plain
    print(*[go.on(proc)(lambda: (plain.get(), plain.WORD)).result() for proc in (0, 1)])
    """
    assert ok(run(script, procs=1)) == "('changed', 'changed') ('changed', 'changed')\n"


def test_a_folder_and_an_archive_added_after_the_first_goroutine(run: Run) -> None:
    script = f"""{FINDER}
    import os, tempfile, zipfile
    go.on(1)(int).result()
    folder = tempfile.TemporaryDirectory()
    archive = os.path.join(folder.name, "own.zip")
    with zipfile.ZipFile(archive, "w") as out:
        out.writestr("bundle/__init__.py", SOURCES["bundle"])
        out.writestr("bundle/inner.py", SOURCES["bundle.inner"])
    with open(os.path.join(folder.name, "virtual.py"), "w") as out: out.write(SOURCES["virtual"])
    sys.path += [folder.name, archive]
    import virtual, bundle
    from virtual import Made
    {USES}"""
    assert ok(run(script, procs=1)) == FOUND


def test_a_folder_added_before_the_first_goroutine_is_imported_from(run: Run) -> None:
    script = f"""{FINDER}
    import os, tempfile
    folder = tempfile.TemporaryDirectory()
    with open(os.path.join(folder.name, "virtual.py"), "w") as out: out.write(SOURCES["virtual"])
    sys.path.append(folder.name)
    import virtual
    def f(): return virtual.get(1), virtual.__spec__ is not None and virtual.__spec__.origin == virtual.__file__
    print(*[go.on(proc)(f).result() for proc in (0, 1)])
    """
    assert ok(run(script, procs=1)) == "(4, True) (4, True)\n"
