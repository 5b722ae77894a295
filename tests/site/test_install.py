"""The centre is installed once; after that there is nothing left to do."""

from __future__ import annotations

import pytest

from tests.site.centre import apply_site, write_inventory
from tests.site.conftest import Centre

MODULES = ["check_host", "local_accounts", "python_environment"]


@pytest.mark.parametrize("options", [["--check", "--diff"], []], ids=["check", "second run"])
def test_nothing_is_left_to_change(site: Centre, options: list[str]) -> None:
    # The hosts may have got other addresses when they were started again.
    write_inventory(list(site.hosts.values()), site.inventory.parent)
    recap = apply_site(site.inventory, *options)
    changed = {host.name: recap[host.name]["changed"] for host in site.hosts.values()}
    assert changed == dict.fromkeys(changed, 0)


def test_only_what_was_touched_since_is_looked_at_and_put_right(site: Centre) -> None:
    touched, untouched = site.hosts["debian12"], site.hosts["debian13"]
    touched.run("sed -i s/cafile/notfile/ /etc/npmrc; rm /etc/profile.d/campushub.sh; chmod 755 /home/alice")
    begin = int(untouched.run("date +%s"))
    recap = apply_site(site.inventory)
    assert (recap[touched.name]["changed"], recap[untouched.name]["changed"]) == (3, 0)
    touched.run("grep ^cafile= /etc/npmrc && grep CampusHub /etc/profile.d/campushub.sh")
    assert touched.run("stat -c %a /home/alice") == "700\n"
    # Each module that runs on a host writes a line to the journal of the host.
    ran = {
        name: untouched.run(f"journalctl --since=@{begin} -t ansible-{name} -o cat", check=False) for name in MODULES
    }
    assert [name for name, lines in ran.items() if "Invoked" in lines] == ["check_host"]
