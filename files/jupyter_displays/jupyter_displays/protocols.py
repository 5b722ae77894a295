"""What a page sends to a display: whether it is a key or the pointer, and what one who only looks may send.

Both protocols are read no further than that takes. Who only looks has what is on a list sent on; the
rest is dropped, and what cannot be read ends the connection.
"""

from __future__ import annotations

import struct
from typing import Any


class RefusedError(Exception):
    """Somebody who may only look sent what nobody can tell the meaning of."""


class Messages:
    """The stream of one page."""

    _LONGEST_OF_VIEWER = 1 << 16

    def __init__(self, *, view_only: bool) -> None:
        """Begin at the start of a connection."""
        self.view_only = view_only
        self.asks_for_size = False
        """Whether the page has asked the engine itself for another size of the screen."""
        self._buffer = bytearray()
        self._lost = False

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """Return what is sent on, and whether a key or the pointer was used.

        Raises:
            RefusedError: Only looking is allowed, and this is something else.
        """
        if self._lost:
            return data, False
        self._buffer += data
        allowed, used = bytearray(), False
        try:
            while self._buffer and (size := self.size(self._buffer)) and len(self._buffer) >= size:
                message = bytes(self._buffer[:size])
                del self._buffer[:size]
                used |= self.uses(message)
                if self.view_only:
                    allowed += self.allowed(message)
                self.taken()
        except (RefusedError, LookupError, RecursionError, TypeError, ValueError, struct.error) as error:
            if self.view_only:
                raise RefusedError(str(error)) from error
            # Whoever may do everything is not held up because this does not understand it.
            self._lost = True
            self._buffer.clear()
        return (bytes(allowed) if self.view_only else data), used

    def size(self, data: bytearray) -> int:
        """Return the length of the first message, or 0 if more has to come first."""
        raise NotImplementedError

    def taken(self) -> None:
        """Go on to the next message."""

    def uses(self, message: bytes) -> bool:
        """Return whether a message is a key or the pointer."""
        raise NotImplementedError

    def allowed(self, message: bytes) -> bytes:
        """Return what one who only looks may send of a message."""
        raise NotImplementedError


class RFBMessages(Messages):
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

    def taken(self) -> None:
        """Go on to the next message."""
        del self._greeting[:1]

    def _unknown(self, kind: int) -> int:
        message = f"RFB message {kind} is not known"
        raise RefusedError(message)

    def uses(self, message: bytes) -> bool:
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


class XpraMessages(Messages):
    """Xpra's packets: a header of 8 bytes, and a list that begins with the packet's name."""

    _BENCODE, _RENCODEPLUS = 0, 0x10
    _USE = frozenset(
        [
            "key-action",
            "key-event",
            "keyboard-event",
            "button-action",
            "pointer",
            "pointer-button",
            "pointer-motion",
            "pointer-position",
            "pointer-wheel",
            "wheel-motion",
        ]
    )
    _VIEW = frozenset(
        [
            "ping",
            "ping_echo",
            "damage-sequence",
            "buffer-refresh",
            "window-draw-ack",
            "window-refresh",
            "map-window",
            "window-map",
            "connection-data",
            "disconnect",
        ]
    )
    # Of its greeting: how packets and pictures look. Not: a command, the keyboard, the clipboard, the screen's size.
    _GREETING = frozenset(
        [
            "version",
            "client_type",
            "uuid",
            "username",
            "hostname",
            "share",
            "bencode",
            "rencodeplus",
            "rencode",
            "yaml",
            "lz4",
            "zlib",
            "lzo",
            "brotli",
            "compressors",
            "compression_level",
            "wants_aliases",
            "wants_versions",
            "windows",
            "encodings",
            "encoding",
            "auto_refresh_delay",
            "vrefresh",
            "cursors",
            "cursor",
            "bell",
            "desktop_size",
            "screen_sizes",
            "randr_notify",
        ]
    )
    _GREETING_PREFIXES = ("encodings.", "encoding.", "batch.")
    # Not "steal": Xpra 3.1 refuses a second page that gives it away.
    _FORCED = {  # noqa: RUF012
        "share": True,
        "keyboard": False,
        "clipboard": False,
        "notifications": False,
        "system_tray": False,
    }

    def size(self, data: bytearray) -> int:
        """Return the length of the first message."""
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
        if level or index or flags not in {self._BENCODE, self._RENCODEPLUS}:
            text = "packets of one who looks are neither compressed nor in parts"
            raise RefusedError(text)
        return Decoder(message[8:], bencode=flags == self._BENCODE).read(first_only=not whole)

    def uses(self, message: bytes) -> bool:
        """Return whether a message is a key or the pointer."""
        if message[2] or message[3] or message[1] & ~0x18:
            return False
        return self._decode(message, whole=False) in self._USE

    def allowed(self, message: bytes) -> bytes:
        """Return what one who only looks may send of a message."""
        packet = self._decode(message, whole=True)
        if not isinstance(packet, list) or not packet or not isinstance(packet[0], str):
            text = "the packet has no name"
            raise RefusedError(text)
        if packet[0] in self._VIEW:
            return message
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
        bencode = not message[1] & self._RENCODEPLUS
        body = encode(["hello", greeting | self._FORCED], bencode=bencode)
        return struct.pack(">cBBBI", b"P", message[1], 0, 0, len(body)) + body


class Decoder:
    """Reads bencode, or rencodeplus."""

    def __init__(self, data: bytes, *, bencode: bool) -> None:
        """Begin at the start."""
        self._data = data
        self._at = 0
        self._bencode = bencode

    def read(self, *, first_only: bool = False) -> Any:
        """Return the value, or only the first item of it, which is a list."""
        if not first_only:
            return self._value()
        kind = self._take()
        if not (kind == (ord("l") if self._bencode else 59) or (not self._bencode and kind >= 192)):
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

    def _items(self, end: int) -> list[Any]:
        items = []
        while self._data[self._at] != end:
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
        return self._bencoded(kind) if self._bencode else self._rencoded(kind)

    def _bencoded(self, kind: int) -> Any:
        if kind == ord("i"):
            return int(self._until(b"e")[0])
        items = self._items(ord("e"))
        if kind == ord("l"):
            return items
        if kind == ord("d"):
            return self._pairs(items)
        message = "this is not bencode"
        raise RefusedError(message)

    def _rencoded(self, kind: int) -> Any:
        if kind < 44:
            return kind
        if 70 <= kind < 102:
            return 69 - kind
        if 102 <= kind < 127:
            return self._pairs([self._value() for _ in range(2 * (kind - 102))])
        if 128 <= kind < 192:
            return self._text(kind - 128)
        if kind >= 192:
            return [self._value() for _ in range(kind - 192)]
        numbers = {62: ">b", 63: ">h", 64: ">i", 65: ">q", 66: ">f", 44: ">d"}
        if kind in numbers:
            return struct.unpack(numbers[kind], self._bytes(struct.calcsize(numbers[kind])))[0]
        simple = {67: True, 68: False, 69: None}
        if kind in simple:
            return simple[kind]
        if kind == 61:
            return int(self._until(b"\x7f")[0])
        if kind in {59, 60}:
            items = self._items(127)
            return items if kind == 59 else self._pairs(items)
        message = "this is not rencodeplus"
        raise RefusedError(message)


def encode(value: Any, *, bencode: bool) -> bytes:
    """Write bencode, or rencodeplus, in its plainest form."""
    if isinstance(value, bool):
        if bencode:
            return b"i%de" % value
        return b"C" if value else b"D"
    if isinstance(value, float) and not bencode:
        return b"," + struct.pack(">d", value)
    if isinstance(value, (int, float)):
        number = str(int(value)).encode()
        return b"i" + number + b"e" if bencode else b"=" + number + b"\x7f"
    if value is None:
        return b"0:" if bencode else b"E"
    if isinstance(value, str):
        data = value.encode("utf-8", "surrogateescape")
        return b"%d:" % len(data) + data
    if isinstance(value, bytes):
        return b"%d" % len(value) + (b":" if bencode else b"/") + value
    if isinstance(value, dict):
        items = b"".join(encode(item, bencode=bencode) for pair in value.items() for item in pair)
        return b"d" + items + b"e" if bencode else b"<" + items + b"\x7f"
    items = b"".join(encode(item, bencode=bencode) for item in value)
    return b"l" + items + b"e" if bencode else b";" + items + b"\x7f"


def messages(protocol: str, *, view_only: bool) -> Messages:
    """Return the reader of a protocol."""
    kinds: dict[str, type[Messages]] = {"rfb": RFBMessages, "xpra": XpraMessages}
    return kinds[protocol](view_only=view_only)
