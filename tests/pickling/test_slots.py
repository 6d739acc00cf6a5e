"""Classes of main with `__slots__`: their objects go to another process, and come back."""

from __future__ import annotations

from pathlib import Path

import programs
import pytest

CLASSES = """
import abc, collections, dataclasses, enum, typing
from goproc import chan, go

class Slotted:
    __slots__ = ("q",)
    def __init__(self, q): self.q = q
class Private(Slotted):
    __slots__ = "__r", "__weakref__"
    def __init__(self): super().__init__(1); self.__r = 2
    def __eq__(self, other): return (self.q, self.__r) == (other.q, other.__r)
class WithDict(Private):
    def __init__(self): super().__init__(); self.z = 3
class Single:
    __slots__ = "q"
    def __init__(self): self.q = 5
class Documented:
    __slots__ = {"q": "what it is"}
    def __init__(self): self.q = 6
class Abstract(abc.ABC):
    __slots__ = ()
    @abc.abstractmethod
    def f(self): ...
class Concrete(Abstract):
    __slots__ = ("q",)
    def __init__(self): self.q = 7
    def f(self): return self.q
@dataclasses.dataclass(slots=True)
class Data:
    q: int
    more: list = dataclasses.field(default_factory=list)
@dataclasses.dataclass(slots=True, frozen=True, weakref_slot=True)
class Frozen:
    q: int
class Named(typing.NamedTuple):
    q: int
    b: str = "x"
class NamedToo(Named):
    __slots__ = ()
Pair = collections.namedtuple("Pair", "q b")
T = typing.TypeVar("T")
class Generic(typing.Generic[T]):
    __slots__ = ("q",)
    def __init__(self): self.q = 8
class Enumerated(enum.Enum):
    __slots__ = ()
    X = 1
class Text(str):
    __slots__ = ()
class DictSlot:
    __slots__ = ("__dict__", "q")
    def __init__(self): self.q = 9; self.z = 10
def local():
    class Local:
        __slots__ = ("q",)
    made = Local()
    made.q = 11
    return made
"""

OBJECTS = {
    "Slotted(3)": False,
    "Private()": False,
    "WithDict()": True,
    "Single()": False,
    "Documented()": False,
    "Concrete()": False,
    "Data(1)": False,
    "Frozen(2)": False,
    "Named(1)": False,
    "NamedToo(1)": False,
    "Pair(1, 2)": False,
    "Generic()": False,
    "Enumerated.X": True,
    "Text('x')": False,
    "DictSlot()": True,
    "local()": False,
}


def test_there_and_back(tmp_path: Path) -> None:
    script = f"""{CLASSES}
def see(x):
    return x, hasattr(x, "__dict__"), getattr(x, "__dict__", None), type(x)
for text in {list(OBJECTS)}:
    mine = eval(text)
    back, has_dict, attributes, kind = go.on(1)(see, mine).result()
    assert kind is type(back) is type(mine), text
    assert has_dict == hasattr(mine, "__dict__"), text
    assert attributes == getattr(mine, "__dict__", None) or text == "Enumerated.X", (text, attributes)
    assert getattr(back, "q", 0) == getattr(mine, "q", 0) and getattr(back, "z", 0) == getattr(mine, "z", 0), text
    if type(mine).__eq__ is not object.__eq__: assert back == mine, text
    print(text, has_dict)
"""
    done = programs.run(tmp_path, script)
    assert (done.status, done.err) == (0, ""), done
    assert done.out.splitlines() == [f"{text} {has_dict}" for text, has_dict in OBJECTS.items()]


@pytest.mark.parametrize("made", ["Slotted(1)", "Data(1)"])
def test_no_other_attributes_there(tmp_path: Path, made: str) -> None:
    script = f"""{CLASSES}
def add(x): x.nope = 1
try: go.on(1)(add, {made}).result()
except AttributeError as e: print("nope" in str(e))
Slotted.twice = lambda self: self.q * 2  # a class that changes keeps them
print(go.on(1)(lambda x: x.twice(), Slotted(4)).result(), go.on(1)(lambda x: x, Slotted(5)).result().q)
"""
    done = programs.run(tmp_path, script)
    assert (done.status, done.out, done.err) == (0, "True\n8 5\n", ""), done
