"""Which limits a user gets."""

from __future__ import annotations

from typing import Any

import pytest
from campushub_hub.user_session import bytes_of, limits_of, runtime_directory, slice_of

DEFAULT = {"memory": "2G", "cpu": 2.0, "tasks": 1024}


@pytest.mark.parametrize(
    ("size", "number"),
    [
        (None, None),
        ("", None),
        ("512K", 512 * 2**10),
        ("256M", 256 * 2**20),
        ("1.5G", 3 * 2**29),
        ("1T", 2**40),
        ("268435456", 2**28),
        (268435456, 2**28),
    ],
)
def test_sizes(size: str | int | None, number: int | None) -> None:
    assert bytes_of(size) == number


@pytest.mark.parametrize("size", ["2 gigs", "2g", "G", "1GB", "-"])
def test_what_is_no_size(size: str) -> None:
    with pytest.raises(ValueError, match=r"could not convert|invalid literal"):
        bytes_of(size)


@pytest.mark.parametrize(
    ("groups", "entries", "limits"),
    [
        (set(), [], (2**31, 2.0, 1024)),
        ({"users"}, [{"group": "physics", "memory": "8G"}], (2**31, 2.0, 1024)),
        # What an entry leaves out is as for everybody.
        ({"users", "physics"}, [{"group": "physics", "memory": "8G"}], (2**33, 2.0, 1024)),
        ({"physics"}, [{"group": "physics", "memory": None, "cpu": 4, "tasks": None}], (2**31, 4.0, 1024)),
        # The first entry that fits counts, in the order of the list.
        (
            {"physics", "staff"},
            [{"group": "staff", "memory": "1G"}, {"group": "physics", "memory": "8G", "tasks": 64}],
            (2**30, 2.0, 1024),
        ),
        ({"staff"}, [{"group": "staff", "memory": "", "cpu": 0, "tasks": 0}], (None, None, None)),
    ],
)
def test_limits(
    groups: set[str], entries: list[dict[str, Any]], limits: tuple[int | None, float | None, int | None]
) -> None:
    chosen = limits_of(groups, {"limits": DEFAULT, "group_limits": entries})
    assert (chosen["memory"], chosen["cpu"], chosen["tasks"]) == limits
    assert DEFAULT == {"memory": "2G", "cpu": 2.0, "tasks": 1024}, "the settings are everybody's"


def test_sockets_of_kernels_fit_into_the_runtime_directory() -> None:
    """The name of a unix socket has at most 107 bytes; the longest of Jupyter's is kernel-UUID-ipc-NUMBER."""
    longest = runtime_directory(2**32 - 2) / f"kernel-{'0' * 36}-ipc-65535"
    assert len(str(longest)) <= 107
    assert slice_of(2001) == "jupyterhub-2001.slice"
