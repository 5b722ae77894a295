#!/usr/bin/env python3
"""
A stand-in for a network file system whose server can stop answering: one empty directory, by FUSE, from this process.

    python hanging_files.py DIRECTORY UID [eosxd]     mounts it there, owned by UID; prints a line when it is mounted

SIGUSR1: from now on requests are taken and not answered, as by a server that hangs: whoever asks sits in the kernel,
where no signal helps. SIGUSR2: answer, also what was withheld. It prints a line when it does so. The end of the process
is a mount whose server has died: "Transport endpoint is not connected". With the word eosxd it does what CERN's client
5.4.11 was seen to do: while it hangs it still answers statfs, by "Permission denied". Only root can mount it. It does
the kernel's protocol itself because nothing in the distribution hangs to order.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import stat
import struct
import sys
from collections.abc import Callable
from types import FrameType

LOOKUP, GETATTR, STATFS, RELEASE, OPENDIR, READDIR, INIT = 1, 3, 17, 18, 27, 28, 26
# FORGET, INTERRUPT and BATCH_FORGET want no answer.
SILENT = (2, 36, 42)
ENOENT, EACCES, ENOSYS = 2, 13, 38


def operation_of(request: bytes) -> tuple[int, int]:
    """Return what the kernel asks for, and the number of the request."""
    _, operation, unique = struct.unpack_from("=IIQ", request)
    return operation, unique


def refusal(request: bytes, error: int) -> bytes:
    """Return an error for a request."""
    return struct.pack("=IiQ", 16, -error, operation_of(request)[1])


def answer(request: bytes, uid: int) -> bytes | None:
    """Return what a file system with one empty directory says to the kernel, or None where it says nothing."""
    operation, unique = operation_of(request)
    if operation in SILENT:
        return None
    error, body = 0, b""
    if operation == INIT:
        body = struct.pack("=4I2H2I2H8I", 7, 31, 0, 0, 16, 12, 1 << 16, 1, 16, 0, *[0] * 8)
    elif operation == GETATTR:
        body = struct.pack("=QII6Q10I", 0, 0, 0, 1, *[0] * 5, *[0] * 3, stat.S_IFDIR | 0o755, 2, uid, uid, 0, 4096, 0)
    elif operation == OPENDIR:
        body = struct.pack("=QII", 0, 0, 0)
    elif operation == STATFS:
        body = struct.pack("=5Q4I6I", *[1 << 20] * 5, 4096, 255, 4096, 0, *[0] * 6)
    elif operation == LOOKUP:
        error = ENOENT
    elif operation not in (READDIR, RELEASE):
        error = ENOSYS
    if error:
        return refusal(request, error)
    return struct.pack("=IiQ", 16 + len(body), 0, unique) + body


def main(
    directory: str, uid: int, kind: str = "", tell: Callable[[], None] = lambda: print("mounted", flush=True)
) -> None:
    """Mount it and answer until the end; say when it is mounted."""
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    nosuid_nodev = 6
    if libc.mount(b"stand-in", directory.encode(), b"fuse", nosuid_nodev, options.encode()):
        sys.exit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    state = {"hangs": False}

    def change(number: int, _frame: FrameType | None) -> None:
        state["hangs"] = number == signal.SIGUSR1
        print("hangs" if state["hangs"] else "answers", flush=True)

    signal.signal(signal.SIGUSR1, change)
    signal.signal(signal.SIGUSR2, change)
    withheld: list[bytes] = []
    poll = select.poll()
    poll.register(device, select.POLLIN)
    told = False
    while True:
        requests: list[bytes] = []
        if poll.poll(50):
            try:
                requests.append(os.read(device, 1 << 18))
            except InterruptedError:
                continue
            except OSError:
                # It was unmounted.
                return
        if state["hangs"]:
            at_once = [request for request in requests if kind == "eosxd" and operation_of(request)[0] == STATFS]
            for request in at_once:
                os.write(device, refusal(request, EACCES))
            withheld += [request for request in requests if request not in at_once]
            continue
        requests, withheld = withheld + requests, []
        for request in requests:
            said = answer(request, uid)
            if said is not None:
                try:
                    os.write(device, said)
                except FileNotFoundError:
                    # Whoever asked has been ended meanwhile.
                    continue
        if not told:
            told = True
            tell()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), "".join(sys.argv[3:]))
