"""Runs one cell in a kernel through Jupyter's own interface, and prints as JSON what it said."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager
from jupyter_core.paths import jupyter_runtime_dir

said: list[dict[str, Any]] = []


def remember(message: dict[str, Any]) -> None:
    """Keep what a message says."""
    said.append({name: message["content"].get(name) for name in ("text", "ename", "evalue")})


begin = time.monotonic()
# As role jupyter tells servers: sockets in the user's own directory.
Path(jupyter_runtime_dir()).mkdir(mode=0o700, parents=True, exist_ok=True)
directory = f"{jupyter_runtime_dir()}/kernel-test-{os.getpid()}"
manager = KernelManager(kernel_name=sys.argv[1], transport="ipc", ip=directory)
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
client.execute_interactive(sys.argv[2], timeout=60, output_hook=remember)
seconds = time.monotonic() - begin
manager.shutdown_kernel(now=True)
print(json.dumps({"said": said, "seconds": seconds}))
