"""Filters that compare the hosts of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any


def slurm_differences(hosts: Iterable[str], variables: Mapping[str, Any], controller: str) -> dict[str, Any]:
    """
    Return in what hosts differ that must not, by what module `check_host` has found on those that it was asked about.

    Clocks count from that of Ansible's controller, which need not be right itself.
    """
    # A name may be wrong; another rule says so.
    facts = {host: variables[host].get("ansible_facts") or {} for host in hosts if host in variables}
    found = {host: (known.get("campushub") or {}).get("cluster") or {} for host, known in facts.items()}
    versions = {host: its["version"] for host, its in found.items() if its.get("version")}
    clocks = {host: int(its["clock"]) for host, its in found.items() if "clock" in its}
    key = found.get(controller, {}).get("key")
    others = [host for host, its in found.items() if key and its.get("key") not in ("", None, key)]
    return {
        "name": found.get(controller, {}).get("name", ""),
        "versions": [f"{host} {version}" for host, version in versions.items()],
        "releases": len(set(versions.values())),
        "clocks": [f"{host} {clock:+d} s" for host, clock in clocks.items()],
        "seconds": max(clocks.values(), default=0) - min(clocks.values(), default=0),
        "strangers": [host for host in others if found[host].get("foreign")],
        "other_keys": [host for host in others if not found[host].get("foreign")],
    }


class FilterModule:
    """What Ansible asks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        return {"slurm_differences": slurm_differences}
