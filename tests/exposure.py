"""How much of a host a unit could reach, as systemd judges it."""

from __future__ import annotations

import re

from testinfra.host import Host


def exposure(host: Host, unit: str) -> float:
    """Return the score of a unit: 0 is a locked box, 10 an ordinary program of root's."""
    printed = host.check_output(f"systemd-analyze security --no-pager {unit}")
    overall = re.search(r"Overall exposure level for \S+: ([0-9.]+)", printed)
    assert overall, printed
    return float(overall[1])
