"""
A stand-in for JupyterHub and its proxy, to look at nginx from behind.

It speaks HTTP/1.1 and WebSocket on 127.0.0.1:980 with the standard library alone: it shows which headers arrived,
sets a cookie, takes uploads and tells how far they are, sends slowly, fails, and echoes what a websocket says.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import struct

uploaded = 0
PROGRAM = "const answer = 42; // the programs of Lab are long\n" * 2000


def response(status: str, body: str, *headers: str) -> bytes:
    """A whole answer."""
    text = body.encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(text)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + text


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, key: str) -> None:
    """Accept a websocket and send back every frame of up to 125 bytes."""
    digest = hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode(), usedforsecurity=False).digest()
    accept = base64.b64encode(digest).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    writer.write("\r\n".join([*lines, f"Sec-WebSocket-Accept: {accept}", "", ""]).encode())
    while True:
        kind, length = struct.unpack("BB", await reader.readexactly(2))
        mask = await reader.readexactly(4)
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(await reader.readexactly(length & 0x7F)))
        writer.write(struct.pack("BB", kind, len(payload)) + payload)
        await writer.drain()


async def take(reader: asyncio.StreamReader, length: int) -> None:
    """Read an upload and count it while it arrives."""
    global uploaded  # noqa: PLW0603
    uploaded = 0
    while uploaded < length:
        piece = await reader.read(65536)
        if not piece:
            return
        uploaded += len(piece)


async def answer(path: str, headers: dict[str, str], reader: asyncio.StreamReader) -> bytes:
    """What the path is for."""
    if path == "/upload":
        await take(reader, int(headers["content-length"]))
        return response("200 OK", str(uploaded))
    if "headers" in path:
        return response("200 OK", json.dumps(headers), "Content-Type: application/json")
    plain, script, data = (f"Content-Type: {kind}" for kind in ("text/plain", "text/javascript", "application/json"))
    answers = {
        "/uploaded": response("200 OK", str(uploaded), plain),
        "/user/ada/share": response(
            "200 OK", "a display", plain, "Referrer-Policy: no-referrer", "Service-Worker-Allowed: /"
        ),
        "/hub/login": response(
            "200 OK", "<p>log in</p>" * 200, "Content-Type: text/html", "Set-Cookie: id=1; Path=/hub/"
        ),
        "/user/ada/static/lab/main.js": response("200 OK", PROGRAM, script, "Cache-Control: no-cache"),
        "/user/ada/lab/extensions/@own/x/static/1.0123456789abcdef.js": response(
            "200 OK", PROGRAM, script, "Cache-Control: no-cache", "Service-Worker-Allowed: /"
        ),
        "/user/gone/static/lab/2.0123456789abcdef.js": response("302 Found", "", "Location: /hub/user/gone/"),
        "/user/ada/lab/api/settings": response("200 OK", json.dumps({"settings": PROGRAM}), data),
        "/user/ada/api/contents": response("200 OK", json.dumps({"content": PROGRAM}), data),
        "/hub/home": response("503 Service Unavailable", "the hub is gone", plain),
        "/hub/api/user": response("503 Service Unavailable", '{"message": "gone"}', "Content-Type: application/json"),
        "/user/ada/api/kernels": response("503 Service Unavailable", "not running", plain),
    }
    return answers.get(path.partition("?")[0], response("404 Not Found", "nothing here", plain))


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of one connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            path = head[0].split()[1]
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)
            }
            if "websocket" in headers.get("upgrade", "").lower():
                await echo(reader, writer, headers["sec-websocket-key"])
            elif path == "/hub/progress":
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\ndata: 1\n\n"
                )
                await writer.drain()
                await asyncio.sleep(3)
                writer.write(b"data: 2\n\n")
                break
            else:
                writer.write(await answer(path, headers, reader))
            await writer.drain()
    writer.close()


async def main() -> None:
    """Serve until the end."""
    server = await asyncio.start_server(serve, "127.0.0.1", 980, backlog=1000)
    await server.serve_forever()


asyncio.run(main())
