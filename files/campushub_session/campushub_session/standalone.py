"""Limits, ends and announcements in `jupyterhub-desktop` of jupyter_displays, a server without notebooks."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from jupyter_events.logger import EventLogger
from jupyter_server.services.events.handlers import SubscribeWebsocket

from .announcements import AnnouncementFile
from .app import SessionApp
from .cgroups import Slice
from .events import SCHEMAS
from .handlers import DISPLAY_SCRIPT, HANDLERS
from .monitor import Monitor

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tornado.web import Application


class NoKernels:
    """In the place of Jupyter's managers of kernels and of their sessions."""

    last_kernel_activity = dt.datetime.min.replace(tzinfo=dt.timezone.utc)

    def list_kernel_ids(self) -> list[str]:
        """Return none."""
        return []

    async def list_sessions(self) -> list[dict[str, Any]]:
        """Return none."""
        return []


def extend(app: Any, application: Application, prefix: str) -> Callable[[], Awaitable[None]]:
    """Add what SessionApp adds to a Jupyter server, with the same settings."""
    settings = SessionApp(parent=app)
    logger = EventLogger(parent=app)
    for schema in SCHEMAS:
        logger.register_event_schema(schema)
    application.settings.update(
        event_logger=logger,
        started=dt.datetime.now(dt.timezone.utc),
        last_activity_times={},
        display_page_scripts=[DISPLAY_SCRIPT],
    )
    app.manager.on_activity(lambda moment: application.settings.update(displays_last_activity=moment))

    kernels = NoKernels()
    server = SimpleNamespace(
        log=app.log, event_logger=logger, web_app=application, kernel_manager=kernels, session_manager=kernels
    )
    monitor = Monitor(server, Slice(settings.slice_name), AnnouncementFile(Path(settings.announcement_file)))
    application.settings["session_monitor"] = monitor
    routes: list[tuple[Any, ...]] = [("/api/events/subscribe", SubscribeWebsocket), *HANDLERS]
    application.add_handlers(".*", [(prefix + pattern, *rest) for pattern, *rest in routes])
    monitor.start()

    async def end() -> None:
        await monitor.ends.say_goodbye()
        monitor.stop()

    return end
