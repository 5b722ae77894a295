"""Filters that compare the instances and links of a host, and say what is mounted."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

Entry = Mapping[str, Any]


def within(path: str, directory: str) -> bool:
    """Whether a path is a directory, or below it."""
    return f"{path}/".startswith(f"{directory}/")


def eos_links_by(links: Iterable[Entry], method: str) -> list[dict[str, str]]:
    """Return the links that are made by a method, as managed_files takes them; it is a link unless an entry says so."""
    return [
        {"path": link["path"], "link": link["target"]} for link in links if (link.get("method") or "link") == method
    ]


def eos_mounts(instances: Iterable[Entry], links: Iterable[Entry]) -> list[dict[str, str]]:
    """Return everything that is mounted: the instances, and other ways to them."""
    mounts = [
        {"where": instance["local_directory"], "type": "eosx", "what": "eosxd", "options": f"fsname={instance['name']}"}
        for instance in instances
    ]
    return mounts + [
        {"where": link["path"], "type": "none", "what": link["link"], "options": "bind"}
        for link in eos_links_by(links, "bind")
    ]


def eos_overlapping(instances: Iterable[Entry]) -> list[int]:
    """Return the positions of instances that are mounted in, above or at the place of one before them."""
    places = [str(instance.get("local_directory") or "") for instance in instances]
    return [
        index
        for index, place in enumerate(places)
        if place and any(within(place, other) or within(other, place) for other in places[:index] if other)
    ]


def eos_hidden_links(links: Iterable[Entry], instances: Iterable[Entry]) -> list[str]:
    """Return the paths of links that are in an instance."""
    places = [place for instance in instances if (place := instance.get("local_directory"))]
    return [link["path"] for link in links if any(within(str(link.get("path")), place) for place in places)]


def eos_open_keytabs(instances: Iterable[Entry]) -> list[str]:
    """Return the keytabs on the controller that others than their owner have rights to."""
    keytabs = [str(instance.get("sss_keytab") or "") for instance in instances]
    return [
        keytab
        for keytab in keytabs
        if Path(keytab).is_file() and Path(keytab).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    ]


def eos_unwatched(mounts: Iterable[Entry], directory: str) -> list[str]:
    """Return the places that are not at or below a directory; of none at all if it is empty."""
    return [mount["where"] for mount in mounts if not directory or not within(mount["where"], directory.rstrip("/"))]


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {
            "eos_hidden_links": eos_hidden_links,
            "eos_links_by": eos_links_by,
            "eos_mounts": eos_mounts,
            "eos_open_keytabs": eos_open_keytabs,
            "eos_overlapping": eos_overlapping,
            "eos_unwatched": eos_unwatched,
        }
