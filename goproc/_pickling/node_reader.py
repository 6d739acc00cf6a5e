"""Makes the exceptions that `nodes` has pickled."""

from __future__ import annotations

import pickle

from goproc._pickling import exceptions
from goproc._pickling.exceptions import State, dict_of, quietly
from goproc._pickling.nodes import Facts, Node, NodeUnpickler, Remains
from goproc.errors import RemoteError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Broken(Exception):
    """Raised if a node cannot be made here."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def load(blob: bytes, *handles: Any, facts: dict[int, Facts]) -> list[BaseException]:
    """Return the exceptions of a pickle made by `Nodes`, linked.

    Args:
        blob: the pickle.
        handles: the channels and their kin that it refers to.
        facts: by number, the known facts about some of them. The facts in the pickle about the others are added.

    An exception that this process cannot make, because only the sender can import a module, is a `RemoteError`.
    """
    records = pickle.loads(blob)
    if isinstance(records, BaseException):
        return [records]
    nodes = [Node(*record) for record in records]
    facts.update({number: Facts(*node.facts) for number, node in enumerate(nodes) if node.facts is not None})
    broken: set[int] = set()
    while True:
        try:
            return _Reader(nodes, handles, facts, broken).read()
        except _Broken as error:
            broken.add(error.number)  # other exceptions may hold it already: all are made anew


class _Reader:
    """Makes the exceptions of one failure.

    First they are all made, then they get their state, since that may have cycles.
    """

    def __init__(
        self, nodes: list[Node], handles: tuple[Any, ...], facts: dict[int, Facts], broken: set[int]
    ) -> None:
        self._nodes = nodes
        self._handles = handles
        self._facts = facts
        self._broken = broken
        self._made: dict[int, BaseException] = {}
        self._making: set[int] = set()
        self._whole: set[int] = set()  # the exceptions that need no state, or are about to get it

    def read(self) -> list[BaseException]:
        found = [self._get(number) for number in range(len(self._nodes))]
        for exc, node in zip(found, self._nodes, strict=True):
            exceptions.link(
                exc,
                None if node.cause is None else found[node.cause],
                None if node.context is None else found[node.context],
                node.suppress,
            )
        return found

    def _get(self, number: int) -> BaseException:
        exc = self._make(number)
        if number not in self._whole:
            self._whole.add(number)
            if not any(self._fill(exc, state) for state in self._nodes[number].states or ()):
                raise _Broken(number)
        return exc

    def _fill(self, exc: BaseException, state: bytes) -> bool:
        """Give an exception a state. Return False if that fails."""
        try:
            exceptions.fill(exc, State(*self._load(state)))
        except (_Broken, KeyboardInterrupt):
            raise
        except BaseException:  # a __setstate__ may raise anything
            return False
        return True

    def _make(self, number: int) -> BaseException:
        exc = self._made.get(number)
        if exc is None:
            if number in self._making:
                raise pickle.UnpicklingError("an exception that is made from itself")
            self._making.add(number)
            try:
                exc = self._made[number] = self._new(number, self._nodes[number])
            except (_Broken, KeyboardInterrupt):
                raise
            except BaseException:  # a constructor may raise anything
                raise _Broken(number) from None
            finally:
                self._making.discard(number)
        return exc

    def _new(self, number: int, node: Node) -> BaseException:
        if node.plain is not None:
            self._whole.add(number)
            return node.plain
        if node.remains is not None or number in self._broken:
            self._whole.add(number)
            return self._stand_in(number, node)
        if node.own is not None:
            exc = self._by_class(number, node)
            if exc is not None:
                return exc
        cls = pickle.loads(node.kind)
        if node.members is not None:
            return exceptions.make_group(cls, node.message, [self._make(member) for member in node.members])
        return exceptions.make(cls, None if node.call is None else quietly(self._load, node.call))

    def _by_class(self, number: int, node: Node) -> BaseException | None:
        """Return the object that the class's pickle makes; None if that fails and there is another way."""
        exc = quietly(self._load, node.own)
        if not isinstance(exc, BaseException):
            return None
        if node.states and type(exc) is not pickle.loads(node.kind):
            return None
        self._whole.add(number)
        dict_of(exc).pop("__notes__", None)
        if node.notes:
            dict_of(exc)["__notes__"] = list(node.notes)
        return exc

    def _load(self, blob: bytes) -> Any:
        return NodeUnpickler(blob, self._get, self._handles.__getitem__).load()

    def _stand_in(self, number: int, node: Node) -> BaseException:
        facts = self._facts[number]
        remains = Remains(*node.remains) if node.remains is not None else Remains("", (), {})
        arguments = tuple([None if blob is None else self._lenient(blob) for blob in remains.args])
        attributes = {name: self._lenient(blob) for name, blob in remains.attributes.items()}
        if node.members is None:
            return RemoteError(*facts, remains.reason, arguments, attributes, remains.kinds)
        group = BaseExceptionGroup(node.message, [self._make(member) for member in node.members])
        dict_of(group).update(attributes)
        if remains.reason:
            group.add_note(f"This was a {facts.name}: {remains.reason}")
        return group

    def _lenient(self, blob: bytes) -> Any:
        return quietly(self._load, blob)
