"""Classes of msgspec: their metaclass takes fields, defaults and options only when a class is made."""

from __future__ import annotations

from typing import Any, NamedTuple

from goproc._isolation import loaded

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


class Field(NamedTuple):
    """A field of a struct.

    Attributes:
        encoded: its name in a message of msgspec.
        default: the keyword arguments of `msgspec.field` for its default; none if the field is required.
    """

    name: str
    encoded: str
    default: dict[str, Any]


class Struct(NamedTuple):
    """The arguments that the statement of a class gave to the metaclass."""

    fields: list[Field]
    options: dict[str, Any]

    @classmethod
    def of(cls, struct: Any) -> Struct:
        import inspect  # three milliseconds of the start of each program

        config = struct.__struct_config__
        options = {name: getattr(config, name) for name in _OPTIONS if hasattr(config, name)}
        own = [field for field in _fields_of(struct) if field.name in vars(struct).get("__annotations__", {})]
        parameters = inspect.Signature.from_callable(struct).parameters if own else {}
        keyword = inspect.Parameter.KEYWORD_ONLY
        options["kw_only"] = any(parameters[field.name].kind is keyword for field in own)
        return cls(own, options)

    def fill(self, namespace: dict[str, Any]) -> None:
        """Put the fields into the body of a class. Their types may refer to the class, so they are set later."""
        make = loaded("msgspec").field
        namespace["__annotations__"] = {field.name: Any for field in self.fields}
        for field in self.fields:
            namespace[field.name] = make(name=field.encoded, **field.default)


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
