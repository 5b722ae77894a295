# Managed by CampusHub
"""
Kernels on unix sockets, as far as they can, and a word of those that cannot.

Jupyter names the socket of a channel "ip-number", as ipykernel does. Some kernels in other languages put their address
together as for TCP, "ip:number", and nobody would ever hear of them. Others know TCP alone and end at once; TCP is no
way here, because other users of the host could read along.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import Any

from jupyter_client.ioloop.restarter import AsyncIOLoopKernelRestarter
from jupyter_server.services.kernels.kernelmanager import (
    AsyncMappingKernelManager,
    ServerKernelManager,
)

# A kernel that answers each cell with one message.
MESSAGE_KERNEL = "/usr/local/lib/campushub/kernels/message_kernel.py"
# How often in a row a kernel may end before its first word.
SILENT_ENDS = 2
SILENT = (
    "The kernel {name} ends as soon as it has started. What it prints is in the log of this server. Kernels use Unix "
    "sockets here, because other users of this computer could read along on TCP ports; perhaps it knows only these."
)


class Restarter(AsyncIOLoopKernelRestarter):
    """A kernel that dies at work is not busy when it comes back: a notebook that is told so waits indefinitely."""

    def start(self) -> None:
        """Begin to watch the kernel."""
        if self.starts_again not in self.callbacks["restart"]:
            self.add_callback(self.starts_again, "restart")
        super().start()

    def starts_again(self) -> None:
        """Note that the kernel has ended, and whether it had said anything."""
        manager = self.kernel_manager
        manager.silent_ends = manager.silent_ends + 1 if manager.execution_state == "starting" else 0
        manager.execution_state = "starting"


class CampusKernelManager(ServerKernelManager):
    """Jupyter's own manager of a kernel, with both names for each socket."""

    silent_ends = 0

    def write_connection_file(self, *args: Any, **kwargs: Any) -> None:
        """Tell the kernel its sockets, and make links to what others than ipykernel call them."""
        super().write_connection_file(*args, **kwargs)
        if self.transport == "ipc":
            for port in self.ports:
                # A kernel that uses this name puts its socket in the place of the link.
                with contextlib.suppress(FileExistsError):
                    os.symlink(f"{Path(self.ip).name}:{port}", f"{self.ip}-{port}")

    def cleanup_ipc_files(self) -> None:
        """Remove the sockets of a kernel that has ended, by either name."""
        super().cleanup_ipc_files()
        if self.transport == "ipc":
            for port in self.ports:
                with contextlib.suppress(OSError):
                    os.unlink(f"{self.ip}:{port}")

    async def _async_pre_start_kernel(self, **kwargs: Any) -> tuple[list[str], dict[str, Any]]:
        """Start, in the place of a kernel that ends again and again, one that says so."""
        command, options = await super()._async_pre_start_kernel(**kwargs)
        if self.silent_ends >= SILENT_ENDS:
            # Whoever restarts it tries the real one again.
            self.silent_ends = 0
            name = self.kernel_spec.display_name if self.kernel_spec else self.kernel_name
            message = f"--MessageKernel.message={SILENT.format(name=name)}"
            command = [sys.executable, MESSAGE_KERNEL, "-f", self.connection_file, message]
        return command, options


class CampusMappingKernelManager(AsyncMappingKernelManager):
    """Jupyter's own manager of all kernels, which can end one that restarts."""

    async def _async_shutdown_kernel(self, kernel_id: str, *args: Any, **kwargs: Any) -> None:
        """End a kernel after its restart. In the middle of it jupyter_client fails, and the kernel goes on."""
        kernel = self.get_kernel(kernel_id)
        # More than once: first the old kernel ends, then the new one starts.
        while not kernel.ready.done():
            await asyncio.wait([asyncio.wrap_future(kernel.ready)])
        await super()._async_shutdown_kernel(kernel_id, *args, **kwargs)  # type: ignore[no-untyped-call]

    shutdown_kernel = _async_shutdown_kernel  # type: ignore[assignment]
