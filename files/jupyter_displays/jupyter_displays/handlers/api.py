"""The REST API of displays."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import errno
import json
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from jupyter_server.auth.decorator import allow_unauthenticated, authorized
from jupyter_server.base.handlers import APIHandler, JupyterHandler
from jupyter_server.utils import url_path_join
from tornado import web

from .. import x11
from ..manager import Display, DisplayManager, now
from .base import HasManager

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..shares import Share

_LARGEST_REQUEST = 1 << 16
_LONGEST_TEXT = 10_000
# As in viewer.ts: what both engines and the page's clipboard carry in either direction.
_LONGEST_COPY = 8 << 20
_LONGEST_TITLE = 100


class _API(HasManager, APIHandler):  # type: ignore[misc]
    """What all handlers of the API have in common."""

    auth_resource = "displays"
    # An open page asks now and then: only what a user does keeps a server from being culled.
    _track_activity = False

    async def prepare(self) -> None:
        """Refuse who may not be here, and what is too long, before anything is done."""
        await self.authenticate()
        if len(self.request.body) > _LARGEST_REQUEST:
            raise web.HTTPError(413, f"A request may have {_LARGEST_REQUEST} bytes.")
        await self.manager.started.wait()

    async def authenticate(self) -> None:
        """Refuse who has not logged in, unless the method is for everybody, and who was sent by another site.

        What is decorated at a method asks later, when the body has come.
        """
        await JupyterHandler.prepare(self)
        method = getattr(self, str(self.request.method).lower())
        # Jupyter's own mark of @allow_unauthenticated, such as for who has a link.
        if self.current_user is None and not getattr(method, "__allow_unauthenticated", False):
            raise web.HTTPError(403)
        self.check_origin()

    def check_origin(self, origin_to_satisfy_tornado: str = "") -> bool:
        """Refuse what another site's page asks for; Jupyter itself would say that there is no such thing."""
        if not super().check_origin(origin_to_satisfy_tornado):
            raise web.HTTPError(403, "Requests of other sites are refused.")
        return True

    def fields(self, **wanted: type) -> dict[str, Any]:
        """Return the fields of the request's JSON object that are there, checked."""
        try:
            body = json.loads(self.request.body or b"{}")
        except (ValueError, RecursionError) as error:
            raise web.HTTPError(400, "The request is not JSON.") from error
        if not isinstance(body, dict):
            raise web.HTTPError(400, "The request is not a JSON object.")
        for name, value in body.items():
            if name not in wanted:
                raise web.HTTPError(400, f"There is no field {name[:40]!r}.")
            if not isinstance(value, wanted[name]) or isinstance(value, bool):
                kind = {int: "a whole number", str: "text"}[wanted[name]]
                raise web.HTTPError(400, f"{name} is not {kind}.")
        # A display that is started again keeps its title, which may be the one that the site gave.
        given = (facts.get("title") for facts in self.manager.list_applications().values())
        if "title" in body and body["title"] not in given:
            body["title"] = _title(body["title"])
        return body

    def reply(self, value: Any, status: int = 200) -> None:
        """Answer with JSON."""
        self.set_status(status)
        self.finish(json.dumps(value))


def _title(title: str) -> str:
    title = title.strip()
    if len(title) > _LONGEST_TITLE or not title.isprintable() or set("<>&") & set(title):
        raise web.HTTPError(400, f"A title is up to {_LONGEST_TITLE} characters of plain text, without < > &.")
    return title


class DisplaysHandler(_API):
    """All displays."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """List displays, and what can be started."""
        manager = self.manager
        # Somebody is about to start one, or to look at one.
        ready = asyncio.ensure_future(manager.prepare())
        if manager.displays:
            await ready
        self.reply(
            {
                "displays": [display.model(manager.base_url) for display in manager.displays.values()],
                "applications": [
                    {"id": name, "title": facts.get("title", name), "description": facts.get("description", "")}
                    for name, facts in manager.list_applications().items()
                ],
                "limit": manager.limit,
            }
        )

    @web.authenticated
    @authorized
    async def post(self) -> None:
        """Start a display."""
        fields = self.fields(application=str, title=str, width=int, height=int, dpi=int)
        await self.manager.prepare()
        display = self.manager.create(**fields)
        self.manager.record_activity(display)
        self.set_header("Location", url_path_join(self.manager.base_url, "api/displays", display.id))
        self.reply(display.model(self.manager.base_url), 201)

    @web.authenticated
    @authorized
    async def delete(self) -> None:
        """Shut all displays down."""
        await self.manager.shut_down_all()
        self.set_status(204)


class DisplayHandler(_API):
    """One display."""

    @web.authenticated
    @authorized
    async def get(self, display_id: str) -> None:
        """Describe it."""
        self.reply(self.manager.get(display_id).model(self.manager.base_url))

    @web.authenticated
    @authorized
    async def patch(self, display_id: str) -> None:
        """Give it another title, or its screen another size."""
        display = self.manager.get(display_id)
        fields = self.fields(title=str, width=int, height=int)
        display.title = fields.get("title") or display.title
        if "width" in fields or "height" in fields:
            width, height = fields.get("width", display.width), fields.get("height", display.height)
            self.manager.check_size(width, height, display.dpi)
            await _until_running(display)
            while display.state == "running" and not display.size_stable:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            display.width, display.height = await _ask_x(display, x11.set_size, width, height, display.dpi)
        if not display.terminated:
            display.save(self.manager.base_url)
        self.manager.emit("changed", display)
        self.reply(display.model(self.manager.base_url))

    @web.authenticated
    @authorized
    async def delete(self, display_id: str) -> None:
        """Shut it down."""
        await self.manager.shut_down(self.manager.get(display_id))
        self.set_status(204)


class ScreenHandler(_API):
    """The picture of a display's screen."""

    @web.authenticated
    @authorized
    async def get(self, display_id: str) -> None:
        """Take the picture."""
        display = self.manager.get(display_id)
        try:
            width = int(self.get_argument("width", "320"))
        except ValueError:
            width = 0
        if not 16 <= width <= 4096:
            raise web.HTTPError(400, "A picture is 16 to 4096 points wide.")
        await _until_running(display)
        picture = await _ask_x(display, x11.png, width)
        self.set_header("Cache-Control", "no-store")
        self.finish(picture, set_content_type="image/png")


def _not_running(display: Display) -> web.HTTPError:
    """Return the refusal of what only a display that runs can do."""
    return web.HTTPError(409, f"This display does not run. {display.reason}")


async def _until_running(display: Display) -> None:
    """Wait for the end of a display's start; refuse if it does not run then."""
    if not await display.ready():
        raise _not_running(display)


async def _ask_x(display: Display, function: Callable[..., Any], *arguments: Any) -> Any:
    """Ask the X server of a display, which may take its time or be dead."""
    call = asyncio.to_thread(function, display.number, display.screen.authority, *arguments)
    try:
        return await asyncio.wait_for(call, 20)
    except x11.TooLongError as error:
        raise web.HTTPError(413, f"{str(error)[:1].upper()}{str(error)[1:]}.") from error
    except (x11.XError, OSError, asyncio.TimeoutError) as error:
        raise web.HTTPError(503, f"The display does not answer: {error or 'it takes too long'}.") from error


class _Input(APIHandler):  # type: ignore[misc]
    """What pages of owners and of guests do with keys and with what was copied."""

    manager: DisplayManager

    async def keymap(self) -> dict[str, Any]:
        """Return which key makes which character."""
        await self.manager.keyboard.prepare(self.manager.directory)
        return self.manager.keyboard.model()

    async def type(self, display: Display, text: str) -> None:
        """Type text into the window that has the focus."""
        if len(text) > _LONGEST_TEXT:
            raise web.HTTPError(413, f"At most {_LONGEST_TEXT} characters are typed at once.")
        if any(character < " " and character not in "\t\n\r\b" for character in text):
            raise web.HTTPError(400, "This text has control characters.")
        await _until_running(display)
        async with display.typing:
            await _ask_x(display, x11.type_text, text, self.manager.keyboard.free)
        self.manager.record_activity(display)

    async def clipboard(self, display: Display) -> None:
        """Send what a program has copied: a text, a picture, or nothing."""
        await _until_running(display)
        kind, data = await _ask_x(display, x11.clipboard, _LONGEST_COPY)
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")
        if kind:
            self.finish(data, set_content_type=kind)
        else:
            self.set_status(204)


class KeymapHandler(_Input, _API):
    """The keyboard of a display."""

    @web.authenticated
    @authorized
    async def get(self, display_id: str) -> None:
        """Tell which key makes which character."""
        self.manager.get(display_id)
        self.reply(await self.keymap())


class ClipboardHandler(_Input, _API):
    """What a program of a display has copied."""

    @web.authenticated
    @authorized
    async def get(self, display_id: str) -> None:
        """Send it."""
        await self.clipboard(self.manager.get(display_id))


class TextHandler(_Input, _API):
    """Text that is typed into a display."""

    @web.authenticated
    @authorized
    async def post(self, display_id: str) -> None:
        """Type it."""
        display = self.manager.get(display_id)
        await self.type(display, self.fields(text=str).get("text", ""))
        self.set_status(204)


class SharesHandler(_API):
    """The links of a display."""

    def link(self, share: Share) -> dict[str, str]:
        """Return a link as the API describes it."""
        url = url_path_join(self.manager.base_url, "displays/shared", share.token)
        return {"id": share.id, "mode": share.mode, "url": url, "created": share.created}

    @web.authenticated
    @authorized
    async def get(self, display_id: str) -> None:
        """List them."""
        display = self.manager.get(display_id)
        self.reply({"shares": [self.link(share) for share in self.manager.shares.of(display.id)]})

    @web.authenticated
    @authorized
    async def post(self, display_id: str) -> None:
        """Make one."""
        display = self.manager.get(display_id)
        mode = self.fields(mode=str).get("mode", "view")
        if mode not in {"view", "control"}:
            raise web.HTTPError(400, "The mode is view or control.")
        if display.terminated or display.state == "stopping":
            raise _not_running(display)
        share = self.manager.shares.create(display.id, mode, now())
        self.manager.shares.save(display.id, display.directory)
        self.reply(self.link(share), 201)


class ShareHandler(_API):
    """One link of a display."""

    @web.authenticated
    @authorized
    async def delete(self, display_id: str, share_id: str) -> None:
        """Take it back, which sends away who came by it."""
        display = self.manager.get(display_id)
        if self.manager.shares.remove(display.id, share_id) is None:
            raise web.HTTPError(404, "There is no such link.")
        with contextlib.suppress(OSError):
            self.manager.shares.save(display.id, display.directory)
        for stream, close in list(display.close_viewer.items()):
            if getattr(stream, "share", "") == share_id:
                close(4403, "This link was taken back.")
        self.set_status(204)


class FilesHandler(_API):
    """The files that a display and the browser exchange."""

    @web.authenticated
    @authorized
    async def get(self, display_id: str) -> None:
        """List what can be downloaded."""
        self.manager.get(display_id)
        self.reply({"files": await asyncio.to_thread(_list_files, self.manager.files)})


def _list_files(directory: Path) -> list[dict[str, Any]]:
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(directory):
            if entry.is_file() and not entry.name.startswith("."):
                about = entry.stat()
                changed = dt.datetime.fromtimestamp(about.st_mtime, dt.timezone.utc).isoformat()
                found.append({"name": entry.name, "size": about.st_size, "modified": changed})
    return sorted(found, key=lambda file: str(file["name"]).casefold())


def _create(directory: Path, name: str) -> IO[bytes]:
    """Open a new file; one that is there is never written over."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    for number in range(1, 1000):
        with contextlib.suppress(FileExistsError):
            return path.open("xb")
        path = directory / f"{Path(name).stem} ({number}){Path(name).suffix}"
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)


@web.stream_request_body
class FileHandler(_API):
    """One file that a display and the browser exchange."""

    _BLOCK: ClassVar[int] = 1 << 20
    _file: IO[bytes] | None = None
    # Nothing is taken from who is not known yet.
    _error: web.HTTPError | None = web.HTTPError(403)

    async def prepare(self) -> None:
        """Know who it is, and that they may send a file, before a byte is taken."""
        self._block = bytearray()
        self._taken = 0
        await self.authenticate()
        if self.request.method == "POST":
            await self._authorize_upload()
        # The connection's own limit is not ours.
        self.request.connection.set_max_body_size(1 << 50)  # type: ignore[union-attr]
        self._check_size(int(self.request.headers.get("Content-Length") or 0))
        self._error = None

    @authorized("write")
    async def _authorize_upload(self) -> None:
        """Refuse who may use this server, but send it nothing."""

    def _check_size(self, size: int) -> None:
        if self.request.method == "POST" and size > self.manager.upload_limit:
            raise web.HTTPError(413, f"A file may have {self.manager.upload_limit} bytes.")

    @staticmethod
    def _name(name: str) -> str:
        if not name or name.startswith(".") or "/" in name or not name.isprintable() or len(os.fsencode(name)) > 240:
            raise web.HTTPError(400, "This name of a file cannot be used.")
        return name

    async def _open(self) -> None:
        display_id, name = self.path_args
        self.manager.get(display_id)
        self._file = await asyncio.to_thread(_create, self.manager.files, self._name(name))

    async def _write(self, least: int) -> None:
        if self._file and len(self._block) >= least:
            block, self._block = bytes(self._block), bytearray()
            await asyncio.to_thread(self._file.write, block)

    async def data_received(self, chunk: bytes) -> None:
        """Write what has come, a block at a time."""
        if self._error or self.request.method != "POST":
            return
        try:
            if self._file is None:
                await self._open()
            self._block += chunk
            self._taken += len(chunk)
            self._check_size(self._taken)
            await self._write(self._BLOCK)
        except web.HTTPError as error:
            self._discard()
            self._error = error
        except OSError as error:
            self._error = self._failed(error)

    def _failed(self, error: OSError) -> web.HTTPError:
        self._discard()
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return web.HTTPError(507 if full else 503, f"The file cannot be written: {error.strerror}.")

    def _discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                Path(self._file.name).unlink()
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def on_connection_close(self) -> None:
        """Keep no half of a file."""
        self._discard()
        super().on_connection_close()

    def on_finish(self) -> None:
        """Keep nothing of what was refused."""
        self._discard()
        super().on_finish()

    @web.authenticated
    @authorized
    async def post(self, display_id: str, name: str) -> None:  # noqa: ARG002
        """Finish the file."""
        try:
            if self._error is None and self._file is None:
                await self._open()  # It is empty.
            if self._error is not None:
                raise self._error
            assert self._file is not None  # noqa: S101
            await self._write(1)
            size = self._file.tell()
            await asyncio.to_thread(self._file.close)
        except OSError as error:
            raise self._failed(error) from error
        path = Path(self._file.name)
        self._file = None
        self.reply({"name": path.name, "size": size}, 201)

    @web.authenticated
    @authorized
    async def get(self, display_id: str, name: str) -> None:
        """Download a file."""
        self.manager.get(display_id)
        path = self.manager.files / self._name(name)
        try:
            if not path.is_file():
                raise web.HTTPError(404, "There is no such file.")
            with path.open("rb") as file:
                self.set_header("Content-Length", os.fstat(file.fileno()).st_size)
                self.set_header("Content-Type", "application/octet-stream")
                self.set_header("Content-Disposition", f"attachment; filename*=UTF-8''{quote(name, safe='')}")
                self.set_header("X-Content-Type-Options", "nosniff")
                while block := await asyncio.to_thread(file.read, self._BLOCK):
                    self.write(block)
                    await self.flush()
        except OSError as error:
            raise web.HTTPError(503, f"The file cannot be read: {error.strerror}.") from error
        self.finish(set_content_type="application/octet-stream")


class SharedInputHandler(_Input, _API):
    """The keyboard and the clipboard of a display for who has a link."""

    def _display(self, token: str) -> Display:
        share = self.manager.shares.by_token(token)
        if share is None or share.mode != "control":
            raise web.HTTPError(403, "Only looking is allowed.")
        return self.manager.get(share.display)

    def check_xsrf_cookie(self) -> None:
        """Trust the link's token, which no other site knows."""

    @allow_unauthenticated
    async def get(self, token: str, what: str) -> None:
        """Tell which key makes which character, or what was copied."""
        display = self._display(token)
        if what == "keymap":
            self.reply(await self.keymap())
        elif what == "clipboard":
            await self.clipboard(display)
        else:
            raise web.HTTPError(405)

    @allow_unauthenticated
    async def post(self, token: str, what: str) -> None:
        """Type text."""
        if what != "text":
            raise web.HTTPError(405)
        await self.type(self._display(token), self.fields(text=str).get("text", ""))
        self.set_status(204)
