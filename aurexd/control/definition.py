"""Types of Python ↔ a Varlink interface: its definition is written from them, and calls are judged by them.

So what is published is what is checked. The text is that of https://varlink.org/Interface-Definition, with the types'
own words as its comments. Pure.
"""

from __future__ import annotations

import functools
import inspect
import re
import textwrap
from collections.abc import Iterator, Sequence
from decimal import Decimal
from enum import StrEnum
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import msgspec
from msgspec import Meta, Raw, UnsetType

from aurexd.control.wire import UNREADABLE, read_json
from aurexd.errors import VarlinkError

R_co = TypeVar("R_co", covariant=True)

_WIDTH = 110

_BASE = {bool: "bool", int: "int", float: "float", Decimal: "float", str: "string"}


ABSENT = {NoneType, UnsetType}
"""What says that a field may be missing: Varlink does not tell null from absent."""


class Struct(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Base of what calls and replies consist of."""


class Method(Struct, Generic[R_co], frozen=True, kw_only=True, gc=False):
    """Base of all calls; the type parameter is the reply's."""

    streams: ClassVar[bool] = False
    """Whether there are several replies for who asks for more."""
    changes: ClassVar[bool] = False
    """Whether it changes something, which few may."""
    errors: ClassVar[tuple[type[VarlinkError], ...]] = ()
    """With which it is answered where it cannot be done."""


class Interface:
    """One interface: its name, its methods and its errors."""

    def __init__(
        self,
        name: str,
        doc: str,
        methods: Sequence[type[Method[Any]]],
        errors: Sequence[type[VarlinkError]],
    ) -> None:
        self.name = name
        self.methods = {method.__name__: method for method in methods}
        for method in methods:
            _fields(method)  # a type that cannot be read is found here, not when somebody calls
        self._doc = doc
        self._errors = errors

    @functools.cached_property
    def definition(self) -> str:
        """The text that defines it; a twentieth of the daemon's start, so that it is written when it is asked for."""
        return _Writer(self.name, self._doc, list(self.methods.values()), self._errors).text()


def reply_of(method: type[Method[Any]]) -> type[Struct]:
    """The type of what answers a call."""
    for base in method.__orig_bases__:  # type: ignore[attr-defined]
        if get_origin(base) is Method:
            reply: type[Struct] = get_args(base)[0]
            return reply
    raise TypeError(f"{method.__name__} names no reply: class {method.__name__}(Method[SomeReply])")


def read_parameters(method: type[Method[Any]], parameters: Raw) -> Method[Any]:
    """The call that these parameters make.

    Raises:
        InvalidParameterError: one is unknown, missing, or of another type.

    """
    try:
        given: dict[str, Raw] = read_json(parameters, dict[str, Raw] | None) or {}
    except ValueError:
        raise InvalidParameterError("parameters") from None
    fields = _fields(method)
    for name in given:
        if name not in fields:
            raise InvalidParameterError(name)
    values = {}
    for name, (field, decoder) in fields.items():
        if name in given:
            try:
                values[field.name] = decoder.decode(given[name])
            except UNREADABLE:
                raise InvalidParameterError(name) from None
        elif field.required:
            raise InvalidParameterError(name)
    return method(**values)


@functools.cache
def _fields(
    method: type[Method[Any]],
) -> dict[str, tuple[msgspec.structs.FieldInfo, msgspec.json.Decoder[Any]]]:
    """What a method takes: name on the wire → what there is to know of it, and what reads it."""
    return {
        field.encode_name: (field, msgspec.json.Decoder(field.type))
        for field in msgspec.structs.fields(method)
    }


class InvalidParameterError(VarlinkError):
    """A parameter is unknown, missing, or not what it has to be."""

    name = "org.varlink.service.InvalidParameter"

    def __init__(self, parameter: str) -> None:
        super().__init__(parameter=parameter)


class _Writer:
    """Writes one interface down."""

    def __init__(
        self,
        name: str,
        doc: str,
        methods: Sequence[type[Method[Any]]],
        errors: Sequence[type[VarlinkError]],
    ) -> None:
        self._name = name
        self._doc = doc
        self._methods = methods
        self._errors = errors
        self._named: dict[str, Any] = {}
        """The types that are referred to by name, in the order in which they are met."""

    def text(self) -> str:
        methods = [self._method(method) for method in self._methods]
        errors = [self._error(error) for error in self._errors]
        types: list[str] = []
        while len(types) < len(self._named):  # a type may name others
            types.append(self._type(list(self._named.values())[len(types)]))
        head = f"{_comment(self._doc)}interface {self._name}"
        return "\n\n".join([head, *methods, *types, *errors]) + "\n"

    def _method(self, method: type[Method[Any]]) -> str:
        more = [
            "With `more`, there may be several replies." if method.streams else "",
            "Only for root and the daemon's own user." if method.changes else "",
            f"Errors: {', '.join(word_of(error) for error in method.errors)}." if method.errors else "",
        ]
        doc = "\n\n".join([inspect.cleandoc(method.__doc__ or ""), " ".join(filter(None, more))])
        takes, gives = self._fields(method), self._fields(reply_of(method))
        return f"{_comment(doc)}method {method.__name__}{takes} -> {gives}"

    def _error(self, error: type[VarlinkError]) -> str:
        hints = get_type_hints(error.__init__)
        fields = {n: hint for n, hint in hints.items() if n != "return"}
        lines = [f"  {name}: {self._expression(hint)}" for name, hint in fields.items()]
        body = "(\n" + ",\n".join(lines) + "\n)" if lines else "()"
        return f"{_comment(inspect.cleandoc(error.__doc__ or ''))}error {word_of(error)} {body}"

    def _type(self, kind: Any) -> str:
        doc = inspect.cleandoc(kind.__doc__ or "")
        if issubclass(kind, StrEnum):
            return f"{_comment(doc)}type {kind.__name__} ({', '.join(kind)})"
        return f"{_comment(doc)}type {kind.__name__} {self._fields(kind)}"

    def _fields(self, struct: Any) -> str:
        hints = get_type_hints(struct, include_extras=True)
        lines = []
        for field in msgspec.structs.fields(struct):
            hint = hints[field.name]
            metas = (
                [m for m in get_args(hint)[1:] if isinstance(m, Meta)]
                if get_origin(hint) is Annotated
                else []
            )
            doc = next((meta.description for meta in metas if meta.description), "")
            optional = not field.required and not ABSENT & {*get_args(_bare(hint))}
            text = ("?" if optional else "") + self._expression(hint)
            lines.append(textwrap.indent(_comment(doc), "  ") + f"  {field.encode_name}: {text}")
        return "(\n" + ",\n".join(lines) + "\n)" if lines else "()"

    def _expression(self, hint: Any) -> str:
        kind = _bare(hint)
        origin, arguments = get_origin(kind), get_args(kind)
        if kind in _BASE:
            return _BASE[kind]
        if origin in {Union, UnionType}:
            (inner,) = (argument for argument in arguments if argument not in ABSENT)
            return f"?{self._expression(inner)}"
        if origin is Literal:
            return f"({', '.join(arguments)})"
        if origin in {list, tuple}:
            return f"[]{self._expression(arguments[0])}"
        if origin is dict and arguments[0] is str:
            return f"[string]{self._expression(arguments[1])}"
        if isinstance(kind, type) and issubclass(kind, (msgspec.Struct, StrEnum)):
            self._named.setdefault(kind.__name__, kind)
            return kind.__name__
        raise TypeError(f"Varlink has no type for {hint}")


def word_of(error: type[VarlinkError]) -> str:
    """What an error is called in its own interface."""
    return error.name.rpartition(".")[2]


def _bare(hint: Any) -> Any:
    """A type without what is noted of it; a new name for a type is that type."""
    while True:
        if get_origin(hint) is Annotated:
            hint = get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        else:
            return hint


def _comment(text: str) -> str:
    """Paragraphs as comment lines."""
    return "".join(f"{line}\n" for line in _comment_lines(text.strip()))


def _comment_lines(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(re.split(r"\n{2,}", text) if text else []):
        if number:
            yield "#"
        yield from (f"# {line}" for line in textwrap.wrap(paragraph, _WIDTH, break_on_hyphens=False))
