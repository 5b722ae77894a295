"""Of this scenario's hosts two are under test; the third one is the file server that homes are on."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from testinfra.host import Host

SERVER = "homes-server"
# What is the same with both spawners, whether servers start in a scratch home or not, is tested on one hub.
ONCE = {
    "homes-debian12": [
        "test_databases_and_sockets_are_on_the_local_disk_and_closed_to_others",
        "test_a_mount_that_is_not_well_is_in_the_journal_and_a_metric",
        "test_a_mount_that_hangs_is_given_up_and_mounted_again_where_the_site_allows_it",
        "test_nobody_works_in_what_the_mount_hides",
        "test_old_files_on_the_local_disk_are_removed_and_others_stay",
    ],
    "homes-debian13": [
        "test_a_killed_file_server_loses_nothing_that_was_written",
        "test_a_layout_says_where_homes_are_whatever_the_account_says",
        "test_without_the_role_homes_are_what_the_accounts_say",
    ],
}
FILE = os.environ.get("MOLECULE_INSTANCE_CONFIG", "")
INSTANCES: list[dict[str, Any]] = yaml.safe_load(Path(FILE).read_text()) if FILE and Path(FILE).exists() else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what the other hub is tested for."""
    homes = {name: hub for hub, names in ONCE.items() for name in names}
    items[:] = [item for item in items if homes.get(item.name.partition("[")[0], item.name) in item.name]


@pytest.fixture(
    params=[found for found in INSTANCES if found["instance"] != SERVER],
    ids=lambda instance: str(instance["instance"]),
    scope="module",
)
def host(request: pytest.FixtureRequest, connect: Callable[[dict[str, Any]], Host]) -> Host:
    """A hub."""
    return connect(request.param)


@pytest.fixture(scope="module")
def server(connect: Callable[[dict[str, Any]], Host]) -> Host:
    """The file server."""
    return connect(next(found for found in INSTANCES if found["instance"] == SERVER))
