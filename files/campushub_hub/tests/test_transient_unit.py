"""Units that are started by the system bus: what is asked for, and what the bus can do to it."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from jeepney import Message, Parser, new_error, new_method_return
from jeepney.fds import FileDescriptor

from campushub_hub.spawners import transient_unit


class Bus(threading.Thread):
    """A stand-in for the system bus and the service manager: greets, and answers one call."""

    def __init__(self, place: Path, refusal: str = "", hangs_up: bool = False) -> None:
        super().__init__(daemon=True)
        self.refusal, self.hangs_up = refusal, hangs_up
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(place))
        self.listener.listen()
        self.called: tuple[Any, ...] = ()

    def run(self) -> None:
        """Serve one connection."""
        connection, _ = self.listener.accept()
        with connection, self.listener:
            greeted = b""
            while b"BEGIN\r\n" not in greeted:
                greeted += (received := connection.recv(4096))
                if not received:
                    return
                if greeted.endswith(b"\r\n") and b"BEGIN\r\n" not in greeted:
                    connection.sendall(b"AGREE_UNIX_FD\r\n" if b"NEGOTIATE" in greeted else b"OK 0123\r\n")
            parser = Parser()
            # The first message waits for no answer, so it may have come already.
            parser.add_data(greeted.partition(b"BEGIN\r\n")[2])
            hello = self.next_message(connection, parser)
            connection.sendall(new_method_return(hello, "s", (":1.5",)).serialise(1))
            call = self.next_message(connection, parser)
            self.called = call.body
            with dict(call.body[2])["StandardOutputFileDescriptor"][1].to_file("wb") as output:
                output.write(b"from the unit\n")
            if self.hangs_up:
                return
            if self.refusal:
                answer = new_error(call, "org.freedesktop.systemd1.UnitExists", "s", (self.refusal,))
            else:
                answer = new_method_return(call, "o", ("/org/freedesktop/systemd1/job/1",))
            connection.sendall(answer.serialise(2))

    @staticmethod
    def next_message(connection: socket.socket, parser: Parser) -> Message:
        """Return a message, with the file descriptors that came with it."""
        while not (message := parser.get_next_message()):
            data, received, _, _ = socket.recv_fds(connection, 65536, 1)
            if not data:
                raise EOFError
            parser.add_data(data, [FileDescriptor(handle) for handle in received])
        return message


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", f"unix:path={tmp_path}/bus")
    monkeypatch.setattr(transient_unit, "SECONDS", 5.0)
    return tmp_path / "bus"


def start(output: int) -> None:
    properties: dict[str, str | list[str]] = {"User": "2001", "Environment": ["A=b", "ТЕОРИЯ=да нет"]}
    transient_unit.start_unit("a-unit.service", ["/bin/look", "/home/anna", ""], output, properties)


def test_the_service_manager_is_asked_for_the_unit(place: Path) -> None:
    bus = Bus(place)
    bus.start()
    reading, writing = os.pipe()
    start(writing)
    bus.join(5)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        assert pipe.read() == "from the unit\n"
    name, mode, properties, others = bus.called
    assert (name, mode, others) == ("a-unit.service", "fail", [])
    assert [(key, value) for key, (_, value) in properties if key != "StandardOutputFileDescriptor"] == [
        ("User", "2001"),
        ("Environment", ["A=b", "ТЕОРИЯ=да нет"]),
        ("ExecStart", [("/bin/look", ["/bin/look", "/home/anna", ""], False)]),
    ]


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ({"refusal": "Unit a-unit.service was already loaded."}, "was already loaded"),
        ({"hangs_up": True}, "reset|closed|Broken"),
    ],
    ids=["refused", "cut off"],
)
def test_what_goes_wrong_is_told(place: Path, behaviour: dict[str, Any], said: str) -> None:
    Bus(place, **behaviour).start()
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
