"""A site's own network in small, for a test host: packages over TLS on port 8443, and a proxy on port 3128."""

from __future__ import annotations

import http.server
import select
import socket
import ssl
import threading
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(__file__).parent
LOG = HERE / "proxy.log"


class Files(http.server.SimpleHTTPRequestHandler):
    """Serves the folder `www`."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments, directory=str(HERE / "www"))  # type: ignore[arg-type]


class Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards what it is asked for and writes down each request."""

    def note(self) -> None:
        """Remember who was asked for."""
        target = self.path if self.command == "CONNECT" else urlsplit(self.path).hostname
        with LOG.open("a") as log:
            log.write(f"{self.command} {target} {self.headers.get('User-Agent', '')}\n")

    def do_GET(self) -> None:
        """Fetch a page for the client."""
        self.note()
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(self.path, timeout=30) as answer:
                body = answer.read()
                self.send_response(answer.status)
        except urllib.error.HTTPError as error:
            body = error.read()
            self.send_response(error.code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """Join the client with the server it names."""
        self.note()
        name, _, port = self.path.rpartition(":")
        with socket.create_connection((name, int(port)), timeout=30) as server:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: server, server: self.connection}
            while True:
                for end in select.select(list(ends), [], [], 60)[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)


def main() -> None:
    """Serve until the end of the test."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(HERE / "server.pem", HERE / "server.key")
    files = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), Files)
    files.socket = context.wrap_socket(files.socket, server_side=True)
    threading.Thread(target=files.serve_forever, daemon=True).start()
    http.server.ThreadingHTTPServer(("127.0.0.1", 3128), Proxy).serve_forever()


if __name__ == "__main__":
    main()
