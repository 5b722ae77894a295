#!/bin/sh
# jupyter_client 8.10.0: KernelManager.shutdown_wait_time = N gives a kernel N/2; then SIGTERM ends it.
#
# The help text reads "Time to wait for a kernel to terminate before killing it, in seconds". A cell that takes the interrupt
# and needs 5 of its 8 seconds to save is ended after 4, since ipykernel does not handle SIGTERM; with 12 it is left to save.
#
# Seen with jupyter_client 8.10.0 and ipykernel 7.4.0: "8: not saved, gone after 4.1 s", "12: saved".
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyter_client==8.10.0 ipykernel==7.4.0 pyzmq==27.1.0
cd "$folder"
HOME=$folder "$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
import time
from pathlib import Path

import ipykernel
import jupyter_client
from jupyter_client.manager import KernelManager

SAVES = """
import time
try:
    time.sleep(60)
except KeyboardInterrupt:
    time.sleep(5)
    open("saved", "w").close()
"""


def shut_down(wait: float) -> tuple[bool, float]:
    """Whether the cell had saved, and the seconds until the kernel was gone."""
    saved = Path("saved")
    saved.unlink(missing_ok=True)
    manager = KernelManager(kernel_name="python3", shutdown_wait_time=wait)
    manager.start_kernel(stderr=subprocess.DEVNULL)
    client = manager.client()
    client.start_channels()
    client.wait_for_ready(timeout=60)
    client.execute(SAVES)
    time.sleep(2)
    before = time.monotonic()
    manager.shutdown_kernel()
    took = time.monotonic() - before
    client.stop_channels()
    return saved.exists(), took


print(f"jupyter_client {jupyter_client.__version__}, ipykernel {ipykernel.__version__}")
seen = []
for wait in (8.0, 12.0):
    saved, took = shut_down(wait)
    print(f"shutdown_wait_time = {wait:.0f}: {'saved' if saved else 'not saved'}, gone after {took:.1f} s")
    seen.append(saved)
sys.exit(seen != [False, True])
PYTHON
