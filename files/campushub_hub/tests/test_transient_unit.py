"""Units that are started by the system bus: what is asked for, word by word, and what the bus can do to it."""

from __future__ import annotations

import os
import socket
import struct
import threading
from pathlib import Path
from typing import Any

import pytest

from campushub_hub.spawners import transient_unit

SIZES = {"y": 1, "g": 1, "(": 8, "{": 8}


class Reader:
    """Reads values that D-Bus has written, by the specification; a stand-in for its library."""

    def __init__(self, written: bytes) -> None:
        self.written, self.place = written, 0

    def align(self, kind: str) -> None:
        size = 1 if kind == "v" else SIZES.get(kind, 4)
        padding = -self.place % size
        assert not any(self.written[self.place : self.place + padding])
        self.place += padding

    def take(self, size: int) -> bytes:
        self.place += size
        return self.written[self.place - size : self.place]

    def number(self, size: int = 4) -> int:
        return int.from_bytes(self.take(size), "little")

    def text(self, size: int = 4) -> str:
        found = self.take(self.number(size)).decode()
        assert self.take(1) == b"\0"
        return found

    def value(self, signature: str) -> tuple[Any, str]:
        """Return the first value of a signature, and the rest of that."""
        kind, rest = signature[0], signature[1:]
        self.align(kind)
        if kind == "a":
            end, found = self.number() + self.place, []
            # The space in front of the first element is not counted.
            before = self.place
            self.align(rest[0])
            end += self.place - before
            while self.place < end:
                element, _ = self.value(rest)
                found.append(element)
            assert self.place == end
            return found, self.skip(rest)
        if kind == "(":
            items: list[Any] = []
            while rest[0] != ")":
                item, rest = self.value(rest)
                items.append(item)
            return tuple(items), rest[1:]
        if kind == "v":
            return self.value(self.text(1))[0], rest
        if kind == "g":
            return self.text(1), rest
        return (self.text() if kind in "so" else self.number(SIZES.get(kind, 4))), rest

    @staticmethod
    def skip(signature: str) -> str:
        """Return what comes after the first type of a signature."""
        depth = 0
        for number, letter in enumerate(signature):
            depth += (letter == "(") - (letter == ")")
            if depth == 0 and letter != "a":
                return signature[number + 1 :]
        return ""

    def all(self, signature: str) -> list[Any]:
        """Return all values of a signature."""
        found = []
        while signature:
            value, signature = self.value(signature)
            found.append(value)
        assert self.place == len(self.written)
        return found


def message(kind: int, body: str = "") -> bytes:
    """Return an answer or a signal, whose header has one field that nobody reads."""
    text = struct.pack("<I", len(body)) + body.encode() + b"\0" if body else b""
    fields = b"\5\1u\0" + struct.pack("<I", 2)
    return struct.pack("<BBBBIII", ord("l"), kind, 0, 1, len(text), 7, len(fields)) + fields + text


class Bus(threading.Thread):
    """A stand-in for the system bus and the service manager: greets, takes one call and answers it in these parts."""

    def __init__(self, place: Path, *answers: bytes, welcome: bytes = b"OK 0123\r\nAGREE_UNIX_FD\r\n") -> None:
        super().__init__(daemon=True)
        self.answers, self.welcome = answers, welcome
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(place))
        self.listener.listen()
        self.called: bytes = b""

    def run(self) -> None:
        """Serve one connection."""
        connection, _ = self.listener.accept()
        with connection, self.listener:
            greeting = connection.recv(4096)
            assert greeting == f"\0AUTH EXTERNAL {str(os.getuid()).encode().hex()}\r\nNEGOTIATE_UNIX_FD\r\n".encode()
            connection.sendall(self.welcome)
            if not connection.recv(4096):
                return
            # An answer and a signal at once, as the bus sends them.
            connection.sendall(message(2, ":1.5") + message(4, ":1.5"))
            self.called, handles, _, _ = socket.recv_fds(connection, 65536, 1)
            for handle in handles:
                os.write(handle, b"from the unit\n")
                os.close(handle)
            for part in self.answers:
                connection.sendall(part)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(transient_unit, "BUS", str(tmp_path / "bus"))
    monkeypatch.setattr(transient_unit, "SECONDS", 5)
    return tmp_path / "bus"


def start(output: int, *command: str) -> None:
    properties = {"User": "2001", "Environment": ["A=b", "ТЕОРИЯ=да нет"]}
    transient_unit.start_unit("a-unit.service", command or ("/bin/look", "/home/anna", ""), output, properties)


def test_the_service_manager_is_asked_for_the_unit(place: Path) -> None:
    done = message(2, "/org/freedesktop/systemd1/job/1")
    # Among signals, and in pieces.
    bus = Bus(place, message(4, "noise"), done[:5], done[5:20], done[20:])
    bus.start()
    reading, writing = os.pipe()
    start(writing)
    bus.join(5)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "from the unit\n"
    fields, size = struct.unpack_from("<I", bus.called, 12)[0], struct.unpack_from("<I", bus.called, 4)[0]
    assert (bus.called[:4], len(bus.called)) == (b"l\1\0\1", 16 + fields + -fields % 8 + size)
    header = Reader(bus.called[12 : 16 + fields])
    # The list begins at a multiple of 8 in the message, so 4 bytes before it count here.
    header.written = b"\0" * 12 + header.written
    header.place = 12
    assert dict(header.value("a(yv)")[0]) == {
        1: "/org/freedesktop/systemd1",
        2: "org.freedesktop.systemd1.Manager",
        3: "StartTransientUnit",
        6: "org.freedesktop.systemd1",
        8: "ssa(sv)a(sa(sv))",
        9: 1,
    }
    assert Reader(bus.called[-size:]).all("ssa(sv)a(sa(sv))") == [
        "a-unit.service",
        "fail",
        [
            ("User", "2001"),
            ("Environment", ["A=b", "ТЕОРИЯ=да нет"]),
            ("StandardOutputFileDescriptor", 0),
            ("ExecStart", [("/bin/look", ["/bin/look", "/home/anna", ""], 0)]),
        ],
        [],
    ]


@pytest.mark.parametrize("letters", range(17))
def test_lists_begin_where_they_should(place: Path, letters: int) -> None:
    """Whatever comes before them has any length."""
    bus = Bus(place, message(2))
    bus.start()
    with Path(os.devnull).open("wb") as nothing:
        start(nothing.fileno(), "/" + "x" * letters, "y" * (letters // 2))
    bus.join(5)
    body = bus.called[-struct.unpack_from("<I", bus.called, 4)[0] :]
    command = Reader(body).all("ssa(sv)a(sa(sv))")[2][-1][1]
    assert command == [("/" + "x" * letters, ["/" + "x" * letters, "y" * (letters // 2)], 0)]


@pytest.mark.parametrize(
    ("answers", "welcome", "said"),
    [
        ([message(3, "Unit a-unit.service was already loaded.")], b"OK 0\r\nAGREE_UNIX_FD\r\n", "was already loaded"),
        ([message(2)[:9]], b"OK 0\r\nAGREE_UNIX_FD\r\n", "has closed the connection"),
        ([], b"OK 0\r\nERROR\r\n", "the system bus says"),
        ([], b"REJECTED EXTERNAL\r\nERROR\r\n", "the system bus says"),
    ],
    ids=["refused", "cut off", "no descriptors", "not let in"],
)
def test_what_goes_wrong_is_told(place: Path, answers: list[bytes], welcome: bytes, said: str) -> None:
    bus = Bus(place, *answers, welcome=welcome)
    bus.start()
    with Path(os.devnull).open("wb") as nothing, pytest.raises(OSError, match=said):
        start(nothing.fileno())


def test_no_bus_and_a_silent_one_are_told(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transient_unit, "SECONDS", 0.2)
    with Path(os.devnull).open("wb") as nothing:
        with pytest.raises(FileNotFoundError):
            start(nothing.fileno())
        with socket.socket(socket.AF_UNIX) as silent:
            silent.bind(str(place))
            silent.listen()
            with pytest.raises(TimeoutError):
                start(nothing.fileno())
