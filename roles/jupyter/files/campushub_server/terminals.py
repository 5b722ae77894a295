# Managed by CampusHub
"""
Terminals that cannot hold up one another, or the server.

Compared with terminado 0.18:

- Input goes to a program without waiting for it to read. There one thread writes the input of all terminals of a user,
  and waits for the program that does not read.
- No step of the end of a terminal waits. There closing a terminal waits for that thread, and for a program that has let
  go of its terminal and goes on.
- Closing a terminal ends the program in its foreground, whatever signals that ignores, and takes it off the list.
- Output that nobody fetches stays where it is: the program waits, as at any terminal. What is kept for those who come
  back has a limit in letters, not in pieces.
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
from collections import deque
from typing import TYPE_CHECKING, Any

from jupyter_server_terminals.terminalmanager import TerminalManager
from ptyprocess import PtyProcessUnicode
from terminado.management import PtyWithClients, preexec_fn
from tornado.concurrent import dummy_executor
from tornado.ioloop import IOLoop

if TYPE_CHECKING:
    from collections.abc import Iterable

# How much input a program may leave unread; what comes then is dropped.
INPUT_LIMIT = 2**20
# How much output is kept for those who open the terminal again, and how much may be on the way to somebody.
HISTORY_LIMIT = 10**6
BACKLOG_LIMIT = 4 * 10**6
# Seconds between two looks whether output has been fetched, or a program has ended.
INTERVAL = 0.1
# Seconds that a program has to end after the hang-up.
PATIENCE = 2.0


class History(deque[str]):
    """The last output of a terminal."""

    length = total = 0

    def append(self, text: str) -> None:
        """Add output, and forget the oldest beyond the limit."""
        super().append(text)
        self.total += len(text)
        self.length += len(text)
        while self.length > HISTORY_LIMIT and len(self) > 1:
            self.length -= len(self.popleft())


class Process(PtyProcessUnicode):  # type: ignore[misc]
    """The program of a terminal: nothing that is done to it waits for it."""

    fd: int
    closed: bool
    flag_eof: bool

    def __init__(self, pid: int, fd: int) -> None:
        """Take over what spawn() has made."""
        super().__init__(pid, fd)
        os.set_blocking(fd, False)
        # Bytes from the outside need not be text.
        self.decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._input = bytearray()

    def write(self, text: str) -> int:
        """Pass input on as far as the program reads it, and keep the rest until then."""
        # One piece, such as a text that is pasted, may be longer.
        if self.closed or len(self._input) > INPUT_LIMIT:
            return 0
        data = text.encode(errors="replace")
        self._input += data
        self._pass_on()
        return len(data)

    def _pass_on(self) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_writer(self.fd)
        try:
            while self._input:
                del self._input[: os.write(self.fd, self._input)]
        except BlockingIOError:
            loop.add_writer(self.fd, self._pass_on)
        except OSError:
            # Nobody will read it any more.
            self._input.clear()

    def isalive(self) -> bool:
        """Return whether the program runs. At its end of file the parent waits for that to end."""
        at_end, self.flag_eof = self.flag_eof, False
        try:
            return bool(super().isalive())
        finally:
            self.flag_eof = at_end

    def close(self, force: bool = True) -> None:
        """Hang up; `Terminal.end` does the rest."""
        del force
        if not self.closed:
            asyncio.get_running_loop().remove_writer(self.fd)
            self.fileobj.close()
            self.fd = -1
            self.closed = True


def is_writing(client: Any) -> bool:
    """Return whether something that was sent to a client waits for it."""
    return client.ws_connection is not None and client.ws_connection.stream.writing()


class Terminal(PtyWithClients):
    """A program in a terminal, and those who look at it."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: str | None) -> None:
        """Start the program."""
        self.clients: list[Any] = []
        self.read_buffer: History = History()
        self.ptyproc = Process.spawn(command, cwd=cwd, env=env, preexec_fn=preexec_fn)
        # Letters that have been sent to each of those who look since all was last under way.
        self._backlog: dict[Any, int] = {}

    def sent(self, length: int) -> None:
        """Note how much has been sent to those who look."""
        self._backlog = {
            client: self._backlog.get(client, 0) + length if is_writing(client) else 0 for client in self.clients
        }

    @property
    def slow(self) -> list[Any]:
        """Those who look and do not fetch what they are sent."""
        return [client for client, length in self._backlog.items() if length > BACKLOG_LIMIT and is_writing(client)]

    @property
    def is_congested(self) -> bool:
        """Whether nobody who looks fetches the output."""
        return bool(self.clients) and set(self.clients) <= set(self.slow)

    def drop_the_slow(self) -> None:
        """Close connections that do not fetch what others fetch; whoever comes back gets the last of it."""
        for client in self.slow:
            del self._backlog[client]
            if client in self.clients:
                self.clients.remove(client)
                client.terminal = None
                client.close()

    def groups(self) -> set[int]:
        """Return the process groups of the shell and of the program in the foreground."""
        found = {self.ptyproc.pid}
        with contextlib.suppress(OSError):
            found.add(os.tcgetpgrp(self.ptyproc.fd))
        # Without a program in the foreground it is 0, which would be the server itself.
        return found - {0, os.getpgrp()}

    async def end(self, groups: Iterable[int]) -> None:
        """End what runs in process groups of this terminal, at last with SIGKILL."""
        running = set(groups)
        for step in range(int(PATIENCE / INTERVAL) + 1):
            for group in sorted(running):
                # A program that is stopped notices nothing.
                for number in [signal.SIGHUP, signal.SIGCONT] if step == 0 else [0]:
                    try:
                        os.killpg(group, number)
                    except OSError:
                        running.discard(group)
            # Buries the shell.
            self.ptyproc.isalive()
            if not running:
                return
            await asyncio.sleep(INTERVAL)
        for group in running:
            with contextlib.suppress(OSError):
                os.killpg(group, signal.SIGKILL)
        while self.ptyproc.isalive():  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(INTERVAL)


class CampusTerminalManager(TerminalManager):
    """The terminals of a server."""

    terminals: dict[str, Any]
    ptys_by_fd: dict[int, Any]

    def __init__(self, **settings: Any) -> None:
        """Have input passed on by the server itself, because that does not wait."""
        super().__init__(blocking_io_executor=dummy_executor, **settings)
        self._ends: set[asyncio.Task[None]] = set()

    def new_terminal(self, **options: Any) -> Terminal:
        """Start a program in a terminal."""
        options = {**self.term_settings, "shell_command": self.shell_command, **options}
        return Terminal(options["shell_command"], self.make_term_env(**options), options.get("cwd"))

    def pty_read(self, fd: int, events: Any = None) -> None:
        """Send on what a program has printed, unless nobody fetches it."""
        terminal = self.ptys_by_fd[fd]
        if terminal.is_congested:
            IOLoop.current().remove_handler(fd)
            IOLoop.current().call_later(INTERVAL, self.read_on, terminal, fd)
            return
        terminal.drop_the_slow()
        before = terminal.read_buffer.total
        super().pty_read(fd, events)
        terminal.sent(terminal.read_buffer.total - before)

    def read_on(self, terminal: Terminal, fd: int) -> None:
        """Go on to read from a terminal once its output is fetched."""
        if self.ptys_by_fd.get(fd) is not terminal:
            return
        if terminal.is_congested:
            IOLoop.current().call_later(INTERVAL, self.read_on, terminal, fd)
        else:
            self.start_reading(terminal)

    def on_eof(self, ptywclients: Any) -> None:
        """Take a terminal off the list and end what is left of its program."""
        groups = ptywclients.groups()
        super().on_eof(ptywclients)
        end = asyncio.ensure_future(ptywclients.end(groups))
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)

    async def terminate(self, name: str, force: bool = False) -> None:
        """Close a terminal, whatever its program does."""
        self._check_terminal(name)
        terminal: Terminal = self.terminals[name]
        groups = terminal.groups()
        await super().terminate(name, force)
        if self.terminals.get(name) is terminal:
            # Something else holds on to it.
            super().on_eof(terminal)
            for client in list(terminal.clients):
                client.on_pty_died()
        await terminal.end(groups)
