"""Writes what Xpra's own code writes of a set of values: the test data of the package's encoders and decoders.

Run it by the Python that Xpra is installed for, and keep what it prints:

    /usr/bin/python3 tests/record_xpra.py > tests/xpra/rencodeplus-6.5.5.json

Values are JSON; bytes are {"bytes": HEX}, and integers that a number of JSON may not hold {"int": DIGITS}.
"""

from __future__ import annotations

import json
import sys

_EDGES = [0, 1, 43, 44, 127, 128, 255, 256, 32767, 32768, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**53 - 1]
_EDGES += [-1, -32, -33, -128, -129, -32768, -32769, -(2**31), -(2**31) - 1, -(2**53) + 1]
_LONG = [2**53 + 1, 2**63 - 1, 2**63, 10**20, 10**60, -(2**63), -(2**63) - 1]
VALUES = [
    *_EDGES,
    *({"int": str(number)} for number in _LONG),
    *(0.5, -1.25, 1e300, True, False, None),
    *("", "a", "Съешь ещё", "x" * 63, "x" * 64, "я" * 32, "y" * 1000, "漢😀"),
    *({"bytes": data.hex()} for data in (b"", b"\0", b"/:127", bytes(range(256)))),
    *([], [[]], [0] * 63, [0] * 64, list(range(200))),
    *({}, {"a": 1}, {str(n): n for n in range(24)}, {str(n): n for n in range(25)}),
    ["hello", {"version": "6.5", "encoding": {"core": ["webp", "rgb24"], "min-quality": 80}, "share": True}],
    ["draw", 1, 0, 0, 640, 480, "rgb24", {"bytes": "00ff00"}, 70000, 1920, {"lz4": 1, "rgb_format": "RGB"}],
    ["ping", {"int": "1764381000123"}, 0, 0, 0, -1],
]


def plain(value: object) -> object:
    """Return the Python value that stands for a value of the list."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        if set(value) == {"bytes"}:
            return bytes.fromhex(str(value["bytes"]))
        if set(value) == {"int"}:
            return int(str(value["int"]))
        return {name: plain(item) for name, item in value.items()}
    return value


def main() -> None:
    """Print the values, and what they are on the wire."""
    from xpra import __version__  # noqa: PLC0415
    from xpra.net.rencodeplus import rencodeplus  # noqa: PLC0415

    found = [{"value": value, "wire": rencodeplus.dumps(plain(value)).hex()} for value in VALUES]
    lines = ",\n".join(json.dumps(entry, ensure_ascii=False) for entry in found)
    sys.stdout.write(f'{{"xpra": "{__version__}", "values": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
