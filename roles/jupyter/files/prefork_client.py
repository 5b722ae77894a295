"""
Start the server of one user, or a kernel, as a fork of the environment's service, which has imported everything.

Which of both is known by the name of this program. It stays: it passes signals on and ends as the fork does. When there
is no service, or none that answers in time, or what this process is cannot be had by a fork, it becomes the program
itself, as without a service.

Each start waits for this file: it runs without the environment's packages, and imports as little as it can.
"""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys

DIRECTORY = os.path.dirname(os.path.realpath(__file__))
KERNEL = os.path.basename(__file__) == "campushub-kernel"
WHAT = "kernel" if KERNEL else "server"
SERVICE = "/run/campushub-prefork-kernels/user.sock" if KERNEL else "/run/campushub-prefork/user.sock"
# What this process becomes where there is no fork.
ALONE = ["-m", "ipykernel_launcher"] if KERNEL else ["-s", os.path.join(DIRECTORY, "jupyterhub-singleuser-alone")]
# Seconds until the service has forked, and until the child is ready. Of twenty that start at once one may wait.
ANSWER, READY = 3, 8
# What decides about an interpreter and its libraries before the program has any say.
PREFIXES = ("PYTHON", "LD_", "GLIBC_TUNABLES", "MALLOC_", "OPENSSL_", "GCONV_PATH", "LOCPATH")
# A server does not look there anyway.
KNOWN = set() if KERNEL else {"PYTHONNOUSERSITE"}


class NoServerError(Exception):
    """There is no fork; the text says why."""


def check() -> None:
    """Raise NoServerError where a fork would not be the same."""
    variables = [name for name in os.environ if name.startswith(PREFIXES) and name not in KNOWN]
    if variables:
        raise NoServerError(f"{variables[0]} is set")
    if any(os.isatty(number) for number in range(3)):
        raise NoServerError("it runs in a terminal")
    # Of the listing itself there is one.
    if len(os.listdir("/proc/self/fd")) > 4:
        raise NoServerError("it has open files")
    if KERNEL and os.environ.get("JPY_PARENT_PID", str(os.getppid())) != str(os.getppid()):
        raise NoServerError("its server is not its parent")


def check_memory() -> None:
    """Raise NoServerError where no memory may be written to and executed (PR_SET_MDWE), which /proc does not show."""
    import mmap

    try:
        mmap.mmap(-1, 1, mmap.MAP_PRIVATE | mmap.MAP_ANON, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()
    except PermissionError:
        raise NoServerError("no memory may be written to and executed") from None


def request() -> bytes:
    """Return what the service must know."""
    variables = [name + b"=" + value for name, value in os.environb.items()]
    arguments = [os.fsencode(word) for word in [__file__, *sys.argv[1:]]]
    head = [os.fsencode(os.path.dirname(DIRECTORY)), os.fsencode(os.getcwd()), str(len(arguments)).encode()]
    message = b"\0".join([*head, *arguments, *variables])
    return struct.pack("=I", len(message)) + message


def wait(service: socket.socket, seconds: int) -> None:
    """Set how long to wait for the service."""
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        service.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", seconds, 0))


def expect(service: socket.socket, word: bytes, descriptors: int = 0) -> list[int]:
    """Wait for a word of the service; return what comes with it. Raises OSError and NoServerError."""
    received, handles, _, _ = socket.recv_fds(service, 1, 1)
    if received != word or len(handles) != descriptors:
        reason = service.recv(1000).decode(errors="replace").partition("\n")[0]
        raise NoServerError(reason if received == b"N" else "it has failed")
    return handles


def fork(service: socket.socket) -> int:
    """Have a server forked; return a handle of it. Raises OSError and NoServerError."""
    wait(service, ANSWER)
    service.connect(SERVICE)
    try:
        service.sendall(b"H")
        # Meanwhile the service forks.
        check_memory()
        heard = service.recv(1) == b"A"
    except ConnectionError:
        heard = False
    if not heard:
        raise NoServerError("the service starts no more for this user at the moment, or none in this user namespace")
    wait(service, READY)
    expect(service, b"B")
    message = request()
    sent = socket.send_fds(service, [message], [0, 1, 2])
    service.sendall(message[sent:])
    (handle,) = expect(service, b"R", 1)
    service.sendall(b"G")
    wait(service, 0)
    return handle


def process_of(handle: int) -> int:
    """Return which process that is; after its end a number below 1."""
    with open(f"/proc/self/fdinfo/{handle}") as file:
        return int(next(line.split()[1] for line in file if line.startswith("Pid:")))


def tell(pid: int) -> None:
    """Write into the journal which process the server is: what it prints comes from that one, and not from this."""
    try:  # noqa: SIM105 (no further module is imported)
        print(f"Forked as process {pid}.", file=sys.stderr, flush=True)
    except OSError:
        # Nobody listens.
        pass


def send(handle: int, group: int, number: int) -> None:
    """Send a signal to the server, or to a kernel with its group, which is there as long as the kernel is."""
    signal.pidfd_send_signal(handle, 0 if group else number)
    if group:
        os.killpg(group, number)


def pass_signals_on(handle: int, group: int) -> None:
    """Pass on what this process gets: to the server, or to a kernel and its subprocesses, as their server means it."""

    def pass_on(number: int, _: object) -> None:
        try:  # noqa: SIM105 (no further module is imported)
            send(handle, group, number)
        except OSError:
            pass

    unforwarded = {signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGTSTP, signal.SIGCONT}
    for number in signal.valid_signals() - unforwarded:
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            signal.signal(number, pass_on)


def wait_for_end(service: socket.socket, handle: int) -> None:
    """Wait until the fork has ended; end a kernel when the server that has started it has ended."""
    import select

    # By the connection it is not known: the fork says its status before it has written all, and may have forked others.
    watched = select.poll()
    watched.register(handle, select.POLLIN)
    server, started_by = -1, os.environ.get("JPY_PARENT_PID") if KERNEL else None
    if started_by:
        server = os.pidfd_open(os.getppid())
        watched.register(server, select.POLLIN)
    if started_by not in (None, str(os.getppid())) or server in dict(watched.poll()):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    wait(service, 3)


def accompany(service: socket.socket, handle: int) -> int:
    """Stay until the server has ended; return its status, negative is a signal."""
    try:
        wait_for_end(service, handle)
        data = service.recv(4, socket.MSG_WAITALL)
    except OSError:
        data = b""
    # Nobody is left who could say: the service was restarted meanwhile, and the server was killed.
    return struct.unpack("=i", data)[0] if len(data) == 4 else -signal.SIGKILL


def main() -> int:
    """Start the server and stay with it."""
    try:
        check()
        service = socket.socket(socket.AF_UNIX)
        handle = fork(service)
    except (OSError, NoServerError) as error:
        # Nobody reads a log in a terminal.
        if not (KERNEL and os.isatty(2)):
            print(f"No fork: {error}. The {WHAT} starts by itself.", file=sys.stderr, flush=True)
        # Closed with the execution: that is how the service learns of it.
        os.execv(sys.executable, [sys.executable, *ALONE, *sys.argv[1:]])  # noqa: S606
    pid = process_of(handle)
    group = pid if KERNEL and pid > 0 else 0
    pass_signals_on(handle, group)
    if not KERNEL:
        tell(pid)
    status = accompany(service, handle)
    if group:
        # What a kernel has left behind ends with it, as when its server restarts it.
        try:  # noqa: SIM105 (no further module is imported)
            os.killpg(group, signal.SIGKILL)
        except OSError:
            pass
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())
