"""Of this scenario's hosts two are under test; the third one is the file server that homes are on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from testinfra.host import Host

SERVER = "homes-server"
# What is the same with both spawners, whether servers start in a scratch home or not, is tested on one hub.
ONCE = {
    "homes-debian12": [
        "test_databases_and_sockets_are_on_the_local_disk",
        "test_a_mount_that_is_not_well_is_in_the_journal_and_a_metric",
        "test_a_mount_that_hangs_is_given_up_and_mounted_again",
        "test_nobody_works_in_what_the_mount_hides",
        "test_old_files_on_the_local_disk_are_removed_and_others_stay",
    ],
    "homes-debian13": [
        "test_a_killed_file_server_loses_nothing_that_was_written",
        "test_a_layout_says_where_homes_are_whatever_the_account_says",
        "test_without_the_role_homes_are_what_the_accounts_say",
    ],
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Test nothing on the file server, and leave out what the other hub is tested for."""
    hubs = {name: hub for hub, names in ONCE.items() for name in names}
    tests = [item for item in items if SERVER not in item.name]
    items[:] = [item for item in tests if hubs.get(item.name.partition("[")[0], item.name) in item.name]


@pytest.fixture(scope="module")
def server(named: Callable[[str], Host]) -> Host:
    """The file server."""
    return named(SERVER)
