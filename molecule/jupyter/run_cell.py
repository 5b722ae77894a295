"""
Run a cell through a server: start a kernel by its REST API, and talk to it through its websocket.

Runs on the host with the Python of the user environment: run_cell.py URL KERNEL CODE. KERNEL is the name of a kernel
to start, or the id of one that runs. Prints what came back as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any

from tornado.httpclient import AsyncHTTPClient, HTTPRequest
from tornado.websocket import websocket_connect

HEADERS = {"Authorization": "token secret"}


async def kernel_id(url: str, kernel: str) -> str:
    """Return the id of a running kernel, or of a new one of that name."""
    if kernel.count("-") == 4:
        return kernel
    body = json.dumps({"name": kernel})
    answer = await AsyncHTTPClient().fetch(f"{url}api/kernels", method="POST", headers=HEADERS, body=body)
    model: dict[str, str] = json.loads(answer.body)
    return model["id"]


async def run(url: str, kernel: str, code: str) -> dict[str, Any]:
    """Run the code and collect its text, results and error until the kernel is idle again."""
    identity = await kernel_id(url, kernel)
    address = f"{url.replace('http', 'ws', 1)}api/kernels/{identity}/channels"
    connection = await websocket_connect(HTTPRequest(address, headers=HEADERS))
    header = {"msg_id": uuid.uuid4().hex, "msg_type": "execute_request", "version": "5.3"}
    header |= {"username": "", "session": "test"}
    content = {"code": code, "silent": False, "store_history": False, "user_expressions": {}, "allow_stdin": False}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
    await connection.write_message(json.dumps(message))
    result: dict[str, Any] = {"kernel": identity, "text": "", "types": [], "error": None}
    while True:
        text = await connection.read_message()
        if text is None:
            raise ConnectionError("the server closed the connection")
        answer = json.loads(text)
        if answer["parent_header"].get("msg_id") != header["msg_id"]:
            continue
        content = answer["content"]
        if answer["msg_type"] == "stream":
            result["text"] += content["text"]
        elif answer["msg_type"] in ("display_data", "execute_result"):
            result["types"] += sorted(content["data"])
        elif answer["msg_type"] == "error":
            result["error"] = f"{content['ename']}: {content['evalue']}"
        elif answer["msg_type"] == "status" and content["execution_state"] == "idle":
            return result


if __name__ == "__main__":
    print(json.dumps(asyncio.run(asyncio.wait_for(run(*sys.argv[1:]), 60))))
