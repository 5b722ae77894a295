"""
Start a transient unit that writes into a pipe, by the interface of the service manager on the system bus.

People wait for it at each start of a server whose home is on a network file system, and systemd-run(1) takes as long
again as the unit: a process, its libraries, and its wait for the unit's end. The call is documented in
org.freedesktop.systemd1(5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jeepney import DBusAddress, MessageType, new_method_call
from jeepney.auth import AuthenticationError
from jeepney.io.blocking import open_dbus_connection

# How long the bus and the service manager have to answer; that is before the unit does anything.
SECONDS = 25.0
MANAGER = DBusAddress(
    "/org/freedesktop/systemd1", bus_name="org.freedesktop.systemd1", interface="org.freedesktop.systemd1.Manager"
)


def start_unit(
    name: str, command: Sequence[str], output: int, properties: Mapping[str, str | int | Sequence[str]]
) -> None:
    """
    Start a unit whose standard output is a file descriptor, and wait until the service manager has begun.

    Raises OSError, also if the service manager does not want it.
    """
    typed: list[tuple[str, tuple[str, Any]]] = [
        (key, ({str: "s", int: "t"}.get(type(value), "as"), value)) for key, value in properties.items()
    ]
    typed.append(("StandardOutputFileDescriptor", ("h", output)))
    # The program, its arguments, and that its failure is one.
    typed.append(("ExecStart", ("a(sasb)", [(command[0], list(command), False)])))
    # No other units.
    call = new_method_call(MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", (name, "fail", typed, []))
    try:
        with open_dbus_connection("SYSTEM", enable_fds=True, auth_timeout=SECONDS) as bus:
            answer = bus.send_and_get_reply(call, timeout=SECONDS)
    except AuthenticationError as error:
        raise PermissionError(f"the system bus says {error}") from error
    if answer.header.message_type is MessageType.error:
        raise OSError(str(answer.body[0] if answer.body else "the service manager does not say why"))
