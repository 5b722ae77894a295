"""Which user listens on a TCP port of the host."""

from __future__ import annotations

import socket
import struct

# From <linux/netlink.h>, <linux/sock_diag.h> and <linux/tcp.h>.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY = 4, 20
NLM_F_REQUEST, NLM_F_DUMP, NLMSG_ERROR, NLMSG_DONE = 0x1, 0x300, 2, 3
TCP_LISTEN = 10


def socket_owners(port: int) -> set[int]:
    """
    Return the UIDs of the owners of the sockets of this host that listen on a TCP port.

    The kernel is asked for listening sockets alone (sock_diag(7)): /proc/net/tcp costs a thousand times as much on a
    host with many connections, and this is asked twenty times a second for each server that starts.
    """
    owners = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
            body = struct.pack("=BBxxI48x", family, socket.IPPROTO_TCP, 1 << TCP_LISTEN)
            flags = NLM_F_REQUEST | NLM_F_DUMP
            kernel.send(struct.pack("=IHHII", 16 + len(body), SOCK_DIAG_BY_FAMILY, flags, 0, 0) + body)
            done = False
            while not done:
                answer = kernel.recv(1 << 16)
                while answer:
                    length, kind = struct.unpack_from("=IH", answer)
                    # A host without IPv6 answers with an error.
                    done = done or kind in (NLMSG_ERROR, NLMSG_DONE)
                    if kind == SOCK_DIAG_BY_FAMILY and struct.unpack_from("!H", answer, 20)[0] == port:
                        owners.add(struct.unpack_from("=I", answer, 80)[0])
                    answer = answer[(length + 3) & ~3 :]
    return owners
