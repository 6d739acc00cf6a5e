"""Classes of msgspec and their instances.

The metaclass takes fields, defaults, options and `__post_init__` only when a class is made. Every way to make an
instance runs `__post_init__`, except a copy of another instance.
"""

from __future__ import annotations

import copy
import gc
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

from goproc._isolation import loaded
from goproc._pickling import making, pickler
from goproc._pickling.passing import Passing
from goproc._record import Record

_OPTIONS = (
    "array_like",
    "cache_hash",
    "dict",
    "eq",
    "forbid_unknown_fields",
    "frozen",
    "gc",
    "omit_defaults",
    "order",
    "repr_omit_defaults",
    "tag",
    "tag_field",
    "weakref",
)


class Field(Record):
    """A field of a struct.

    Attributes:
        encoded: its name in a message of msgspec.
        default: the keyword arguments of `msgspec.field` for its default; none if the field is required.
    """

    name: str
    encoded: str
    default: dict[str, Any]


class Struct(Record):
    """The arguments that the statement of a class gave to the metaclass.

    Attributes:
        post_init: True if the class has a `__post_init__` of its own.
    """

    fields: list[Field]
    options: dict[str, Any]
    post_init: bool

    @classmethod
    def of(cls, struct: Any) -> Struct:
        import inspect  # three milliseconds of the start of each program

        config = struct.__struct_config__
        options = {name: getattr(config, name) for name in _OPTIONS if hasattr(config, name)}
        own = [field for field in _fields_of(struct) if field.name in vars(struct).get("__annotations__", {})]
        parameters = inspect.Signature.from_callable(struct).parameters if own else {}
        keyword = inspect.Parameter.KEYWORD_ONLY
        options["kw_only"] = any(parameters[field.name].kind is keyword for field in own)
        return cls(own, options, "__post_init__" in vars(struct))

    def fill(self, namespace: dict[str, Any]) -> None:
        """Put the fields into the body of a class. Their types may refer to the class, so they are set later."""
        make = loaded("msgspec").field
        namespace["__annotations__"] = {field.name: Any for field in self.fields}
        for field in self.fields:
            namespace[field.name] = make(name=field.encoded, **field.default)
        if self.post_init:
            namespace["__post_init__"] = _post_init


def _post_init(self: Any) -> None:
    """Call the `__post_init__` that the class has now. It gets its attributes after it was made."""
    current = type(self).__post_init__
    if current is not _post_init:
        current(self)


def is_struct(cls: Any) -> bool:
    """Return True for a class made by msgspec's metaclass."""
    return hasattr(cls, "__struct_config__") and any(
        base.__module__.partition(".")[0] == "msgspec" for base in type(cls).__mro__
    )


def _fields_of(struct: Any) -> list[Field]:
    none = loaded("msgspec").NODEFAULT
    names, values = struct.__struct_fields__, struct.__struct_defaults__
    defaults = (*[none] * (len(names) - len(values)), *values)
    return [
        Field(name, encoded, _keywords(default, none))
        for name, encoded, default in zip(names, struct.__struct_encode_fields__, defaults, strict=True)
    ]


def _keywords(default: Any, none: Any) -> dict[str, Any]:
    if default is none:
        return {}
    if type(default).__name__ == "Factory":
        return {"default_factory": default.factory}
    return {"default": default}


# -- instances -----------------------------------------------------------------------------------------------

_CODECS = frozenset(
    (f"msgspec.{form}", name) for form in ("json", "msgpack") for name in ("Encoder", "Decoder")
)

_blanks: dict[type, Any] = {}  # an instance of each class, to be copied
_classes = Passing()  # those in `_blanks`


def reducer_of(kind: Any) -> pickler.Reducer | None:
    """Return the reducer for the instances of a struct, or for encoders and decoders; None for any other class."""
    if (kind.__module__, kind.__name__) in _CODECS:
        return _reduce_codec
    if not is_struct(kind):
        return None
    own = loaded("msgspec").Struct.__reduce__
    if kind.__reduce__ is not own or kind.__reduce_ex__ is not object.__reduce_ex__:
        return None
    return _reduce if hasattr(kind, "__post_init__") or kind.__struct_config__.dict else None


def _reduce_codec(_: pickler.Pickler, codec: Any) -> Any:
    """Reduce an encoder or a decoder by its options."""
    kind = type(codec)
    kinds = MemberDescriptorType, GetSetDescriptorType
    options = [name for name, value in vars(kind).items() if type(value) in kinds and name[0] != "_"]
    return _new_codec, (kind, {name: getattr(codec, name) for name in options})


def _new_codec(kind: Any, options: dict[str, Any]) -> Any:
    return kind(**options)


def _reduce(_: pickler.Pickler, obj: Any) -> Any:
    """Reduce a struct by its fields and attributes, so that its `__post_init__` does not run again."""
    fields = {name: getattr(obj, name) for name in obj.__struct_fields__ if hasattr(obj, name)}
    return _new, (type(obj),), (fields, getattr(obj, "__dict__", None)), None, None, _fill


def _new(cls: Any) -> Any:
    blank = _blanks.get(cls)
    if blank is None:
        blank = _blanks[cls] = _new_blank(cls)
        for passed in _classes.add(cls):
            _blanks.pop(passed, None)
    return copy.copy(blank)


def _new_blank(cls: Any) -> Any:
    """Make an instance by a subclass whose `__post_init__` does nothing."""
    namespace = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__post_init__": _do_nothing}
    subclass: Any = making.make_class(type(cls), cls.__name__, (cls,), namespace)
    # The collector follows an instance whose fields are containers, and so its copies.
    blank = subclass(**{name: [] for name in cls.__struct_fields__})
    object.__dict__["__class__"].__set__(blank, cls)
    del subclass
    gc.collect(0)  # before the program sees the subclass in `cls.__subclasses__()`
    return blank


def _do_nothing(self: Any) -> None:
    pass


def _fill(obj: Any, state: tuple[dict[str, Any], dict[str, Any] | None]) -> None:
    fields, attributes = state
    set_field = loaded("msgspec").structs.force_setattr
    for name, value in fields.items():
        set_field(obj, name, value)
    if attributes:
        obj.__dict__.update(attributes)
