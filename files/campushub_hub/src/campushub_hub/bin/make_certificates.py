"""
Make the certificates of hub, proxy and nodes, once.

Arguments: DIRECTORY HUB-GROUP PROXY-GROUP NAME. NAME is that by which nodes reach the hub; another one makes all of
them again. Role jupyterhub runs it, as root.
"""

from __future__ import annotations

import grp
import os
import sys
from pathlib import Path

from campushub_hub.certificates import make


def write(path: Path, text: str, group: str, mode: int) -> None:
    """Write a file in one step; nobody reads a key in it who must not."""
    new = path.with_name(f"{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        os.fchown(file.fileno(), -1, grp.getgrnam(group).gr_gid)
        os.fchmod(file.fileno(), mode)
        file.write(text)
    new.replace(path)


def hand_over(path: Path, group: str) -> bool:
    """Give a key to a group; return whether it was another one's."""
    wanted = grp.getgrnam(group).gr_gid
    if path.stat().st_gid == wanted:
        return False
    os.chown(path, -1, wanted)
    return True


def main(directory: str, hub: str, proxy: str, name: str) -> int:
    """Make what is missing; says so, for the role."""
    place = Path(directory)
    mark = place / "name"
    if mark.exists() and mark.read_text() == name:
        # The hub may run as another user by now. Servers that run believe no certificates that are made again.
        keys = {"servers-ca.key": hub, "hub.key": hub, "proxy.key": proxy}
        if sum(hand_over(place / key, group) for key, group in keys.items()):
            print("made")
        return 0
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    place.chmod(0o755)
    centre, servers = make("CampusHub centre", []), make("CampusHub servers", [])
    write(place / "centre-ca.pem", centre.certificate, "root", 0o644)
    write(place / "servers-ca.pem", servers.certificate, "root", 0o644)
    write(place / "servers-ca.key", servers.key, hub, 0o640)
    for who, group in (("hub", hub), ("proxy", proxy)):
        pair = make(f"CampusHub {who}", [name], centre)
        write(place / f"{who}.pem", pair.certificate, "root", 0o644)
        write(place / f"{who}.key", pair.key, group, 0o640)
    # At last, so that a run that was cut off is done again.
    write(mark, name, "root", 0o644)
    print("made")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
