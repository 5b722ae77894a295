"""What a page sends to a display: whether it is a key or the pointer, and what one who only looks may send.

Both protocols are read no further than that takes. Who only looks has what is on a list sent on; the
rest is dropped, and what cannot be read ends the connection.
"""

from __future__ import annotations

import secrets
import struct
from typing import Any, ClassVar


class RefusedError(Exception):
    """Somebody who may only look sent what nobody can tell the meaning of."""


class ClientMessageFilter:
    """The stream of one page."""

    _LONGEST_OF_VIEWER = 1 << 16

    def __init__(self, *, view_only: bool) -> None:
        """Begin at the start of a connection."""
        self.view_only = view_only
        self.asks_for_size = False
        """Whether the page has asked the engine itself for another size of the screen."""
        self._buffer = bytearray()
        self._passthrough = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is sent on, and whether a key or the pointer was used.

        Raises:
            RefusedError: Only looking is allowed, and this is something else.
        """
        if self._passthrough:
            return data, False
        self._buffer += data
        allowed, used = bytearray(), False
        try:
            while self._buffer and (size := self.size(self._buffer)) and len(self._buffer) >= size:
                message = bytes(self._buffer[:size])
                del self._buffer[:size]
                used |= self.is_input(message)
                if self.view_only:
                    allowed += self.allowed(message)
                self.advance()
        except (RefusedError, LookupError, RecursionError, TypeError, ValueError, struct.error) as error:
            if self.view_only:
                raise RefusedError(str(error)) from error
            # Whoever may do everything is not held up because this does not understand it.
            self._passthrough = True
            self._buffer.clear()
        return (bytes(allowed) if self.view_only else data), used

    def size(self, data: bytearray) -> int:
        """Return the length of the first message, or 0 if more has to come first."""
        raise NotImplementedError

    def advance(self) -> None:
        """Go on to the next message."""

    def is_input(self, message: bytes) -> bool:
        """Return whether a message is a key or the pointer."""
        raise NotImplementedError

    def allowed(self, message: bytes) -> bytes:
        """Return what one who only looks may send of a message."""
        raise NotImplementedError


class RFBMessageFilter(ClientMessageFilter):
    """RFB, as TigerVNC and noVNC speak it."""

    _ENCODINGS, _KEY, _POINTER, _CUT_TEXT, _SIZE, _QEMU = 2, 4, 5, 6, 251, 255
    _EXTENDED_CLIPBOARD = 0xC0A1E5CE
    # Pixel format, encodings, update request, continuous updates, fence.
    _VIEW = frozenset({0, 2, 3, 150, 248})

    def __init__(self, *, view_only: bool) -> None:
        """Begin with the version, the choice of no password, and the wish to share."""
        super().__init__(view_only=view_only)
        self._greeting = [12, 1, 1]

    def size(self, data: bytearray) -> int:
        """Return the length of the first message."""
        if self._greeting:
            return self._greeting[0]
        kind = data[0]
        fixed = {0: 20, 3: 10, self._KEY: 8, 150: 10, 250: 4}
        if kind in fixed:
            return fixed[kind]
        if kind == self._POINTER:
            return 0 if len(data) < 2 else 7 if data[1] & 0x80 else 6
        if kind == self._QEMU:
            return 0 if len(data) < 2 else 12 if data[1] == 0 else self._unknown(kind)
        if kind == 2:
            return 0 if len(data) < 4 else 4 + 4 * int(struct.unpack_from(">H", data, 2)[0])
        if kind == self._CUT_TEXT:
            size = 0 if len(data) < 8 else 8 + abs(int(struct.unpack_from(">i", data, 4)[0]))
            return self._unknown(kind) if self.view_only and size > self._LONGEST_OF_VIEWER else size
        if kind == 248:
            return 0 if len(data) < 9 else 9 + data[8]
        if kind == self._SIZE:
            return 0 if len(data) < 8 else 8 + 16 * data[6]
        return self._unknown(kind)

    def advance(self) -> None:
        """Go on to the next message."""
        del self._greeting[:1]

    def _unknown(self, kind: int) -> int:
        message = f"RFB message {kind} is not known"
        raise RefusedError(message)

    def is_input(self, message: bytes) -> bool:
        """Return whether a message is a key or the pointer."""
        self.asks_for_size |= not self._greeting and message[0] == self._SIZE
        return not self._greeting and message[0] in {self._KEY, self._POINTER, self._QEMU}

    def allowed(self, message: bytes) -> bytes:
        """Return what one who only looks may send of a message."""
        if not self._greeting:
            if message[0] == self._ENCODINGS:
                return self._without_clipboard(message)
            return message if message[0] in self._VIEW else b""
        if message not in {b"RFB 003.008\n", b"\1", b"\0"}:
            text = "RFB 3.8 without a password is spoken here"
            raise RefusedError(text)
        # Nobody who only looks sends the others away.
        return b"\1" if len(self._greeting) == 1 else message

    def _without_clipboard(self, message: bytes) -> bytes:
        """Have the server keep the clipboard's content to itself.

        It sends the content to pages that do not know better. So this one knows better, and wants to be told no
        more than that there is something: what it could ask for then is not sent on.
        """
        count = struct.unpack_from(">H", message, 2)[0] + 1
        capabilities, told, text = 1 << 24, 1 << 27, 1
        return (
            struct.pack(">BxH", self._ENCODINGS, count)
            + message[4:]
            + struct.pack(">I", self._EXTENDED_CLIPBOARD)
            + struct.pack(">BxxxiII", self._CUT_TEXT, -8, capabilities | told | text, 0)
        )


class XpraMessageFilter(ClientMessageFilter):
    """Xpra's packets: a header of 8 bytes, and a list that begins with the packet's name, as rencodeplus."""

    _RENCODEPLUS = 0x10
    # Xpra 6.5 has a new name for most packets and takes the old ones, too.
    _USE = frozenset(
        [
            "button-action",
            "key-action",
            "keyboard-event",
            "pointer",
            "pointer-button",
            "pointer-motion",
            "pointer-position",
            "pointer-wheel",
            "wheel-motion",
        ]
    )
    # By the new name or the old one: how many of its items are sent on, and 0 for all of them. What follows the size
    # of `window-map` changes the state of the desktop's window for everybody.
    _VIEW: ClassVar[dict[str, int]] = {
        "connection-close": 0,
        "disconnect": 0,
        "ping": 0,
        "ping_echo": 0,
        "damage-sequence": 0,
        "window-draw-ack": 0,
        "buffer-refresh": 0,
        "window-refresh": 0,
        "map-window": 6,
        "window-map": 6,
    }
    # Of its greeting: how packets and pictures look, and that it is asked whether it is there.
    # Not: a command, the keyboard, the pointer, the clipboard, the screen's size.
    _GREETING = frozenset(
        [
            "version",
            "client_type",
            "rencodeplus",
            "lz4",
            "compressors",
            "compression_level",
            "ping",
            "ping-echo-sourceid",
            "encodings",
            "encoding",
            "auto_refresh_delay",
            "batch",
            "cursor",
            "bell",
            "vrefresh",
        ]
    )
    _GREETING_PREFIXES = ("encodings.", "encoding.", "batch.")

    def __init__(self, *, view_only: bool) -> None:
        """Begin with the greeting."""
        super().__init__(view_only=view_only)
        self._forced: dict[str, Any] = {
            # Of two connections with the same one, Xpra ends the older.
            "uuid": secrets.token_hex(16),
            "share": True,
            "windows": True,
            "window": {"enabled": True},
            "display": {"resize-events": True},
        }

    def size(self, data: bytearray) -> int:
        """Return the length of the first message, or 0 if more has to come first."""
        if len(data) < 8:
            return 0
        if data[0] != ord("P"):
            message = "this is not Xpra's protocol"
            raise RefusedError(message)
        size = 8 + int(struct.unpack_from(">I", data, 4)[0])
        if self.view_only and size > self._LONGEST_OF_VIEWER:
            message = "the packet is too long"
            raise RefusedError(message)
        return size

    def _decode(self, message: bytes, *, whole: bool) -> Any:
        flags, level, index = message[1] & ~0x08, message[2], message[3]
        if level or index or flags != self._RENCODEPLUS:
            text = "packets of a viewer are rencodeplus, and neither compressed nor in parts"
            raise RefusedError(text)
        return Decoder(message[8:]).read(first_only=not whole)

    def is_input(self, message: bytes) -> bool:
        """Return whether a message is a key or the pointer."""
        if message[2] or message[3] or message[1] & ~0x18:
            return False
        return self._decode(message, whole=False) in self._USE

    def allowed(self, message: bytes) -> bytes:
        """Return what a viewer may send of a message."""
        packet = self._decode(message, whole=True)
        if not isinstance(packet, list) or not packet or not isinstance(packet[0], str):
            text = "the packet has no name"
            raise RefusedError(text)
        if packet[0] in self._VIEW:
            items = self._VIEW[packet[0]]
            return self._pack(packet[:items]) if items else message
        if packet[0] != "hello":
            return b""
        if len(packet) < 2 or not isinstance(packet[1], dict):
            text = "the greeting says nothing"
            raise RefusedError(text)
        greeting = {
            key: value
            for key, value in packet[1].items()
            if key in self._GREETING or str(key).startswith(self._GREETING_PREFIXES)
        }
        return self._pack(["hello", greeting | self._forced])

    def _pack(self, packet: list[Any]) -> bytes:
        body = encode(packet)
        return struct.pack(">cBBBI", b"P", self._RENCODEPLUS, 0, 0, len(body)) + body


# rencodeplus: a type byte first; small numbers and the sizes of short texts, lists and dictionaries are in it.
_DOUBLE, _LIST, _DICT, _INTEGER, _FLOAT, _TRUE, _FALSE, _NONE, _END = 44, 59, 60, 61, 66, 67, 68, 69, 127
_SMALL, _NEGATIVE, _SHORT_DICT, _SHORT_TEXT, _SHORT_LIST = 44, 70, 102, 128, 192
_INTEGERS = {62: ">b", 63: ">h", 64: ">i", 65: ">q"}
# Longer numbers are refused.
_LONGEST_INTEGER = 63


class Decoder:
    """Reads rencodeplus."""

    def __init__(self, data: bytes) -> None:
        """Begin at the start."""
        self._data = data
        self._at = 0

    def read(self, *, first_only: bool = False) -> Any:
        """Return the value, or only the first item of it, which is a list."""
        if not first_only:
            return self._value()
        kind = self._take()
        if kind != _LIST and kind < _SHORT_LIST:
            message = "the packet is not a list"
            raise RefusedError(message)
        return self._value()

    def _take(self) -> int:
        self._at += 1
        return self._data[self._at - 1]

    def _bytes(self, size: int) -> bytes:
        if size < 0 or self._at + size > len(self._data):
            message = "the packet is cut off"
            raise RefusedError(message)
        self._at += size
        return self._data[self._at - size : self._at]

    def _until(self, ends: bytes) -> tuple[bytes, int]:
        start = self._at
        while self._take() not in ends:
            pass
        return self._data[start : self._at - 1], self._data[self._at - 1]

    def _text(self, size: int) -> str:
        return self._bytes(size).decode("utf-8", "surrogateescape")

    def _items(self) -> list[Any]:
        items = []
        while self._data[self._at] != _END:
            items.append(self._value())
        self._at += 1
        return items

    def _pairs(self, items: list[Any]) -> dict[Any, Any]:
        return dict(zip(items[::2], items[1::2], strict=True))

    def _value(self) -> Any:
        kind = self._take()
        if ord("0") <= kind <= ord("9"):
            self._at -= 1
            size, end = self._until(b":/")
            return self._bytes(int(size)) if end == ord("/") else self._text(int(size))
        if kind < _SMALL:
            return kind
        if _NEGATIVE <= kind < _SHORT_DICT:
            return _NEGATIVE - 1 - kind
        if _SHORT_DICT <= kind < _END:
            return self._pairs([self._value() for _ in range(2 * (kind - _SHORT_DICT))])
        if _SHORT_TEXT <= kind < _SHORT_LIST:
            return self._text(kind - _SHORT_TEXT)
        if kind >= _SHORT_LIST:
            return [self._value() for _ in range(kind - _SHORT_LIST)]
        numbers = {**_INTEGERS, _FLOAT: ">f", _DOUBLE: ">d"}
        if kind in numbers:
            return struct.unpack(numbers[kind], self._bytes(struct.calcsize(numbers[kind])))[0]
        simple = {_TRUE: True, _FALSE: False, _NONE: None}
        if kind in simple:
            return simple[kind]
        if kind == _INTEGER:
            return int(self._until(bytes([_END]))[0])
        if kind in {_LIST, _DICT}:
            items = self._items()
            return items if kind == _LIST else self._pairs(items)
        message = "this is not rencodeplus"
        raise RefusedError(message)


def encode(value: Any) -> bytes:
    """Write rencodeplus, byte for byte as Xpra does.

    Raises:
        ValueError: A number is longer than Xpra reads.
    """
    if value is None or isinstance(value, bool):
        return bytes([_NONE if value is None else _TRUE if value else _FALSE])
    if isinstance(value, int):
        return _encode_integer(value)
    if isinstance(value, float):
        return struct.pack(">Bd", _DOUBLE, value)
    if isinstance(value, bytes):
        return b"%d/" % len(value) + value
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        return (bytes([_SHORT_TEXT + len(data)]) if len(data) < 64 else b"%d:" % len(data)) + data
    if isinstance(value, dict):
        items = b"".join(encode(item) for pair in value.items() for item in pair)
        return bytes([_SHORT_DICT + len(value)]) + items if len(value) < 25 else b"<" + items + b"\x7f"
    items = b"".join(encode(item) for item in value)
    return bytes([_SHORT_LIST + len(value)]) + items if len(value) < 64 else b";" + items + b"\x7f"


def _encode_integer(value: int) -> bytes:
    if 0 <= value < _SMALL:
        return bytes([value])
    if -32 <= value < 0:
        return bytes([_NEGATIVE - 1 - value])
    for kind, form in _INTEGERS.items():
        limit = 1 << 8 * struct.calcsize(form) - 1
        if -limit <= value < limit:
            return bytes([kind]) + struct.pack(form, value)
    text = str(value).encode()
    if len(text) > _LONGEST_INTEGER:
        message = "the number is too long"
        raise ValueError(message)
    return b"=" + text + b"\x7f"


# By the protocol of an engine.
FILTERS: dict[str, type[ClientMessageFilter]] = {"rfb": RFBMessageFilter, "xpra": XpraMessageFilter}


def filter_for(protocol: str, *, view_only: bool) -> ClientMessageFilter:
    """Return the filter of what one page sends in a protocol."""
    return FILTERS[protocol](view_only=view_only)
