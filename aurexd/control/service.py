"""What a service of Varlink is beside its interfaces: it says which it has, and finds the method that is called. Pure.

`org.varlink.service` is the interface of that; see https://varlink.org/Service.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from msgspec import Meta

from aurexd import __version__
from aurexd.control.definition import Interface, InvalidParameterError, Method, Struct, read_parameters
from aurexd.control.wire import read_call
from aurexd.errors import VarlinkError

NAME = "org.varlink.service"


class InterfaceNotFoundError(VarlinkError):
    """The service has no such interface."""

    name = f"{NAME}.InterfaceNotFound"

    def __init__(self, interface: str) -> None:
        super().__init__(interface=interface)


class MethodNotFoundError(VarlinkError):
    """The interface has no such method."""

    name = f"{NAME}.MethodNotFound"

    def __init__(self, method: str) -> None:
        super().__init__(method=method)


class Info(Struct, frozen=True, kw_only=True, gc=False):
    """The service."""

    vendor: Annotated[str, Meta(description="Who makes it.")]
    product: Annotated[str, Meta(description="What it is.")]
    version: Annotated[str, Meta(description="Which of them.")]
    url: Annotated[str, Meta(description="Where more is said; may be empty.")]
    interfaces: Annotated[list[str], Meta(description="Those it has.")]


class Description(Struct, frozen=True, kw_only=True, gc=False):
    """An interface."""

    description: Annotated[str, Meta(description="In Varlink's own language.")]


class GetInfo(Method[Info], frozen=True, kw_only=True, gc=False):
    """What are you?"""


class GetInterfaceDescription(Method[Description], frozen=True, kw_only=True, gc=False):
    """What does the interface have?"""

    interface: Annotated[str, Meta(description="Its name.")]

    errors = (InterfaceNotFoundError,)


ERRORS = (InterfaceNotFoundError, MethodNotFoundError, InvalidParameterError)

SERVICE = Interface(NAME, "What every service of Varlink has.", (GetInfo, GetInterfaceDescription), ERRORS)


class Call(NamedTuple):
    """One call, read and judged."""

    method: Method[Any]
    more: bool
    """The caller takes several replies."""


class Service:
    """The interfaces that there are, that one included."""

    def __init__(self, *interfaces: Interface) -> None:
        self._interfaces = {interface.name: interface for interface in (SERVICE, *interfaces)}

    def read(self, message: bytes) -> Incoming:
        """What a message calls.

        Raises:
            ValueError: it is no call; whoever sends that knows nothing of Varlink.

        """
        call = read_call(message)
        if call.upgrade:
            return Incoming(InvalidParameterError("upgrade"), oneway=bool(call.oneway))
        interface, _, name = call.method.rpartition(".")
        try:
            known = self._interfaces.get(interface)
            if known is None:
                raise InterfaceNotFoundError(interface)
            method = known.methods.get(name)
            if method is None:
                raise MethodNotFoundError(call.method)
            asked = Call(read_parameters(method, call.parameters), bool(call.more))
        except VarlinkError as error:
            return Incoming(error, oneway=bool(call.oneway))
        return Incoming(asked, oneway=bool(call.oneway))

    def info(self) -> Info:
        """What the service says of itself."""
        return Info(
            vendor="aurexd",
            product="aurexd",
            version=__version__,
            url="",
            interfaces=list(self._interfaces),
        )

    def describe(self, asked: GetInterfaceDescription) -> Description:
        """The text that defines an interface.

        Raises:
            InterfaceNotFoundError: there is no such interface.

        """
        interface = self._interfaces.get(asked.interface)
        if interface is None:
            raise InterfaceNotFoundError(asked.interface)
        return Description(description=interface.definition)


class Incoming(NamedTuple):
    """What came: a call that can be answered, or the error that is its answer."""

    asked: Call | VarlinkError
    oneway: bool
    """Nobody wants to know."""
