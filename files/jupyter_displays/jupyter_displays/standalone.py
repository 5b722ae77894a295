"""`jupyterhub-desktop`: a display behind JupyterHub without any notebook server.

JupyterHub starts it in place of `jupyterhub-singleuser`. It has the handlers of the extension and nothing
else: no kernels, no files of the home directory, no terminals. Whoever asks is known by JupyterHub's OAuth,
pages and WebSockets alike.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import json
import os
import re
import secrets
import signal
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any
from urllib.parse import unquote, urlsplit

from jupyter_core.application import JupyterApp
from jupyter_server.auth.authorizer import AllowAllAuthorizer
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.base.handlers import APIHandler
from jupyterhub import __version__ as hub_version
from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler
from jupyterhub.utils import make_ssl_context
from tornado import httpclient, httpserver, netutil, web
from tornado.httputil import url_concat
from traitlets import Float, Instance, Integer, List, Unicode, default

from .engines import ENGINES
from .handlers import handlers
from .handlers.pages import PageHandler
from .manager import Display, DisplayManager
from .translation import gettext_noop


class HubIdentityProvider(IdentityProvider):  # type: ignore[misc]
    """Who asks, as JupyterHub knows them; whoever may not use this server is nobody."""

    hub_auth = Instance(HubOAuth)

    @default("hub_auth")
    def _default_hub_auth(self) -> HubOAuth:
        return HubOAuth(parent=self)

    async def get_user(self, handler: web.RequestHandler) -> User | None:
        """Return the user of a request, if they may use this server."""
        plain = handler.get_login_url
        handler.get_login_url = lambda: self._login_url(handler, plain)  # type: ignore[method-assign]
        model = await self.hub_auth.get_user(handler, sync=False)
        if model is None:
            return None
        if not self.hub_auth.check_scopes(self.hub_auth.access_scopes, model):
            self.log.warning("%s may not use this server", model["name"])

            def refuse(*_arguments: Any, **_options: Any) -> None:
                raise web.HTTPError(403, gettext_noop("You may not use this server."))

            # Logging in again would not help.
            handler.redirect = refuse  # type: ignore[method-assign]
            return None
        return User(username=model["name"])

    def is_token_authenticated(self, handler: web.RequestHandler) -> bool:
        """Return whether a request came with a token of its own, which no browser sends without a script."""
        return bool(getattr(handler, "_token_authenticated", False))

    def should_check_origin(self, handler: web.RequestHandler) -> bool:
        """Return whether a request may come from a page of another site."""
        return not self.is_token_authenticated(handler)

    def _login_url(self, handler: web.RequestHandler, plain: Any) -> str:
        """Return where JupyterHub sends the browser back from."""
        if isinstance(handler, APIHandler):
            return str(plain())  # It refuses instead.
        parameters = {}
        options = {"next_url": handler.request.uri}
        if getattr(self.hub_auth, "pkce_enabled", False):
            verifier, challenge, method = self.hub_auth.generate_pkce_code_challenge()
            options["code_verifier"] = verifier
            parameters = {"code_challenge": challenge, "code_challenge_method": method}
        parameters["state"] = self.hub_auth.set_state_cookie(handler, **options)
        return str(url_concat(self.hub_auth.login_url, parameters))


class CallbackHandler(HubOAuthCallbackHandler):  # type: ignore[misc]
    """The end of a login."""

    @property
    def hub_auth(self) -> HubOAuth:
        """What knows of JupyterHub."""
        return self.settings["identity_provider"].hub_auth

    @allow_unauthenticated
    async def get(self) -> None:
        """Keep who it is in a cookie, and go on."""
        await super().get()


class StartHandler(PageHandler):
    """The page of the user's desktop, which is started if there is none."""

    @web.authenticated
    async def get(self) -> None:  # type: ignore[override]
        """Send the page, which shows how far the start is, and offers another one when it is over."""
        await self.manager.started.wait()
        await self.manager.prepare()
        app: StandaloneDisplayApp = self.settings["standalone_app"]
        display = app.current()
        self.show_own(display.id, display)


class StandaloneDisplayApp(JupyterApp):  # type: ignore[misc]
    """One display behind JupyterHub."""

    name = "jupyterhub-desktop"
    config_file_name = "jupyter_displays_config"
    description = __doc__
    classes = [DisplayManager, *ENGINES.values(), HubIdentityProvider]  # noqa: RUF012
    aliases = {"application": "StandaloneDisplayApp.application", "engine": "DisplayManager.engine"}  # noqa: RUF012

    application = Unicode("desktop", help="What is started.").tag(config=True)
    width = Integer(1280, help="The width of the screen before anybody looks.").tag(config=True)
    height = Integer(800, help="The height of the screen before anybody looks.").tag(config=True)
    activity_interval = Float(
        float(os.environ.get("JUPYTERHUB_ACTIVITY_INTERVAL") or 300),
        help="Every so many seconds JupyterHub is told when a key or the pointer was used last.",
    ).tag(config=True)

    extensions = List(
        Unicode(),
        help="""Modules that add to this server. Each has a function `extend(app, application, prefix)`, which gets
        this, its web application and a pattern of the server's address, and returns what is awaited at the end.""",
    ).tag(config=True)

    manager: DisplayManager

    @classmethod
    def section_names(cls) -> list[str]:
        """Read the settings of a site that has the class's name of 1.0 in its configuration, too."""
        return ["DesktopApp", *super().section_names()]

    def migrate_config(self) -> None:
        """Look for no settings of IPython 3: to note in a full home that it was done would end the start."""

    @property
    def base_url(self) -> str:
        """The URL path that JupyterHub gave to this server."""
        return "/" + os.environ.get("JUPYTERHUB_SERVICE_PREFIX", "/").strip("/") + "/"

    def current(self) -> Display:
        """Return the newest display, or a new one where there is none."""
        displays = list(self.manager.displays.values())
        running = [display for display in displays if not display.terminated] or displays
        if running:
            return max(running, key=lambda display: display.created)
        return self.manager.create(self.application, width=self.width, height=self.height)

    @property
    def prefix(self) -> str:
        """A pattern of this server's address: a browser may send it as JupyterHub wrote it, or decoded."""
        base = self.base_url.rstrip("/")
        return "(?:" + "|".join({re.escape(base), re.escape(unquote(base))}) + ")"

    def make_application(self) -> web.Application:
        """Return the web application."""
        prefix = self.prefix
        routes: list[tuple[Any, ...]] = [
            (prefix + r"/oauth_callback", CallbackHandler),
            (prefix + r"/?", StartHandler),
            # Where the hub and old bookmarks lead.
            (prefix + r"/(?:lab|tree)(?:/.*)?", web.RedirectHandler, {"url": self.base_url, "permanent": False}),
        ]
        routes += [(prefix + pattern, *rest) for pattern, *rest in handlers()]
        identity = HubIdentityProvider(parent=self, log=self.log)
        self.hub_auth = identity.hub_auth
        return web.Application(
            routes,
            base_url=self.base_url,
            identity_provider=identity,
            authorizer=AllowAllAuthorizer(parent=self, identity_provider=identity),
            display_manager=self.manager,
            standalone_app=self,
            hub_home=f"{self.hub_auth.hub_host}{self.hub_auth.hub_prefix}home",
            config=self.config,
            serverapp=None,
            allow_remote_access=True,
            cookie_secret=secrets.token_bytes(32),
            headers={"X-JupyterHub-Version": hub_version, "Content-Security-Policy": "frame-ancestors 'self'"},
            ws_ping_interval=30_000,
            ws_ping_timeout=30_000,
            xsrf_cookies=False,  # Jupyter's handlers check it, once they know who asks.
            log_function=lambda _handler: None,
        )

    def extend(self, application: web.Application) -> list[Callable[[], Awaitable[None]]]:
        """Add the extensions, and return what they do at the end. The display is there without one that is broken."""
        ends = []
        for name in self.extensions:
            try:
                ends.append(importlib.import_module(name).extend(self, application, self.prefix))
            except Exception:
                self.log.exception("The extension %s does not work", name)
        return ends

    def listen(self, application: web.Application) -> httpserver.HTTPServer:
        """Listen where JupyterHub looks: on a port, or on a unix socket."""
        where = urlsplit(os.environ.get("JUPYTERHUB_SERVICE_URL", "http://127.0.0.1:8888/"))
        context: ssl.SSLContext | None = None
        if where.scheme == "https":
            context = make_ssl_context(
                os.environ["JUPYTERHUB_SSL_KEYFILE"],
                os.environ["JUPYTERHUB_SSL_CERTFILE"],
                cafile=os.environ.get("JUPYTERHUB_SSL_CLIENT_CA"),
                purpose=ssl.Purpose.CLIENT_AUTH,
            )
        server = httpserver.HTTPServer(application, xheaders=True, ssl_options=context)
        if "unix" in where.scheme:
            # JupyterHub's proxy, which has another user, gets in as far as the directory lets it.
            server.add_socket(netutil.bind_unix_socket(unquote(where.netloc), mode=0o666))
        else:
            server.listen(where.port or (443 if context else 80), where.hostname or "")
        return server

    async def report(self) -> None:
        """Tell JupyterHub when a key or the pointer was used last, as long as this server lives."""
        url = os.environ.get("JUPYTERHUB_ACTIVITY_URL", "")
        moment = dt.datetime.now(dt.timezone.utc)
        told: dt.datetime | None = None

        def used(now: dt.datetime) -> None:
            nonlocal moment
            moment = now

        self.manager.on_activity(used)
        context = make_ssl_context(self.hub_auth.keyfile, self.hub_auth.certfile, cafile=self.hub_auth.client_ca)
        while url:
            if moment != told:
                when = moment.isoformat().replace("+00:00", "Z")
                name = os.environ.get("JUPYTERHUB_SERVER_NAME", "")
                body = {"servers": {name: {"last_activity": when}}, "last_activity": when}
                try:
                    await httpclient.AsyncHTTPClient().fetch(
                        url,
                        method="POST",
                        headers={"Authorization": f"token {self.hub_auth.api_token}"},
                        body=json.dumps(body),
                        ssl_options=context,
                    )
                    told = moment
                except (OSError, httpclient.HTTPError) as error:
                    # The hub may be restarting: it is told the next time.
                    self.log.warning("JupyterHub was not told of activity: %s", error)
            await asyncio.sleep(self.activity_interval)

    async def serve(self) -> None:
        """Serve until told to stop."""
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        self.manager = DisplayManager(base_url=self.base_url, parent=self, log=self.log)
        application = self.make_application()
        ends = self.extend(application)
        server = self.listen(application)
        await self.manager.start()
        try:
            self.current()
        except web.HTTPError as error:
            self.log.error("%s", error.log_message)  # noqa: TRY400
        report = asyncio.ensure_future(self.report())
        self.log.info("The desktop is at %s", self.base_url)
        await stop.wait()
        self.log.info("Stopping")
        report.cancel()
        for end in ends:
            await end()
        server.stop()
        await self.manager.stop()
        with suppress(OSError, asyncio.TimeoutError):
            await asyncio.wait_for(server.close_all_connections(), 1)

    def start(self) -> None:
        """Run."""
        super().start()
        asyncio.run(self.serve())


main = StandaloneDisplayApp.launch_instance

if __name__ == "__main__":
    main()
