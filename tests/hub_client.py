#!/usr/bin/env python3
"""
A user of the hub without a browser: logs in, starts a server, runs code in a kernel, stops the server.

Tests and benchmarks import it, or copy it to a test host and run it there with the hub's Python:

    python hub_client.py URL USER PASSWORD ACTION [ARGUMENT]

    login           log in; prints the address of the page that follows
    start [NAME]    start a server, wait until it answers; prints the seconds that took
    stop [NAME]     stop it
    run CODE        run code in a new kernel of a running server; prints what it printed
    shell COMMAND   run a command in a terminal of a running server; prints what it printed
    get PATH        prints the status and the start of the answer

Where the hub sends people to an OpenID Connect provider, PASSWORD is provider:ACCOUNT, and that account logs in on the
provider's pages.

Needs tornado (for the kernel's websocket) and nothing else.
"""

from __future__ import annotations

import asyncio
import html
import http.client
import json
import re
import socket
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from http.cookiejar import CookieJar
from typing import Any


class HubError(Exception):
    """The hub refused something; the text has its status and its words."""


class DirectedHandler(urllib.request.HTTPSHandler):
    """Connects to one address, whatever the name in the URL is."""

    def __init__(self, tls: ssl.SSLContext, address: tuple[str, int] | None) -> None:
        """Connect to the name's own address where none is given."""
        super().__init__(context=tls)
        self.tls = tls
        self.address = address

    def https_open(self, request: urllib.request.Request) -> Any:
        """Send a request."""
        connect: Any = self.connection if self.address else http.client.HTTPSConnection
        return self.do_open(connect, request, context=self.tls)

    def connection(self, host: str, **options: Any) -> http.client.HTTPSConnection:
        """Return a connection that is open already."""
        connection = http.client.HTTPSConnection(host, **options)
        plain = socket.create_connection(self.address or ("", 0), options.get("timeout"))
        connection.sock = self.tls.wrap_socket(plain, server_hostname=connection.host)
        return connection


class Hub:
    """A session with a hub, as one browser has it."""

    def __init__(
        self, url: str, user: str, *, address: tuple[str, int] | None = None, subdomains: bool = False
    ) -> None:
        """
        Talk to the hub at `url`; certificates are not checked, for test hosts sign their own.

        All names lead to `address`, if given, as DNS would have it. With `subdomains` users' servers have names of
        their own, which are those of the users.
        """
        self.url = url.rstrip("/")
        self.user = user
        self.address = address
        self.subdomains = subdomains
        self.cookies = CookieJar()
        self.tls = ssl.create_default_context()
        self.tls.check_hostname = False
        self.tls.verify_mode = ssl.CERT_NONE
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),
            DirectedHandler(self.tls, address),
            urllib.request.HTTPCookieProcessor(self.cookies),
        )

    def full_url(self, path: str) -> str:
        """Return the address of a page, which may be given as such."""
        owner = re.match(r"/user/([^/]+)/", path) if self.subdomains else None
        base = self.url.replace("://", f"://{owner[1]}.", 1) if owner else self.url
        return urllib.parse.urljoin(base, path)

    def request(
        self, path: str, method: str = "GET", data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, str, str]:
        """Return status, final address and text of an answer, after redirects."""
        request = urllib.request.Request(self.full_url(path), data=data, method=method, headers=headers or {})
        try:
            with self._opener.open(request, timeout=90) as answer:
                return answer.status, answer.url, answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.url, error.read().decode(errors="replace")

    def xsrf(self, prefix: str) -> str:
        """Return the token that the pages under a path must send back."""
        found = [c.value or "" for c in self.cookies if c.name == "_xsrf" and prefix.startswith(c.path)]
        return max(found, key=len) if found else ""

    def api(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """Call a JSON interface under the hub's address; raise HubError unless it succeeds."""
        prefix = re.match(r"(/hub/|/user/[^/]+/(?:[^/]+/)?)", path)
        token = next(
            (
                c.value or ""
                for c in sorted(self.cookies, key=lambda c: -len(c.path))
                if c.name == "_xsrf" and prefix and path.startswith(c.path)
            ),
            "",
        )
        headers = {"X-XSRFToken": token, "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else (b"" if method != "GET" else None)
        status, _, text = self.request(path, method, data, headers)
        if status >= 400:
            raise HubError(f"{status} {method} {path}: {text[:500]}")
        try:
            return json.loads(text) if text else None
        except ValueError:
            raise HubError(f"{method} {path} answered no JSON: {text[:200]}") from None

    def login(self, password: str) -> str:
        """Log in by the form; return the address of the page that follows. Raise HubError if refused."""
        self.request("/hub/login")
        token = next((c.value or "" for c in self.cookies if c.name == "_xsrf"), "")
        form = {"username": self.user, "password": password, "_xsrf": token}
        target = "/hub/login?" + urllib.parse.urlencode({"next": "/hub/home"})
        status, address, text = self.request(target, "POST", urllib.parse.urlencode(form).encode())
        if status != 200 or "/hub/home" not in address:
            words = re.search(r'class="login_error"[^>]*>([^<]*)<', text)
            raise HubError(f"{status} {words[1] if words else text[:200]}")
        return address

    def login_at_provider(self, account: str) -> str:
        """Log in by the provider's pages; return the address of the page that follows. Raise HubError if refused."""
        status, address, text = self.request("/hub/oauth_login?next=%2Fhub%2Fhome")
        # One asks who it is, the next whether the hub may know.
        while form := re.search(r'<form[^>]* action="(https:[^"]+)" method="post">(.*?)</form>', text, re.DOTALL):
            fields = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', form[2]))
            fields |= {"login": account, "password": "any"} if 'name="login"' in form[2] else {}
            data = urllib.parse.urlencode(fields).encode()
            status, address, text = self.request(html.unescape(form[1]), "POST", data)
        if status != 200 or "/hub/home" not in address:
            words = html.unescape(re.sub("<[^>]*>", " ", text.partition("<body")[2])).split()
            raise HubError(f"{status} {' '.join(words)}")
        return address

    def server_path(self, name: str = "") -> str:
        """Return the path of a server of this user."""
        return f"/user/{self.user}/{name}/" if name else f"/user/{self.user}/"

    def start(self, name: str = "") -> float:
        """
        Start a server and return the seconds until it has answered a page of its own.

        Does what the browser does after *Start*: request, wait on the progress stream, open the server.
        """
        begin = time.monotonic()
        self.start_until_ready(name)
        status, address, _ = self.request(self.server_path(name) + "lab")
        if status != 200 or not urllib.parse.urlsplit(address).path.startswith(self.server_path(name)):
            raise HubError(f"the server does not answer: {status} {address}")
        return time.monotonic() - begin

    def start_until_ready(self, name: str = "") -> float:
        """Start a server and return the seconds until the hub says that it is ready."""
        begin = time.monotonic()
        end = f"/hub/api/users/{self.user}/servers/{name}" if name else f"/hub/api/users/{self.user}/server"
        status, _, text = self.request(
            end, "POST", b"{}", {"X-XSRFToken": self.xsrf("/hub/"), "Content-Type": "application/json"}
        )
        if status == 202:
            self._progress(end + "/progress")
        elif status != 201:
            raise HubError(f"{status} {text[:500]}")
        return time.monotonic() - begin

    def press_start(self, path: str = "/hub/spawn", headers: dict[str, str] | None = None) -> tuple[int, str, str]:
        """Press the button of the page that offers a start; return status, address and text of what follows."""
        _, _, page = self.request(path, headers=headers)
        form = re.search(r'<form id="start-form" action="([^"]+)".*?</form>', page, re.DOTALL)
        if form is None:
            raise HubError(f"no start is offered at {path}")
        fields = re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)">', form[0])
        data = urllib.parse.urlencode([(name, html.unescape(value)) for name, value in fields])
        return self.request(html.unescape(form[1]), "POST", data.encode(), headers)

    def _progress(self, path: str) -> None:
        request = urllib.request.Request(self.url + path, headers={"Accept": "text/event-stream"})
        with self._opener.open(request, timeout=120) as stream:
            for line in stream:
                if line.startswith(b"data:"):
                    event = json.loads(line[5:])
                    if event.get("failed"):
                        raise HubError(event["message"])
                    if event.get("ready"):
                        return
        raise HubError("the progress stream ended before the server was ready")

    def stop(self, name: str = "") -> None:
        """Stop a server and wait until it is gone."""
        end = f"/hub/api/users/{self.user}/servers/{name}" if name else f"/hub/api/users/{self.user}/server"
        self.api(end, "DELETE", {} if name else None)
        while name in self.api(f"/hub/api/users/{self.user}")["servers"]:
            time.sleep(0.1)

    def run(self, code: str, name: str = "", kernel: str = "", timeout: float = 60) -> str:
        """Run code in a kernel, one of its own unless given, and return what it printed, errors included."""
        base = self.server_path(name)
        if kernel:
            return asyncio.run(asyncio.wait_for(self._run(base, kernel, code), timeout))
        kernel = self.new_kernel(name)
        try:
            return self.run(code, name, kernel, timeout)
        finally:
            self.api(f"{base}api/kernels/{kernel}", "DELETE")

    def new_kernel(self, name: str = "", kind: str = "python3") -> str:
        """Start a kernel and return its identifier."""
        self.request(self.server_path(name) + "lab")
        started: dict[str, str] = self.api(self.server_path(name) + "api/kernels", "POST", {"name": kind})
        return started["id"]

    def _cookie_header(self, path: str) -> str:
        chosen = sorted((c for c in self.cookies if path.startswith(c.path)), key=lambda c: -len(c.path))
        return "; ".join(f"{c.name}={c.value}" for c in chosen)

    async def _connect(self, path: str) -> Any:
        from tornado.httpclient import HTTPRequest
        from tornado.netutil import OverrideResolver, Resolver
        from tornado.websocket import websocket_connect

        url = urllib.parse.urlsplit(self.full_url(path))
        request = HTTPRequest(
            url.geturl().replace("http", "ws", 1),
            headers={"Cookie": self._cookie_header(path), "Origin": f"{url.scheme}://{url.netloc}"},
            validate_cert=False,
        )
        ways = {(url.hostname, url.port or 443): self.address} if self.address else {}
        resolver = OverrideResolver(resolver=Resolver(), mapping=ways)
        return await websocket_connect(request, max_message_size=2**26, resolver=resolver)

    async def _run(self, base: str, kernel: str, code: str) -> str:
        socket = await self._connect(f"{base}api/kernels/{kernel}/channels")
        identifier = uuid.uuid4().hex
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "user_expressions": {}}
        header = {"msg_id": identifier, "msg_type": "execute_request", "username": "", "session": "s", "version": "5.3"}
        message = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        await socket.write_message(json.dumps(message))
        printed = []
        while True:
            text = await socket.read_message()
            if text is None:
                raise HubError("the kernel's connection was closed")
            if isinstance(text, bytes):
                continue
            answer = json.loads(text)
            # Said by the server, in answer to nothing, when a kernel was killed.
            if answer["msg_type"] == "status" and answer["content"]["execution_state"] in ("restarting", "dead"):
                raise HubError("the kernel has ended")
            if answer["parent_header"].get("msg_id") != identifier:
                continue
            kind, content = answer["msg_type"], answer["content"]
            if kind == "stream":
                printed.append(content["text"])
            elif kind in ("execute_result", "display_data"):
                data = content["data"]
                printed.append(data.get("text/plain", "") + (" [image/png]" if "image/png" in data else ""))
            elif kind == "error":
                printed.append(f"{content['ename']}: {content['evalue']}")
            elif kind == "status" and content["execution_state"] == "idle":
                socket.close()
                return "".join(printed)

    def shell(self, command: str, name: str = "", timeout: float = 60) -> str:
        """Run a command in a new terminal and return what it printed."""
        self.request(self.server_path(name) + "lab")
        terminal = self.api(self.server_path(name) + "api/terminals", "POST", {})["name"]
        try:
            return asyncio.run(asyncio.wait_for(self._shell(self.server_path(name), terminal, command), timeout))
        finally:
            self.api(f"{self.server_path(name)}api/terminals/{terminal}", "DELETE")

    async def _shell(self, base: str, terminal: str, command: str) -> str:
        socket = await self._connect(f"{base}terminals/websocket/{terminal}")
        # The marks are put together by the shell, so that its echo of the line is no match.
        await socket.write_message(json.dumps(["stdin", f"printf '<%s>' be''gin; {command}; printf '<%s>' e''nd\r"]))
        printed = ""
        while "<end>" not in printed:
            text = await socket.read_message()
            if text is None:
                raise HubError(f"the terminal was closed: {printed}")
            kind, *content = json.loads(text)
            if kind == "stdout":
                printed += content[0]
        socket.close()
        return printed.rpartition("<begin>")[2].partition("<end>")[0].replace("\r\n", "\n")


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    url, user, password, action, *rest = arguments
    hub = Hub(url, user)
    try:
        account = password.removeprefix("provider:")
        address = hub.login(password) if account == password else hub.login_at_provider(account)
        if action == "login":
            print(address)
        elif action == "start":
            print(f"{hub.start(*rest):.3f}")
        elif action == "stop":
            hub.stop(*rest)
        elif action == "run":
            print(hub.run(rest[0]), end="")
        elif action == "shell":
            print(hub.shell(rest[0]), end="")
        elif action == "get":
            status, address, text = hub.request(rest[0])
            print(status, address, text[:2000])
        else:
            print(f"unknown action {action}", file=sys.stderr)
            return 2
    except HubError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
