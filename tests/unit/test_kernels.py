"""Kernels that do not name their sockets as ipykernel does, or end at once, in a real server of Jupyter."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.settings.validation import ROOT
from tests.unit.user_server import FILES, Server, until

OPTIONS = (
    "--ServerApp.kernel_manager_class=campushub_server.kernels.CampusMappingKernelManager",
    *("--KernelManager.transport=ipc", "--KernelRestarter.random_ports_until_alive=False"),
    "--MappingKernelManager.kernel_manager_class=campushub_server.kernels.CampusKernelManager",
    "--AsyncIOLoopKernelManager.restarter_class=campushub_server.kernels.Restarter",
)
# A stand-in for kernels in other languages, which put their addresses together as for TCP.
COLON = """
from ipykernel.kernelapp import IPKernelApp
class Colon(IPKernelApp):
    def _try_bind_socket(self, socket, port):
        socket.bind(f"{self.transport}://{self.ip}:{port}")
        return port
Colon.launch_instance()
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    # Names of sockets must not be long.
    directory = tmp_path_factory.mktemp("k")
    kernels = {
        "colon": [sys.executable, "-c", COLON, "-f", "{connection_file}"],
        "false": ["/bin/false", "{connection_file}"],
        "python": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
    }
    for name, command in kernels.items():
        folder = directory / ".local/share/jupyter/kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps({"argv": command, "display_name": name, "language": "python"}))
    settings = directory / ".jupyter/jupyter_server_config.py"
    settings.parent.mkdir()
    message_kernel = str(FILES / "message_kernel.py")
    settings.write_text(f"from campushub_server import kernels\nkernels.MESSAGE_KERNEL = {message_kernel!r}\n")
    started = Server(directory, *OPTIONS)
    yield started
    started.end()


def cell(server: Server, kernel: str) -> dict[str, Any]:
    program = ROOT / "molecule/jupyter/run_cell.py"
    command = [sys.executable, str(program), f"http://127.0.0.1:{server.port}/", kernel, "print(6 * 7)"]
    result: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return result


def sockets(server: Server) -> list[Path]:
    return [path for path in (server.directory / "run").iterdir() if "-ipc" in path.name]


@pytest.mark.parametrize("name", ["python", "colon"])
def test_a_kernel_is_reached_whatever_it_calls_its_sockets(server: Server, name: str) -> None:
    result = cell(server, name)
    assert (result["text"], result["error"]) == ("42\n", None)
    server.api(f"api/kernels/{result['kernel']}/restart", "POST")
    assert cell(server, result["kernel"])["text"] == "42\n"
    server.api(f"api/kernels/{result['kernel']}", "DELETE")
    until(lambda: sockets(server) == [], f"no socket: {sockets(server)}")


def test_a_kernel_that_ends_at_once_is_told(server: Server) -> None:
    """As those that know TCP alone."""
    result = cell(server, "false")
    assert result["error"].startswith("KernelCannotStart: The kernel false ends as soon as it has started.")
    server.api(f"api/kernels/{result['kernel']}", "DELETE")


def test_a_kernel_that_restarts_is_ended(server: Server) -> None:
    """The page of a notebook asks for its end when it is closed, whatever the kernel does at the moment."""
    kernel = server.api("api/kernels", "POST")["id"]
    with ThreadPoolExecutor() as pool:
        restart = pool.submit(server.api, f"api/kernels/{kernel}/restart", "POST")
        time.sleep(0.05)
        server.api(f"api/kernels/{kernel}", "DELETE")
        assert kernel not in [model["id"] for model in server.api("api/kernels")]
        assert restart.result()["id"] == kernel
