"""Libraries, functions and types of ctypes that a script has are usable in every process."""

from __future__ import annotations

import programs
import pytest
from programs import Run

BEGIN = """
    import ctypes
    from goproc import chan, go

    libm = ctypes.CDLL("libm.so.6")
    libm.sqrt.restype, libm.sqrt.argtypes = ctypes.c_double, [ctypes.c_double]
    cos = libm.cos
    cos.restype, cos.argtypes = ctypes.c_double, [ctypes.c_double]
    exp = libm["exp"]
    exp.restype, exp.argtypes, exp.errcheck = ctypes.c_double, [ctypes.c_double], lambda value, f, args: value + 100
    libc = ctypes.CDLL(None, use_errno=True)
    Compare = ctypes.CFUNCTYPE(ctypes.c_int, *2 * [ctypes.POINTER(ctypes.c_int)])

    class Packed(ctypes.Structure):
        _pack_ = 1
        _fields_ = [("x", ctypes.c_char), ("y", ctypes.c_double)]
        scale = 3
        def norm(self): return abs(self.y) * self.scale

    class Longer(Packed):
        _fields_ = [("z", ctypes.c_int * 2)]

    class Mixed(ctypes.Structure):
        class Number(ctypes.Union): _fields_ = [("i", ctypes.c_int), ("f", ctypes.c_float)]
        _anonymous_ = ("number",)
        _fields_ = [("number", Number), ("points", Packed * 2), ("rows", ctypes.c_int * 2 * 3)]

    class Node(ctypes.Structure): pass
    Node._fields_ = [("v", ctypes.c_int), ("next", ctypes.POINTER(Node)), ("f", ctypes.CFUNCTYPE(None, ctypes.POINTER(Node)))]

    class Swapped(ctypes.BigEndianStructure):
        _fields_ = [("a", ctypes.c_uint16), ("b", ctypes.c_uint16, 4), ("c", ctypes.c_char * 5)]

    class Sum(ctypes.c_int * 3):
        def total(self): return sum(self)
"""

USES = {
    "functions of a library": """
    def f(): return libm.sqrt(4.0), cos(0.0), cos is libm.cos, exp(0.0)
    """,
    "errno": """
    def f(): return libc.close(-1), ctypes.get_errno()
    """,
    "a callback": """
    def f():
        numbers = (ctypes.c_int * 3)(3, 1, 2)
        libc.qsort(numbers, 3, ctypes.sizeof(ctypes.c_int), Compare(lambda a, b: a[0] - b[0]))
        return list(numbers)
    """,
    "the fields of a structure": """
    def f():
        packed, longer, mixed, node = Packed(b"a", -2.0), Longer(b"b", 1.0, (1, 2)), Mixed(i=7), Node(1)
        mixed.points[1].y, mixed.rows[2][1] = 3.0, 5
        second = Node(2, ctypes.pointer(node))
        return (ctypes.sizeof(Packed), packed.norm(), longer.norm(), list(longer.z), mixed.number.i, mixed.points[1].y,
                mixed.rows[2][1], second.next[0].v, bytes(Swapped(1, 2, b"abc")), Sum(1, 2, 3).total())
    """,
    "objects of C": """
    packed, several, total = Packed(b"a", -2.0), (Packed * 2)(), Sum(1, 2, 3)
    several[1].y = 9.0
    def f(): return packed.norm(), several[1].y, total.total(), type(several) is Packed * 2, type(packed) is Packed
    """,
}


@pytest.mark.parametrize("what", USES)
def test_it_is_the_same(run: Run, what: str) -> None:
    script = f"""{BEGIN}{USES[what]}
    print({{repr(f())}} == {{repr(go.on(proc)(f).result()) for proc in (0, 1, 2, 1)}})
    """
    assert programs.ok(run(script, procs=2)) == "True\n"


def test_types_come_back_as_those_of_the_script(run: Run) -> None:
    script = f"""{BEGIN}
    types = [ctypes.c_int * 3, Packed * 2, ctypes.POINTER(Node), Compare, Packed, Mixed, Swapped, Sum,
             ctypes.c_uint32.__ctype_be__, type(Packed)]
    print(all(map(lambda a, b: a is b, go.on(1)(lambda: types).result(), types)))
    there, back = chan(1), chan(1)
    def echo(): back.send(there.recv())
    go.on(1)(echo)
    there.send(Longer(b"a", 2.0, (3, 4)))
    longer = back.recv()
    print(type(longer) is Longer, longer.norm(), list(longer.z))
    """
    assert programs.ok(run(script, procs=1)) == "True\nTrue 6.0 [3, 4]\n"


def test_changes_are_seen(run: Run) -> None:
    script = f"""{BEGIN}
    class Late(ctypes.Structure): pass
    def f(): return Packed(b"a", 1.0).norm(), libm.sqrt.restype.__name__, hasattr(Late, "a")
    print(go.on(1)(f).result())
    Packed.scale, libm.sqrt.restype, Late._fields_ = 4, ctypes.c_float, [("a", ctypes.c_int)]
    print(go.on(1)(f).result(), go.on(1)(lambda: Late(3).a).result())
    """
    assert programs.ok(run(script, procs=1)) == "(3.0, 'c_double', False)\n(4.0, 'c_float', True) 3\n"


@pytest.mark.parametrize("value", ["Compare(print)", "ctypes.pointer(Node())", "ctypes.c_char_p(b'')"])
def test_addresses_are_refused(run: Run, value: str) -> None:
    script = f"""{BEGIN}
    try: go(id, {value})
    except Exception as error: print(type(error).__name__, "containing pointers" in str(error))
    """
    assert programs.ok(run(script, procs=1)) == "PickleError True\n"
