"""Generic models of pydantic: `Model[int]` is a class, which pydantic keeps by its origin and arguments.

Such a class travels as these. So it is the class that `Model[int]` gives in the process where it arrives.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def origin_of(cls: Any) -> Any:
    """Return the generic model of which `cls` is a parametrization; None if `cls` is no such class."""
    known = vars(cls).get("__pydantic_generic_metadata__")
    return known.get("origin") if type(known) is dict else None


def reduce_model(cls: Any) -> Any:
    """Reduce a parametrization; None for any other class, or if pydantic no longer knows this one."""
    origin = origin_of(cls)
    if origin is None:
        return None
    args = cls.__pydantic_generic_metadata__["args"]
    try:
        found = _parametrize(origin, args)
    except Exception:  # the model's own __class_getitem__ may raise anything
        return None
    return (_parametrize, (origin, args)) if found is cls else None


def _parametrize(origin: Any, args: tuple[Any, ...]) -> Any:
    return origin[args if len(args) > 1 else args[0]]
