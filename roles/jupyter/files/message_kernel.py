# Managed by CampusHub
"""A kernel that says one thing, whatever it is asked: why the kernel that was wanted could not start."""

from __future__ import annotations

from typing import Any

from ipykernel.kernelapp import IPKernelApp
from ipykernel.kernelbase import Kernel
from traitlets import Unicode

REMEDY = (
    "Try again with Kernel > Restart Kernel. If this lasts, tell those who run this server; other kernels work as ever."
)


class MessageKernel(Kernel):
    """Answers each cell with an error."""

    message = Unicode("", help="What it says.").tag(config=True)

    implementation = "campushub-message"
    implementation_version = "1"
    language_info = {"name": "text", "mimetype": "text/plain", "file_extension": ".txt"}  # noqa: RUF012

    def __init__(self, **settings: Any) -> None:
        """Say it at first in consoles, too."""
        super().__init__(**settings)  # type: ignore[no-untyped-call]  # it has no types
        self.banner = f"{self.message} {REMEDY}"

    async def do_execute(
        self,
        code: str,
        silent: bool,
        store_history: bool = True,
        user_expressions: Any = None,
        allow_stdin: bool = False,
        **others: Any,
    ) -> dict[str, Any]:
        """Say why nothing is executed."""
        del code, store_history, user_expressions, allow_stdin, others
        error = {"ename": "KernelCannotStart", "evalue": self.message, "traceback": [self.message, REMEDY]}
        if not silent:
            self.send_response(self.iopub_socket, "error", error)  # type: ignore[no-untyped-call]
        return {"status": "error", "execution_count": self.execution_count, **error}


if __name__ == "__main__":
    IPKernelApp.launch_instance(kernel_class=MessageKernel)
