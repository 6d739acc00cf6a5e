"""Classes of a script: the names, attributes and members that come with them."""

from __future__ import annotations

from definition_scripts import script
from programs import Run, ok


def test_a_class_that_comes_with_a_message_only(run: Run) -> None:
    text = """
        class Item:
            def __init__(self, n): self.n = n
        def roundtrip(ch):
            item = ch.recv()
            return pickle.loads(pickle.dumps(item)).n, type(item).__name__ in vars(sys.modules["__main__"])
        for p in (0, 1, 2):
            ch = chan(1)
            ch.send(Item(p))
            print(go.on(p)(roundtrip, ch).result(30))
    """
    assert ok(run(script(text))) == "(0, True)\n(1, True)\n(2, True)\n"


def test_a_dataclass_made_in_a_goroutine(run: Run) -> None:
    text = """
        def make():
            @dataclasses.dataclass
            class Row:
                kind: typing.ClassVar[str] = "row"
                n: int = 1
                hidden: dataclasses.InitVar[int] = 2
            return [f.name for f in dataclasses.fields(Row)]
        print(everywhere(make))
    """
    assert ok(run("from __future__ import annotations\n" + script(text))) == "['n']\n"


def test_a_class_that_reaches_itself(run: Run) -> None:
    text = """
        class Codec:
            decoders = {}
            @classmethod
            def upper(cls, text): return cls.__name__ + text.upper()
            def lower(self, text): return text.lower()
        class Special(Codec): ...
        Codec.decoders["upper"] = Codec.upper
        Codec.decoders["of special"] = Special.upper
        Codec.decoders["lower"] = Codec().lower
        Codec.decoders["partial"] = functools.partial(Codec.upper, "c")
        def f():
            d = Codec.decoders
            return d["upper"]("a"), d["of special"]("b"), d["lower"]("C"), d["partial"](), d["upper"].__self__ is Codec
        print(everywhere(f))
    """
    assert ok(run(script(text))) == "('CodecA', 'SpecialB', 'c', 'CodecC', True)\n"


def test_instances_in_sets_of_their_class(run: Run) -> None:
    text = """
        class Currency:
            def __init__(self, code): self.code = code
            def __hash__(self): return hash(self.code)
            def __eq__(self, other): return self.code == other.code
        Currency.known = {Currency("EUR")}
        Currency.rates = {Currency("EUR"): 1.5}
        def f(more):
            return Currency("EUR") in Currency.known, Currency.rates[Currency("EUR")], Currency("USD") in more
        print(everywhere(f, {Currency("USD")}))
    """
    assert ok(run(script(text))) == "(True, 1.5, True)\n"


def test_caches_of_a_library_on_a_class_stay_behind(run: Run) -> None:
    text = """
        import threading
        class Row:
            def __init__(self, n): self.n = n
        Row.__codec_cache__ = threading.Lock()
        def f(row): return row.n, hasattr(Row, "__codec_cache__")
        print([go.on(p)(f, Row(3)).result(30) for p in (0, 1)])
        class Bad:
            lock = threading.Lock()
        try:
            go(lambda: Bad)
        except Exception as error:
            print(type(error).__name__)
    """
    assert ok(run(script(text))) == "[(3, True), (3, False)]\nPickleError\n"


def test_module_registered_for_pickling_by_value(run: Run, tmp_path) -> None:
    (tmp_path / "settings_of_mine.py").write_text(
        "RATE = 1\nclass Row:\n    def rate(self): return RATE\ndef rate(): return RATE\n"
    )
    text = f"""
        sys.path.insert(0, {str(tmp_path)!r})
        import cloudpickle, settings_of_mine
        from settings_of_mine import Row, rate
        def f(): return rate(), Row().rate()
        cloudpickle.register_pickle_by_value(settings_of_mine)
        settings_of_mine.RATE = 2
        print(everywhere(f), everywhere(rate))
    """
    assert ok(run(script(text))) == "(2, 2) 2\n"


def test_classes_that_only_annotations_name(run: Run) -> None:
    text = """
        @dataclasses.dataclass
        class Point:
            x: "X"
        class X: ...
        @dataclasses.dataclass
        class Line:
            start: "Point"
            links: "typing.Optional[Line]"
        def f(kind):
            start = typing.get_type_hints(kind)["start"]
            return start.__name__, typing.get_type_hints(start)["x"].__name__
        print(everywhere(f, Line))
    """
    assert ok(run(script(text))) == "('Point', 'X')\n"


def test_classes_of_libraries_that_reach_their_methods(run: Run) -> None:
    text = """
        class Fields:
            def __init__(self, cls): self.check = cls.check
        def remember(cls):
            cls.__library_fields__ = Fields(cls)
            return cls
        @remember
        class Row:
            @classmethod
            def check(cls, n): return cls.__name__, n
        def f(): return Row.__library_fields__.check(1), Row.__library_fields__.check.__self__ is Row
        print(everywhere(f))
    """
    assert ok(run(script(text))) == "(('Row', 1), True)\n"


def test_a_local_class_keeps_its_full_name(run: Run) -> None:
    text = """
        class Outer:
            class Inner: n = 1
        def make():
            class Local: n = 2
            return Local
        def f(*classes):
            return [(c.__qualname__, c.n, hasattr(sys.modules["__main__"], c.__name__)) for c in classes]
        print(everywhere(f, Outer.Inner, make()))
        print(everywhere(lambda: pickle.loads(pickle.dumps(Outer.Inner())).n))
    """
    assert ok(run(script(text))) == "[('Outer.Inner', 1, False), ('make.<locals>.Local', 2, False)]\n1\n"


def test_classes_that_were_sent_are_not_kept(run: Run) -> None:
    text = """
        import gc, weakref
        ch, made = chan(1), []
        def make(i):
            class Base: v = i
            class A(Base):
                def get(self): return super().v
            return A
        class B: ...
        for i in range(400):
            A = make(i)
            class B:
                v = i
                def get(self): return __class__.v
            made += [weakref.ref(A), weakref.ref(B)]
            ch.send((A(), B()))
            a, b = ch.recv()
            assert a.get() == b.get() == i
        del A, a, b
        gc.collect()
        print(sum(ref() is not None for ref in made) <= 300)
    """
    assert ok(run(script(text))) == "True\n"


def test_a_class_without_a_module(run: Run) -> None:
    text = """
        class Nowhere:
            __module__ = None
            def __init__(self, n): self.n = n
        print(everywhere(lambda item: item.n, Nowhere(4)))
    """
    assert ok(run(script(text))) == "4\n"


def test_a_new_type_of_the_script_is_one_object(run: Run) -> None:
    text = """
        from typing import NewType, Optional, get_type_hints
        class Record: pass
        UserId = NewType("UserId", int)
        RecordId = NewType("RecordId", Record)
        Inner = NewType("Inner", UserId)
        NAMES = {UserId: "user", Inner: "inner"}
        @dataclasses.dataclass
        class Row:
            user: UserId
            record: "RecordId"
        def parse(text: UserId, other: "Inner" = None) -> Optional[RecordId]: return UserId(int(text))
        def f():
            hints = get_type_hints(parse)
            return (parse("5"), hints["text"] is UserId, hints["other"] is Inner, hints["return"] == Optional[RecordId],
                    get_type_hints(Row) == {"user": UserId, "record": RecordId}, RecordId.__supertype__ is Record,
                    Inner.__supertype__ is UserId, NAMES[UserId], repr(UserId), pickle.loads(pickle.dumps(UserId)) is UserId)
        def same(kind): return kind is UserId, kind
        print(everywhere(f))
        print([found is UserId and there for there, found in [go.on(p)(same, UserId).result() for p in (0, 1, 2)]])
        ch = chan(1)
        ch.send({UserId: [UserId]})
        def receive(): return ch.recv()[UserId][0] is UserId
        print(go.on(1)(receive).result())
        first, UserId = UserId, NewType("UserId", str)
        def both(): return first.__supertype__, UserId.__supertype__
        print(everywhere(both))
    """
    found = (5, *[True] * 6, "user", "__main__.UserId", True)
    kinds = "(<class 'int'>, <class 'str'>)"
    assert ok(run(script(text))) == f"{found}\n[True, True, True]\nTrue\n{kinds}\n"
