"""
Start a transient unit that writes into a pipe, by the interface of the service manager on the system bus.

People wait for it at each start of a server whose home is on a network file system, and systemd-run(1) takes as long
again as the unit: a process, its libraries, and its wait for the unit's end. This speaks as much of D-Bus as that one
call needs, which is documented in org.freedesktop.systemd1(5); its bytes are those of the D-Bus specification.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

BUS = "/run/dbus/system_bus_socket"
# How long the bus and the service manager have to answer; that is before the unit does anything.
SECONDS = 25
MANAGER = ("org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager")
ITSELF = ("org.freedesktop.DBus", "/org/freedesktop/DBus", "org.freedesktop.DBus")
RETURN, ERROR = 2, 3
# Properties are texts, but for these.
SIGNATURES = {"Environment": "as", "StandardOutputFileDescriptor": "h", "ExecStart": "a(sasb)"}


class Text:
    """Values as D-Bus writes them, one after the other."""

    def __init__(self) -> None:
        self.written = bytearray()

    def align(self, size: int) -> None:
        """Fill up to a multiple of a size."""
        self.written += bytes(-len(self.written) % size)

    def number(self, value: int) -> None:
        """Write 32 bits, which also stand for true, false and the place of a file descriptor."""
        self.align(4)
        self.written += struct.pack("<I", value)

    def string(self, value: str) -> None:
        """Write a text."""
        encoded = value.encode()
        self.number(len(encoded))
        self.written += encoded + b"\0"

    def signature(self, value: str) -> None:
        """Write what says of which types values are."""
        self.written += struct.pack("B", len(value)) + value.encode() + b"\0"

    def array(self, values: Sequence[Callable[[], None]], alignment: int = 4) -> None:
        """Write what writes the elements of a list."""
        self.number(0)
        place = len(self.written) - 4
        self.align(alignment)
        begin = len(self.written)
        for write in values:
            self.align(alignment)
            write()
        struct.pack_into("<I", self.written, place, len(self.written) - begin)

    def strings(self, values: Sequence[str]) -> None:
        """Write a list of texts."""
        self.array([partial(self.string, value) for value in values])

    def variant(self, signature: str, value: Any) -> None:
        """Write a value with its type."""
        self.signature(signature)
        if signature == "as":
            self.strings(value)
        elif signature == "a(sasb)":
            self.array([partial(self.command, value)], 8)
        elif signature in ("s", "o"):
            self.string(value)
        elif signature == "g":
            self.signature(value)
        else:
            self.number(value)

    def command(self, words: Sequence[str]) -> None:
        """Write the program of a unit, its arguments, and that its failure is one."""
        self.string(words[0])
        self.strings(words)
        self.number(0)

    def property(self, name: str, value: Any) -> None:
        """Write a property of a unit."""
        self.string(name)
        self.variant(SIGNATURES.get(name, "s"), value)


def call(serial: int, place: tuple[str, str, str], member: str, signature: str = "", body: bytes = b"") -> bytes:
    """Return the message that calls a method; one with a body has one file descriptor."""
    head = Text()
    fields: list[tuple[int, str, Any]] = [(1, "o", place[1]), (2, "s", place[2]), (3, "s", member), (6, "s", place[0])]
    fields += [(8, "g", signature), (9, "u", 1)] if body else []

    def write(code: int, kind: str, value: Any) -> None:
        head.written.append(code)
        head.variant(kind, value)

    head.written += struct.pack("<BBBBII", ord("l"), 1, 0, 1, len(body), serial)
    head.array([partial(write, *field) for field in fields], 8)
    head.align(8)
    return bytes(head.written) + body


class Bus:
    """A connection to the system bus."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection, self._read = connection, b""
        connection.settimeout(SECONDS)
        connection.connect(BUS)
        connection.sendall(f"\0AUTH EXTERNAL {str(os.getuid()).encode().hex()}\r\nNEGOTIATE_UNIX_FD\r\n".encode())
        while self._read.count(b"\r\n") < 2:
            self._receive()
        if not (self._read.startswith(b"OK ") and b"\r\nAGREE_UNIX_FD\r\n" in self._read):
            raise OSError(f"the system bus says {self._read!r}")
        self._read = b""
        connection.sendall(b"BEGIN\r\n" + call(1, ITSELF, "Hello"))
        self.answer()

    def _receive(self) -> None:
        received = self._connection.recv(65536)
        if not received:
            raise ConnectionResetError("the system bus has closed the connection")
        self._read += received

    def _message(self) -> tuple[int, bytes]:
        while len(self._read) < 16:
            self._receive()
        # The bus passes messages on in the order of bytes that their sender has.
        order = "<" if self._read[:1] == b"l" else ">"
        body, _, fields = struct.unpack_from(f"{order}III", self._read, 4)
        size = 16 + fields + -fields % 8 + body
        while len(self._read) < size:
            self._receive()
        message, self._read = self._read[:size], self._read[size:]
        return message[1], message[size - body :]

    def answer(self) -> None:
        """Wait for the answer to the last call. Raises OSError with what the other side says."""
        kind = 0
        # Signals come in between.
        while kind not in (RETURN, ERROR):
            kind, body = self._message()
        if kind == ERROR:
            # Its text, with the length in front and a zero behind.
            raise OSError(body[4:].rstrip(b"\0").decode(errors="replace"))

    def send(self, message: bytes, descriptor: int) -> None:
        """Send a call with a file descriptor."""
        sent = socket.send_fds(self._connection, [message], [descriptor])
        if sent < len(message):
            self._connection.sendall(message[sent:])


def start_unit(name: str, command: Sequence[str], output: int, properties: Mapping[str, Any]) -> None:
    """
    Start a unit whose standard output is a file descriptor, and wait until the service manager has begun.

    Raises OSError, also if the service manager does not want it.
    """
    body = Text()
    whole = {**properties, "StandardOutputFileDescriptor": 0, "ExecStart": command}
    body.string(name)
    body.string("fail")
    body.array([partial(body.property, *item) for item in whole.items()], 8)
    # No other units.
    body.array([], 8)
    with socket.socket(socket.AF_UNIX) as connection:
        bus = Bus(connection)
        message = call(2, MANAGER, "StartTransientUnit", "ssa(sv)a(sa(sv))", bytes(body.written))
        bus.send(message, output)
        bus.answer()
