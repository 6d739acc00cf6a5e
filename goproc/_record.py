"""Records: named tuples whose classes are made at little cost.

`typing.NamedTuple` compiles each annotation, and the source of a `__new__`: 85 us a class, where this takes 10. Every
process makes some fifty of these classes while the program waits for its first result. A Record has the fields, defaults and methods of a
named tuple; only its annotations stay the texts that they are in the source.
"""

__all__ = ["Record"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as Record
else:
    from _collections import _tuplegetter

    _new = tuple.__new__

    class _Kind(type):
        """The metaclass of records. A class statement with the base Record makes a record; its subclasses are classes."""

        def __new__(meta, name, bases, namespace):
            if bases[0].__bases__ == (tuple,):  # the base is Record
                fields = tuple(namespace.get("__annotations__", ()))
                namespace["_field_defaults"] = {n: namespace.pop(n) for n in fields if n in namespace}
                namespace["_last"] = tuple(namespace["_field_defaults"].values())
                namespace["_fields"] = namespace["__match_args__"] = fields
                for number, field in enumerate(fields):
                    namespace[field] = _tuplegetter(number, f"Field {number} of {name}")
            namespace.setdefault("__slots__", ())
            return type.__new__(meta, name, bases, namespace)

    class Record(tuple, metaclass=_Kind):
        """The base of all records."""

        _fields = ()
        _field_defaults = {}  # noqa: RUF012 (nobody changes it)
        _last = ()  # the defaults: those of the last fields

        def __new__(cls, /, *values, **named):
            missing = len(cls._fields) - len(values)
            if missing or named:
                if named or not 0 < missing <= len(cls._last):
                    values = _complete(cls, values, named)
                else:
                    values += cls._last[-missing:]
            return _new(cls, values)

        @classmethod
        def _make(cls, values):
            return cls(*values)

        def _replace(self, /, **named):
            values = {**self._asdict(), **named}
            return type(self)(**values)

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def __getnewargs__(self):
            return tuple(self)

        def __repr__(self):
            pairs = ", ".join([f"{name}={value!r}" for name, value in self._asdict().items()])
            return f"{type(self).__name__}({pairs})"

    def _complete(cls, values, named):
        """Return the values of all fields, from those given by place and by name and from the defaults."""
        places = cls._fields[: len(values)]
        wrong = [name for name in named if name not in cls._fields or name in places]
        known = {**cls._field_defaults, **dict(zip(places, values, strict=False)), **named}
        missing = [name for name in cls._fields if name not in known]
        if wrong or missing or len(values) > len(cls._fields):
            raise TypeError(
                f"{cls.__name__} has the fields {', '.join(cls._fields)}: "
                f"{len(values)} values and the names {sorted(named)} were given"
            )
        return tuple([known[name] for name in cls._fields])
