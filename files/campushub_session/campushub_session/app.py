"""The extension of the Jupyter server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_server.extension.application import ExtensionApp
from traitlets import Unicode, default

from .announcements import AnnouncementFile
from .cgroups import Slice
from .events import SCHEMAS
from .handlers import DISPLAY_SCRIPT, HANDLERS
from .monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Callable


class SessionApp(ExtensionApp):  # type: ignore[misc]
    """Tells open pages what their user uses of their limits, and which program was killed for want of memory."""

    name = "campushub_session"
    # Jupyter would make it jupyter_campushub_session_config.
    config_file_name = "campushub_session_config"
    extension_url = "/api/session"
    load_other_extensions = True

    slice_name = Unicode(
        config=True,
        help="The slice in which everything of the user runs. Elsewhere the control group of the server counts.",
    )
    announcement_file = Unicode(
        "/etc/campushub/announcement.json", config=True, help="What administrators announce, as the event describes it."
    )

    @default("slice_name")
    def _slice_of_this_user(self) -> str:
        # A forked server has imported this file as another user.
        return f"jupyterhub-{os.getuid()}.slice"

    monitor: Monitor
    _stop_server: Callable[[], None]

    def initialize_settings(self) -> None:
        """Make the monitor."""
        server = self.serverapp
        for schema in SCHEMAS:
            server.event_logger.register_event_schema(schema)

        announcements = AnnouncementFile(Path(self.announcement_file))
        self.monitor = Monitor(server, Slice(self.slice_name), announcements)
        self.settings["session_monitor"] = self.monitor
        self.settings["display_page_scripts"] = [DISPLAY_SCRIPT]
        server.io_loop.add_callback(self.monitor.start)
        # From then on Jupyter takes no new connections, over which pages save.
        self._stop_server = server.stop
        server.stop = self._stop

    def _stop(self, from_signal: bool = False) -> None:  # noqa: ARG002 (Jupyter's)
        self.serverapp.io_loop.add_callback_from_signal(self._say_goodbye_and_stop)

    async def _say_goodbye_and_stop(self) -> None:
        await self.monitor.ends.say_goodbye()
        self._stop_server()

    def initialize_handlers(self) -> None:
        """Add the API."""
        self.handlers.extend(HANDLERS)

    async def stop_extension(self) -> None:
        """End with the server."""
        self.monitor.stop()
