"""The keyboard of the sessions: every character has one key and level, whatever layout the user has.

The X server is given an XKB directory of our own, in which the layout `us` has all characters of the
site's layouts in addition to its own, four a key, on keycodes that no real keyboard has. Nothing is switched
or mapped again while somebody types, and whoever asks the X server for the `us` layout, as Xpra and
desktops do, gets this one again.
"""

from __future__ import annotations

import asyncio
import ctypes
import ctypes.util
import hashlib
import json
import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

# Keycodes (of evdev) of the keys that write something: the rows with digits and letters, space, and < beside Z.
_WRITING = [*range(10, 62), 65, 94]
# Keycodes that are left free, for characters that are in no layout.
FREE_KEYCODES = list(range(232, 256))
# After the layouts' own characters come those that dead keys and typography make, while there is place.
_MORE = "".join(map(chr, [*range(0xA1, 0xAD), *range(0xAE, 0x100)])) + "–—‘’‚“”„†•…‰‹›€№₽™−≈≠≤≥"
_MORE += "ĂăĄąĆćČčĎďĐđĘęĚěĞğİıŁłŃńŇňŐőŒœŘřŚśŞşŠšŢţŤťŮůŰűŸŹźŻżŽž" + "ЁёЄєІіЇїҐґЎў"
_ROOTS = ("/usr/share/X11/xkb", "/usr/share/xkeyboard-config-2", "/usr/local/share/X11/xkb")
# The media keys of `inet` are not wanted in a browser, and their keycodes are.
_INET = 'default partial xkb_symbols "evdev" {\n};\n'


class _Names(ctypes.Structure):
    _fields_ = [(name, ctypes.c_char_p) for name in ("rules", "model", "layout", "variant", "options")]


class _Keymap:
    """A keymap of libxkbcommon: which character each key and level gives."""

    def __init__(self, layout: str, directory: Path | None = None) -> None:
        xkb = ctypes.CDLL(ctypes.util.find_library("xkbcommon") or "libxkbcommon.so.0")
        pointer = ctypes.c_void_p
        for name, result, *arguments in (
            ("xkb_context_new", pointer, ctypes.c_int),
            ("xkb_context_include_path_append", ctypes.c_int, pointer, ctypes.c_char_p),
            ("xkb_context_include_path_append_default", ctypes.c_int, pointer),
            ("xkb_context_unref", None, pointer),
            ("xkb_keymap_new_from_names", pointer, pointer, ctypes.POINTER(_Names), ctypes.c_int),
            ("xkb_keymap_unref", None, pointer),
            ("xkb_keymap_key_get_name", ctypes.c_char_p, pointer, ctypes.c_uint32),
            ("xkb_keymap_num_levels_for_key", ctypes.c_uint32, pointer, ctypes.c_uint32, ctypes.c_uint32),
            ("xkb_keysym_to_utf32", ctypes.c_uint32, ctypes.c_uint32),
        ):
            function = getattr(xkb, name)
            function.restype, function.argtypes = result, arguments
        self._symbols = xkb.xkb_keymap_key_get_syms_by_level
        self._symbols.argtypes = [pointer, *[ctypes.c_uint32] * 3, ctypes.POINTER(ctypes.POINTER(ctypes.c_uint32))]
        self._xkb = xkb
        context = xkb.xkb_context_new(1 if directory else 0)
        if directory:
            xkb.xkb_context_include_path_append(context, os.fsencode(directory))
        names = _Names(b"evdev", b"pc105", layout.encode(), b"", b"")
        self._keymap = xkb.xkb_keymap_new_from_names(context, ctypes.byref(names), 0)
        xkb.xkb_context_unref(context)
        if not self._keymap:
            message = f"there is no keyboard layout {layout!r}"
            raise OSError(message)

    def close(self) -> None:
        self._xkb.xkb_keymap_unref(self._keymap)

    def name(self, keycode: int) -> str:
        return (self._xkb.xkb_keymap_key_get_name(self._keymap, keycode) or b"").decode()

    def levels(self, keycode: int) -> int:
        return int(self._xkb.xkb_keymap_num_levels_for_key(self._keymap, keycode, 0))

    def characters(self, keycodes: list[int]) -> dict[str, list[int]]:
        """Return the characters of these keys: each with its keycode and its lowest level."""
        found: dict[str, list[int]] = {}
        symbols = ctypes.POINTER(ctypes.c_uint32)()
        for level in range(4):
            for keycode in keycodes:
                if level < self.levels(keycode) and (
                    self._symbols(self._keymap, keycode, 0, level, ctypes.byref(symbols)) == 1
                ):
                    code = self._xkb.xkb_keysym_to_utf32(symbols[0])
                    if code > 0x20 or (code == 0x20 and keycode == 65):
                        found.setdefault(chr(code), [keycode, level])
        found.pop("\x7f", None)
        return found


def _write(directory: Path, root: Path, symbols: str) -> None:
    """Make an XKB directory that is the system's but for the layouts `us` and `inet`."""
    own = directory / "symbols"
    own.mkdir(parents=True)
    for path in root.iterdir():
        if path.name != "symbols":
            (directory / path.name).symlink_to(path)
    for path in (root / "symbols").iterdir():
        if path.name not in {"us", "inet"}:
            (own / path.name).symlink_to(path)
    system = (root / "symbols" / "us").read_text(encoding="utf-8")
    system = re.sub(r"^default\b\s*", "", system, count=1, flags=re.MULTILINE)
    system = system.replace('xkb_symbols "basic"', 'xkb_symbols "plain"', 1)
    lines = ["default partial alphanumeric_keys", 'xkb_symbols "basic" {', '    include "us(plain)"', symbols, "};", ""]
    (own / "us").write_text("\n".join([*lines, system]), encoding="utf-8")
    (own / "inet").write_text(_INET, encoding="utf-8")


def build(layouts: list[str], directory: Path) -> dict[str, list[int]]:
    """Make the XKB directory of these layouts and return its table: character -> keycode and level.

    Raises:
        OSError: A layout or a file of the system is not there.
    """
    root = next(Path(path) for path in (os.environ.get("XKB_CONFIG_ROOT", ""), *_ROOTS) if path and Path(path).is_dir())
    wanted: dict[str, None] = {}
    for layout in layouts:
        keymap = _Keymap(layout)
        wanted |= dict.fromkeys(keymap.characters(_WRITING))
        keymap.close()
    _write(directory, root, "")
    plain = _Keymap("us", directory)
    spare = [
        (keycode, plain.name(keycode))
        for keycode in range(84, FREE_KEYCODES[0])
        if plain.name(keycode) and not plain.levels(keycode)
    ]
    has = plain.characters(_WRITING)
    plain.close()
    extra = [character for character in dict.fromkeys([*wanted, *_MORE]) if character not in has]
    lines, keycodes = [], []
    for index, (keycode, name) in enumerate(spare[: -(-len(extra) // 4)]):
        values = ", ".join(f"U{ord(character):04X}" for character in extra[4 * index : 4 * index + 4])
        lines.append(f'    key <{name}> {{ type[Group1] = "FOUR_LEVEL", symbols[Group1] = [ {values} ] }};')
        keycodes.append(keycode)
    shutil.rmtree(directory)
    _write(directory, root, "\n".join(lines))
    made = _Keymap("us", directory)
    table = made.characters([*_WRITING, *keycodes])
    made.close()
    return table


class Keyboard:
    """The keyboard of one server's displays, made once and kept for those that follow."""

    def __init__(self, layouts: list[str]) -> None:
        """Take the site's layouts."""
        self.layouts = layouts
        self.table: dict[str, list[int]] = {}
        self.free = FREE_KEYCODES
        self._path: asyncio.Future[Path | None] | None = None

    async def prepare(self, parent: Path) -> Path | None:
        """Return the XKB directory for the X servers, made below `parent` on first use."""
        if self._path is None or (self._path.done() and (path := self._path.result()) and not path.is_dir()):
            self._path = asyncio.ensure_future(asyncio.to_thread(self._make, parent))
        return await asyncio.shield(self._path)

    def _make(self, parent: Path) -> Path | None:
        source = Path(__file__).read_bytes() + repr(self.layouts).encode()
        path = parent / f"keyboard-{hashlib.sha256(source).hexdigest()[:12]}"
        try:
            if not path.is_dir():
                new = path.with_name(f".{path.name}-{os.getpid()}")
                shutil.rmtree(new, ignore_errors=True)
                table = build(self.layouts, new)
                (new / "table.json").write_text(json.dumps(table), encoding="utf-8")
                try:
                    new.rename(path)
                except OSError:  # Another server was quicker.
                    shutil.rmtree(new, ignore_errors=True)
            self.table = json.loads((path / "table.json").read_text(encoding="utf-8"))
        except (OSError, ValueError, StopIteration) as error:
            logging.getLogger(__name__).warning("The keyboard of the displays is the plain us layout: %s", error)
            return None
        return path

    def model(self) -> dict[str, Any]:
        """Return the table, and the keycodes of the two modifiers that its levels need."""
        return {"keys": self.table, "modifiers": {"shift": 50, "altgr": 92}}
