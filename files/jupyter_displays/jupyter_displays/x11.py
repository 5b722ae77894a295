"""The few things that the manager asks of an X server, with the display's own authority file.

They are a dozen requests of the core protocol and its extensions RANDR and XTEST, written as they go over
the socket: no library is needed, which would end the process when an X server goes away, or wait indefinitely
for one that hangs. Every function blocks, for `_TIMEOUT` at most: call it in a thread.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import time
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self

_COOKIE = b"MIT-MAGIC-COOKIE-1"
_TIMEOUT = 10.0
# How long programs get to see a changed keyboard, and to read the keys that were typed with it.
_SETTLE = 0.06
_KEY_PRESS, _KEY_RELEASE = 2, 3
_SELECTION_NOTIFY, _PROPERTY_NOTIFY = 31, 28
# What programs copy, by X's name and by that of MIME, the best first.
_COPIED = {
    b"UTF8_STRING": "text/plain",
    b"text/plain;charset=utf-8": "text/plain",
    b"STRING": "text/plain",
    b"image/png": "image/png",
}
# Points in either direction.
_LEAST_TO_SEE = 16
# What may have the focus in place of a window.
_NOBODY, _UNDER_POINTER = 0, 1


class XError(Exception):
    """The X server is not there, or does not do what it was asked."""


class TooLongError(XError):
    """There is more of it than somebody wants."""


def write_authority(path: Path) -> None:
    """Make an X authority file with a new cookie, for any host name and display number."""

    def counted(value: bytes) -> bytes:
        return struct.pack(">H", len(value)) + value

    entry = struct.pack(">H", 0xFFFF) + counted(b"") + counted(b"") + counted(_COOKIE)
    path.touch(mode=0o600)
    path.write_bytes(entry + counted(secrets.token_bytes(16)))


def _user_of_peer(connected: socket.socket) -> int:
    """Return the UID of the process that listens at the other end, as the kernel has noted it."""
    ucred = struct.Struct("iII")
    credentials = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ucred.size)
    return int(ucred.unpack(credentials)[1])


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


class Connection:
    """A connection to an X server."""

    def __init__(self, number: int, authority: Path) -> None:
        """Connect, with the cookie of an authority file.

        In a directory that users share another one may listen there: the cookie is for this user's X server alone.

        Raises:
            XError: It is not there, is another user's, or refuses.
        """
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(_TIMEOUT)
        self._extensions: dict[bytes, int] = {}
        try:
            self._socket.connect(f"/tmp/.X11-unix/X{number}")  # noqa: S108
            if _user_of_peer(self._socket) != os.getuid():
                message = "another user listens there"
                raise XError(message)  # noqa: TRY301
            cookie = authority.read_bytes()[-16:]
            self._socket.sendall(
                struct.pack("<cxHHHHxx", b"l", 11, 0, len(_COOKIE), len(cookie)) + _padded(_COOKIE) + cookie
            )
            granted, units = struct.unpack("<B5xH", self._read(8))
            setup = self._read(4 * units)
        except (OSError, XError) as error:
            self._socket.close()
            message = f"X display :{number} cannot be reached: {error}"
            raise XError(message) from error
        if granted != 1:
            self._socket.close()
            message = f"X display :{number} refuses the authority file"
            raise XError(message)
        vendor, formats = struct.unpack_from("<H3xB", setup, 16)
        screen = 32 + len(_padded(bytes(vendor))) + 8 * formats
        # The first number that this connection may give to something of its own.
        self.own: int = struct.unpack_from("<I", setup, 4)[0]
        self.root: int
        (self.root, self.width, self.height) = struct.unpack_from("<I16xHH", setup, screen)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                more = self._socket.recv(size - len(data))
            except OSError as error:
                message = "the X server does not answer"
                raise XError(message) from error
            if not more:
                message = "the X server has closed the connection"
                raise XError(message)
            data += more
        return bytes(data)

    def send(self, opcode: int, detail: int, body: bytes = b"") -> None:
        """Send a request."""
        body = _padded(body)
        try:
            self._socket.sendall(struct.pack("<BBH", opcode, detail, 1 + len(body) // 4) + body)
        except OSError as error:
            message = "the X server does not listen"
            raise XError(message) from error

    def _next(self) -> bytes:
        """Return what the server says next: a reply or an event."""
        data = self._read(32)
        if data[0] == 0:
            message = f"X error {data[1]} for request {data[10]}.{data[8]}"
            raise XError(message)
        if data[0] in {1, 35}:
            data += self._read(4 * int(struct.unpack_from("<I", data, 4)[0]))
        return data

    def reply(self) -> bytes:
        """Return the next reply."""
        while (data := self._next())[0] != 1:
            pass
        return data

    def event(self, code: int) -> bytes:
        """Return the next event of a kind, also one that a program has sent."""
        while (data := self._next())[0] & 0x7F != code:
            pass
        return data

    def atom(self, name: bytes) -> int:
        """Return the number by which the server knows a name."""
        self.send(16, 0, struct.pack("<Hxx", len(name)) + name)
        return int(struct.unpack_from("<I", self.reply(), 8)[0])

    def check(self) -> None:
        """Wait until everything that was sent is done, without an error."""
        self.send(43, 0)
        self.reply()

    def extension(self, name: bytes) -> int:
        """Return the number by which requests of an extension begin."""
        if name not in self._extensions:
            self.send(98, 0, struct.pack("<Hxx", len(name)) + name)
            present, opcode = struct.unpack_from("<BB", self.reply(), 8)
            if not present:
                message = f"the X server has no {name.decode()}"
                raise XError(message)
            self._extensions[name] = opcode
        return self._extensions[name]


def set_size(number: int, authority: Path, width: int, height: int, dpi: int) -> tuple[int, int]:
    """Give the screen another size, as near as it can have it, and return the size that it has."""
    with Connection(number, authority) as x:
        randr = x.extension(b"RANDR")
        x.send(randr, 0, struct.pack("<II", 1, 3))
        x.reply()
        x.send(randr, 6, struct.pack("<I", x.root))
        least_width, least_height, most_width, most_height = struct.unpack_from("<HHHH", x.reply(), 8)
        width, height = min(max(width, least_width), most_width), min(max(height, least_height), most_height)
        if (x.width, x.height) != (width, height):
            x.send(randr, 25, struct.pack("<I", x.root))
            resources = x.reply()
            crtcs, outputs, modes = struct.unpack_from("<HHH", resources, 16)
            crtc, output = struct.unpack_from(f"<I{4 * (crtcs - 1)}xI", resources, 32)
            known = {
                facts[1:3]: facts[0]
                for facts in struct.iter_unpack(
                    "<IHH24x", resources[32 + 4 * (crtcs + outputs) : 32 + 4 * (crtcs + outputs) + 32 * modes]
                )
            }
            mode = known.get((width, height), 0)
            if not mode:
                name = f"{width}x{height}".encode()
                facts = struct.pack("<IHHI8HI", 0, width, height, 0, 0, 0, width, 0, 0, 0, height, len(name), 0)
                x.send(randr, 16, struct.pack("<I", x.root) + facts + name)
                mode = struct.unpack_from("<I", x.reply(), 8)[0]
                x.send(randr, 18, struct.pack("<II", output, mode))
            x.send(randr, 21, struct.pack("<IIIhhIHxx", crtc, 0, 0, 0, 0, 0, 1))
            x.reply()
            millimetres = (round(width * 25.4 / dpi), round(height * 25.4 / dpi))
            x.send(randr, 7, struct.pack("<IHHII", x.root, width, height, *millimetres))
            x.send(randr, 21, struct.pack("<IIIhhIHxxI", crtc, 0, 0, 0, 0, mode, 1, output))
            x.reply()
        x.check()
        return width, height


def disable_key_repeat(number: int, authority: Path) -> None:
    """Turn off the repetition of keys that are held: the page does that, at the user's own pace."""
    with Connection(number, authority) as x:
        mode, off = 1 << 7, 0
        x.send(102, 0, struct.pack("<II", mode, off))
        x.check()


def repeats(number: int, authority: Path) -> bool:
    """Return whether keys that are held are repeated."""
    with Connection(number, authority) as x:
        x.send(103, 0)
        return bool(x.reply()[1])


def size(number: int, authority: Path) -> tuple[int, int]:
    """Return the size of the screen."""
    with Connection(number, authority) as x:
        return x.width, x.height


def png(number: int, authority: Path, width: int) -> bytes:
    """Return a picture of the screen as PNG, made smaller by a whole factor to about this width."""
    with Connection(number, authority) as x:
        factor = max(1, x.width // width)
        columns = x.width // factor
        # Only the lines that are shown.
        rows = range(factor // 2, x.height - x.height % factor, factor)
        lines = []
        for start in range(0, len(rows), 50):
            batch = rows[start : start + 50]
            for row in batch:
                x.send(73, 2, struct.pack("<IhhHHI", x.root, 0, row, columns * factor, 1, 0xFFFFFFFF))
            for _ in batch:
                line = x.reply()[32:]
                pixels = bytearray(columns * 3)
                for colour in range(3):  # The server's order is blue, green, red and a byte that says nothing.
                    pixels[2 - colour :: 3] = line[colour :: 4 * factor][:columns]
                lines.append(b"\0" + pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", columns, len(lines), 8, 2, 0, 0, 0)
    body = zlib.compress(b"".join(lines), 3)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def _shows(x: Connection, window: int) -> bool:
    """Return whether this window is to be seen, and one that is meant to be given the focus."""
    try:
        x.send(3, 0, struct.pack("<I", window))
        kind, mapped, unmanaged = struct.unpack_from("<H12xBB", x.reply(), 12)
    except XError:  # It has gone in the meantime.
        return False
    return bool((kind, mapped, unmanaged) == (1, 2, 0))


def has_window(number: int, authority: Path) -> bool:
    """Return whether a program has shown a window that is large enough to be seen."""
    with Connection(number, authority) as x:
        for window in _windows(x):
            try:
                x.send(3, 0, struct.pack("<I", window))
                kind, mapped = struct.unpack_from("<H12xB", x.reply(), 12)
                x.send(14, 0, struct.pack("<I", window))
                width, height = struct.unpack_from("<HH", x.reply(), 16)
            except XError:  # It has gone in the meantime.
                continue
            if (kind, mapped) == (1, 2) and min(width, height) >= _LEAST_TO_SEE:
                return True
    return False


def _windows(x: Connection) -> tuple[int, ...]:
    """Return the windows that are not in another one, the topmost last."""
    x.send(15, 0, struct.pack("<I", x.root))
    reply = x.reply()
    return struct.unpack_from(f"<{struct.unpack_from('<H', reply, 16)[0]}I", reply, 32)


def _without_focus(x: Connection) -> int:
    """Return the topmost window if keys would reach none: nobody manages windows, and the pointer is beside them."""
    x.send(43, 0)
    focus = struct.unpack_from("<I", x.reply(), 8)[0]
    if focus not in {_NOBODY, _UNDER_POINTER, x.root}:
        return 0
    if focus != _NOBODY:
        x.send(38, 0, struct.pack("<I", x.root))
        if struct.unpack_from("<I", x.reply(), 12)[0]:
            return 0
    return next((window for window in reversed(_windows(x)) if _shows(x, window)), 0)


def _focus(x: Connection, window: int) -> None:
    """Give the focus to a window; when that goes, it is with what is under the pointer."""
    x.send(42, 1, struct.pack("<II", window, 0))


def type_text(number: int, authority: Path, text: str, free: list[int]) -> None:
    """Type any Unicode text into the window that has the focus.

    Characters are put on free keycodes, as many at once as there are, so that programs have the time to
    see which character a keycode means now. Where no window would get them, it is the topmost one.
    """
    with Connection(number, authority) as x:
        test = x.extension(b"XTEST")
        if window := _without_focus(x):
            _focus(x, window)
        text = text.replace("\r\n", "\n")
        while text:
            keys: dict[str, int] = {}
            length = 0
            for character in text:
                if character not in keys:
                    if len(keys) == len(free):
                        break
                    keys[character] = free[len(keys)]
                length += 1
            # Both levels, so that a Shift that somebody holds changes nothing.
            symbols = b"".join(struct.pack("<II", *[keysym(character)] * 2) for character in keys)
            x.send(100, len(keys), struct.pack("<BBxx", free[0], 2) + symbols)
            x.check()
            time.sleep(_SETTLE)
            for character in text[:length]:
                for event in (_KEY_PRESS, _KEY_RELEASE):
                    x.send(test, 2, struct.pack("<BBxxII8xhh8x", event, keys[character], 0, x.root, 0, 0))
            x.check()
            time.sleep(_SETTLE)
            text = text[length:]
        if window:
            # What the user points at is to have the next keys, such as a dialog that this text has opened.
            _focus(x, _UNDER_POINTER)
            x.check()


def keysym(character: str) -> int:
    """Return the X key symbol of a character."""
    code = ord(character)
    special = {"\n": 0xFF0D, "\r": 0xFF0D, "\t": 0xFF09, "\b": 0xFF08, "\x1b": 0xFF1B}
    if character in special:
        return special[character]
    return code if 0x20 <= code <= 0x7E or 0xA0 <= code <= 0xFF else 0x01000000 + code


def clipboard(number: int, authority: Path, limit: int) -> tuple[str, bytes]:
    """Return the kind of what a program has copied, as MIME names it, and its bytes: a text, or else a picture.

    Both are empty if there is neither. Programs hand over much of it in pieces (INCR), which display servers put
    together wrongly (Xpra) or not at all (TigerVNC).

    Raises:
        TooLongError: It has more than `limit` bytes.
        XError: The program does not answer.
    """
    with Connection(number, authority) as x:
        window, property_changes = x.own, 1 << 22
        x.send(1, 0, struct.pack("<IIhhHHHHIII", window, x.root, 0, 0, 1, 1, 0, 2, 0, 1 << 11, property_changes))
        offered = _convert(x, window, x.atom(b"TARGETS"), limit)
        targets = struct.unpack(f"<{len(offered) // 4}I", offered)
        for name, kind in _COPIED.items():
            if (target := x.atom(name)) in targets and (data := _convert(x, window, target, limit)):
                return kind, data.decode("latin-1").encode() if name == b"STRING" else data
    return "", b""


def _convert(x: Connection, window: int, target: int, limit: int) -> bytes:
    """Return the clipboard's content in one form: nothing if its program has it not in this one, or there is none."""
    place, pieces = x.atom(b"JUPYTER_DISPLAYS"), x.atom(b"INCR")
    x.send(24, 0, struct.pack("<IIIII", window, x.atom(b"CLIPBOARD"), target, place, 0))
    if not struct.unpack_from("<I", x.event(_SELECTION_NOTIFY), 20)[0]:
        return b""
    kind, data = _take_property(x, window, place, limit)
    if kind != pieces:
        _check_length(len(data), limit)
        return data
    deadline = time.monotonic() + _TIMEOUT
    whole, length = bytearray(), 0
    while time.monotonic() < deadline:
        where, deleted = struct.unpack_from("<8xI4xB", x.event(_PROPERTY_NOTIFY))
        if where == place and not deleted:
            piece = _take_property(x, window, place, limit)[1]
            if not piece:
                _check_length(length, limit)
                return bytes(whole)
            length += len(piece)
            # Some programs end when nobody takes the rest.
            if length <= limit:
                whole += piece
    _check_length(length, limit)
    message = "the program that has copied it does not hand over all of it"
    raise XError(message)


def _take_property(x: Connection, window: int, name: int, limit: int) -> tuple[int, bytes]:
    """Return type and value of a window's property, which is then removed."""
    x.send(20, 1, struct.pack("<IIIII", window, name, 0, 0, limit // 4 + 1))
    reply = x.reply()
    kind, count = struct.unpack_from("<I4xI", reply, 8)
    return kind, reply[32 : 32 + count * reply[1] // 8]


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        message = f"what was copied has more than {limit} bytes"
        raise TooLongError(message)
