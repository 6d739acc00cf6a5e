"""Objects whose class changes how they are made, or how they get attributes and items, arrive as they are."""

from __future__ import annotations

from programs import Run, ok


def test_values_and_collections_of_the_scripts_classes(run: Run) -> None:
    text = """
        import collections
        from goproc import chan, go
        class Number(int):
            def __new__(cls, value, unit):
                self = super().__new__(cls, value)
                self.unit = unit
                return self
        class Pair(tuple):
            def __new__(cls, *items): return super().__new__(cls, items)
        class Text(str):
            def __new__(cls, value, lang="en"):
                self = super().__new__(cls, value)
                self.lang = lang
                return self
        class Named(set):
            def __init__(self, name, items=()):
                super().__init__(items)
                self.name = name
            def __hash__(self): return hash(self.name)
        class Fixed(frozenset):
            def __new__(cls, name, items): return super().__new__(cls, items)
        class Recent(collections.deque):
            def __init__(self, most): super().__init__(maxlen=most)
        class Buffer(bytearray):
            def __init__(self, name, data):
                super().__init__(data)
                self.name = name
        class Watched(dict):
            def __init__(self, log): self.log = log
            def __setitem__(self, key, value):
                self.log.append(key)
                super().__setitem__(key, value)
        class Doubled(list):
            def extend(self, items): super().extend([item * 2 for item in items])
        named, recent, watched, doubled = Named("n", [1]), Recent(2), Watched([]), Doubled([1])
        named.add(named)
        recent.extend([1, 2, 3])
        watched["a"] = 1
        doubled.extend([2])
        objects = [Number(5, "m"), Pair(1, 2), Text("x", "fr"), Fixed("f", [1]), recent, Buffer("b", b"ab"), watched, doubled]
        def f(objects, named):
            number, pair, text, fixed, recent, buffer, watched, doubled = objects
            return (number + 1, number.unit, pair + (), text + "", text.lang, set(fixed), list(recent), recent.maxlen,
                    bytes(buffer), buffer.name, dict(watched), watched.log, list(doubled), len(named), named in named, named.name,
                    [type(part).__name__ for part in objects])
        print(f(objects, named))
        print([go.on(proc)(f, objects, named).result() == f(objects, named) for proc in (0, 1)])
        back = go.on(1)(lambda: objects).result()
        print(f(back, named) == f(objects, named), [type(part) for part in back] == [type(part) for part in objects])
    """
    found = (
        "(6, 'm', (1, 2), 'x', 'fr', {1}, [2, 3], 2, b'ab', 'b', {'a': 1}, ['a'], [1, 4], 2, True, 'n', "
        "['Number', 'Pair', 'Text', 'Fixed', 'Recent', 'Buffer', 'Watched', 'Doubled'])"
    )
    assert ok(run(text, procs=1)) == f"{found}\n[True, True]\nTrue True\n"


def test_attributes_are_set_past_the_class(run: Run) -> None:
    text = """
        from goproc import go
        class Frozen:
            __slots__ = ("value",)
            def __init__(self, value): object.__setattr__(self, "value", value)
            def __setattr__(self, name, value): raise AttributeError(name)
        class Proxy:
            def __init__(self, target): self.target = target
            def __getattr__(self, name): return getattr(self.target, name)
        class Fields:
            def __init__(self): self.fields = {}
            def __getattr__(self, name): return self.fields[name]
            def __setattr__(self, name, value):
                if name == "fields": super().__setattr__(name, value)
                else: self.fields[name] = value
        frozen, proxy, fields = Frozen(5), Proxy([1, 2]), Fields()
        fields.name = "n"
        def f(frozen, proxy, fields): return frozen.value, proxy.index(2), fields.name, vars(fields)
        print([go.on(proc)(f, frozen, proxy, fields).result() for proc in (0, 1)])
        print(go.on(1)(lambda: f(frozen, proxy, fields)).result())
    """
    found = "(5, 1, 'n', {'fields': {'name': 'n'}})"
    assert ok(run(text, procs=1)) == f"[{found}, {found}]\n{found}\n"


def test_an_object_that_its_own_new_looks_for(run: Run) -> None:
    text = """
        import weakref
        from goproc import go
        class Flyweight:
            pool = weakref.WeakValueDictionary()
            def __new__(cls, name):
                self = cls.pool.get(name)
                if self is None:
                    self = cls.pool[name] = super().__new__(cls)
                    self.name = name
                return self
            def __getnewargs__(self): return (self.name,)
        x = Flyweight("x")
        def f(): return x is Flyweight("x"), Flyweight("y").name
        print([go.on(proc)(f).result() for proc in (0, 1)])
        print(go.on(1)(lambda own: own is Flyweight("x"), x).result(), go.on(1)(Flyweight, "x").result() is x)
    """
    assert ok(run(text, procs=1)) == "[(True, 'y'), (True, 'y')]\nTrue True\n"


def test_descriptors_of_the_scripts_classes(run: Run) -> None:
    text = """
        from goproc import go
        class Marked(property):
            def __init__(self, function): self.function = function
            def __get__(self, obj, owner): return self if obj is None else f"marked {self.function(obj)}"
        class Counted(classmethod):
            def __init__(self, function, count):
                super().__init__(function)
                self.count = count
        class Plain(staticmethod): pass
        class A:
            x = 1
            @Marked
            def value(self): return self.x
            @Plain
            def plain(): return "plain"
            made = Counted(lambda cls: cls.__name__, 3)
        def f(): return A().value, A.plain(), A.made(), vars(A)["made"].count
        print([go.on(proc)(f).result() for proc in (0, 1)], go.on(1)(lambda a: a.value, A()).result())
    """
    found = "('marked 1', 'plain', 'A', 3)"
    assert ok(run(text, procs=1)) == f"[{found}, {found}] marked 1\n"


def test_a_module_of_the_scripts_class(run: Run) -> None:
    text = """
        import sys, types
        from goproc import go
        class Lazy(types.ModuleType):
            def __getattr__(self, name):
                if name.startswith("__"): raise AttributeError(name)
                return f"{self.PREFIX} {name}"
        lazy = sys.modules["lazy"] = Lazy("lazy")
        lazy.PREFIX = "made"
        def f():
            import lazy as own
            return lazy.part, own.part, type(own).__name__
        print([go.on(proc)(f).result() for proc in (0, 1)])
    """
    found = "('made part', 'made part', 'Lazy')"
    assert ok(run(text, procs=1)) == f"[{found}, {found}]\n"
