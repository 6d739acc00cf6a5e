"""Classes that say how they are pickled."""

from __future__ import annotations

import copyreg
import threading

from zoo.registry import by_class, case, not_sent


class OwnReduce(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}-{b}")
        self.a, self.b = a, b

    def __reduce__(self):
        return type(self), (self.a, self.b)


class OwnReduceEx(Exception):
    def __init__(self, a):
        super().__init__(a)
        self.lock = threading.Lock()

    def __reduce_ex__(self, protocol):
        return type(self), self.args

    def __eq__(self, other):
        return self.args == other.args

    __hash__ = None


class OwnState(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __getstate__(self):
        return {"b": self.b, "came": True}

    def __setstate__(self, state):
        self.b = state["b"]


class OwnSetState(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __setstate__(self, state):
        self.__dict__.update(state)


class OwnGetState(Exception):
    __slots__ = ("slot",)

    def __init__(self, a, b):
        super().__init__(a)
        self.b, self.slot = b, 5

    def __getstate__(self):
        return {"b": self.b}, {"slot": self.slot}


class GetStateRaises(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b

    def __getstate__(self):
        raise RuntimeError("no state")


class SetStateRaises(OwnState):
    def __setstate__(self, state):
        raise RuntimeError("no state")


class BrokenReduce(Exception):
    def __reduce__(self):
        raise RuntimeError("no pickle")


class ReducesWrongly(Exception):
    def __init__(self, a, b):
        super().__init__(f"{a}{b}")
        self.a = a

    def __reduce__(self):
        return type(self), self.args  # one too few


class ReducesToAnother(Exception):
    def __reduce__(self):
        return ValueError, ("other",)


def end_the_program():
    raise SystemExit("from a constructor")


class ReducesToTheEnd(Exception):
    def __reduce__(self):
        return end_the_program, ()


class BaseReduces(Exception):
    def __init__(self, a):
        super().__init__(a)

    def __reduce__(self):
        return type(self), (self.args[0],)


class ConstructorBelow(BaseReduces):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


class Registered(Exception):
    def __init__(self, a, b):
        super().__init__(a)
        self.b = b


def make_registered(a, b):
    return Registered(a, b)


copyreg.pickle(Registered, lambda error: (make_registered, (error.args[0], error.b)))


@by_class
def own_reduce():
    raise OwnReduce(1, 2)


@by_class
def own_reduce_with_cause():
    try:
        raise KeyError("k")
    except KeyError as error:
        raise OwnReduce(1, 2) from error


@by_class
def own_reduce_ex():
    raise OwnReduceEx(1)


@case
def own_state():
    raise OwnState(1, [2])


@case
def own_setstate():
    raise OwnSetState(1, [2])


@case
def own_getstate():
    raise OwnGetState(1, [2])


@not_sent
def getstate_that_raises():
    raise GetStateRaises(1, 2)


@not_sent
def setstate_that_raises():
    raise SetStateRaises(1, 2)


@not_sent
def reduce_that_raises():
    raise BrokenReduce(1)


@not_sent
def reduce_of_other_arguments():
    raise ReducesWrongly(1, 2)


@not_sent
def reduce_of_another_type():
    raise ReducesToAnother("mine")


@not_sent
def reduce_that_exits():
    raise ReducesToTheEnd(1)


@case
def constructor_below_reduce():
    raise ConstructorBelow(1, 2)


@by_class
def registered_with_copyreg():
    raise Registered(1, 2)
