"""The extension of the Jupyter server."""

from __future__ import annotations

from typing import Any

from jupyter_server.extension.application import ExtensionApp

from .events import SCHEMA_ID, load_schema
from .handlers import handlers
from .manager import DisplayManager


class DisplaysApp(ExtensionApp):  # type: ignore[misc]
    """Displays beside the notebooks of a Jupyter server."""

    name = "jupyter_displays"
    # Jupyter would make it jupyter_jupyter_displays_config.
    config_file_name = "jupyter_displays_config"
    extension_url = "/api/displays"
    load_other_extensions = True
    classes = [DisplayManager]  # noqa: RUF012

    manager: DisplayManager

    def initialize_settings(self) -> None:
        """Make the manager, and have it find the displays of an earlier server."""
        server = self.serverapp
        server.event_logger.register_event_schema(load_schema())

        def emit(data: dict[str, Any]) -> None:
            server.event_logger.emit(schema_id=SCHEMA_ID, data=data)

        self.manager = DisplayManager(base_url=server.base_url, emit=emit, parent=self, log=self.log)
        self.manager.on_activity(lambda moment: server.web_app.settings.update(displays_last_activity=moment))
        self.settings["display_manager"] = self.manager
        server.io_loop.add_callback(self.manager.start)

    def initialize_handlers(self) -> None:
        """Add the API and the pages."""
        self.handlers.extend(handlers())

    def current_activity(self) -> dict[str, Any] | None:
        """Return the displays, while which a server without kernels is not shut down."""
        return {
            name: display.state for name, display in self.manager.displays.items() if not display.terminated
        } or None

    async def stop_extension(self) -> None:
        """End with the server."""
        await self.manager.stop()
