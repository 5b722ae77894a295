"""The centre is installed once; after that there is nothing left to do."""

from __future__ import annotations

import pytest

from tests.site.centre import apply_site, write_inventory
from tests.site.conftest import Centre


@pytest.mark.parametrize("options", [["--check", "--diff"], []], ids=["check", "second run"])
def test_nothing_is_left_to_change(site: Centre, options: list[str]) -> None:
    # The hosts may have got other addresses when they were started anew.
    write_inventory(list(site.hosts.values()), site.inventory.parent)
    recap = apply_site(site.inventory, *options)
    changed = {host.name: recap[host.name]["changed"] for host in site.hosts.values()}
    assert changed == dict.fromkeys(changed, 0)
