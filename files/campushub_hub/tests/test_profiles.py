"""What people may choose, by the site's profiles, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from campushub_hub.profiles import (
    ChoiceError,
    Offer,
    ProfileError,
    choose,
    form_options,
    offers_of,
    read_profiles,
    recall,
    size_text,
)

SITE: list[dict[str, Any]] = [
    {"name": "small", "title": "Small", "interface": "lab", "memory": "1G", "cpu": 1, "hours": 8},
    {"name": "large", "title": "Large", "memory": ["4G", "2G", "8G"], "cpu": [2, 4], "hours": [8, 24]},
    {"name": "physics", "title": "ROOT", "environment": "lcg", "groups": ["physics"]},
]
GIB = 2**30


def offered(*groups: str, memory: float | None = None, cpu: float | None = None) -> tuple[Offer, ...]:
    return offers_of(read_profiles(SITE), groups, {"memory": memory, "cpu": cpu})


def test_what_is_left_out_is_as_it_is_offered_first() -> None:
    choice = choose(offered(), {})
    assert (choice.profile.name, choice.answers) == ("small", {"memory": GIB, "cpu": 1, "hours": 8})
    assert choice.options() == {"profile": "small"}, "what the profile says itself may change"
    assert choose(offered(), {"profile": "large"}).options() == {
        "profile": "large",
        "memory": "4G",
        "cpu": "2",
        "hours": "8",
    }


@pytest.mark.parametrize(
    "options",
    [
        {"profile": "large", "memory": "8G", "cpu": 4, "hours": 24.0},
        # As links and forms send it.
        {"profile": ["large"], "memory": ["8192M"], "cpu": ["4"], "hours": ["24"]},
        {"profile": "large", "memory": 8 * GIB, "cpu": "4.0", "hours": "24"},
    ],
)
def test_an_answer_counts_however_it_is_written(options: dict[str, Any]) -> None:
    choice = choose(offered(), options)
    assert choice.answers == {"memory": 8 * GIB, "cpu": 4, "hours": 24}
    assert choose(offered(), choice.options()) == choice


HOSTILE: list[dict[str, Any]] = [
    {"nosuch": "v"},
    {"profile": "nosuch"},
    {"profile": "large\n"},
    {"profile": "small", "memory": "8G"},
    {"profile": "small", "environment": "lcg"},
    {"profile": "physics"},
    {"profile": ""},
    {"profile": None},
    {"profile": {"name": "small"}},
    {"profile": ["small", "large"]},
    {"profile": []},
    {"profile": True},
    {"profile": "x" * 100_000},
    {"x" * 100_000: "1"},
    {"without_settings": {"a": 1}},
    *(
        {"profile": "large", "memory": value}
        for value in (
            "3G",
            "4G ",
            "4G\nX=1",
            "-4G",
            "4g",
            "1e400",
            "٤G",
            "",
            4.5,
            0,
            -1,
            True,
            10**400,
            1e400,
            ["4G", "2G"],
        )
    ),
    *({"profile": "large", "cpu": value} for value in ("nan", "inf", "4;", "4 4", "0x4", 3, False, {"a": [1]}, None)),
    {"profile": "large", "cmd": ["/bin/sh"]},
    {"profile": "large", "large.memory": "8G"},
]


@pytest.mark.parametrize("options", HOSTILE, ids=lambda options: str(options)[:50])
def test_what_is_not_offered_is_refused(options: dict[str, Any]) -> None:
    """In words that hold nothing of another line, and not much of what was sent."""
    with pytest.raises(ChoiceError) as refused:
        choose(offered(), options)
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 300


def test_groups_of_a_profile_alone_are_offered_it() -> None:
    assert [offer.profile.name for offer in offered()] == ["small", "large"]
    assert choose(offered("physics"), {"profile": "physics"}).profile.environment == "lcg"
    with pytest.raises(ChoiceError, match="nothing here that you may start"):
        choose(offers_of(read_profiles(SITE[2:]), [], {}), {})


def test_nobody_is_offered_more_than_their_limits() -> None:
    large = choose(offered(memory=4 * GIB, cpu=2), {"profile": "large"})
    memory, cpu, hours = large.questions
    assert (memory.values, memory.default, memory.is_capped) == ((2 * GIB, 4 * GIB), 4 * GIB, True)
    assert (cpu.values, cpu.is_open, cpu.is_capped) == ((2,), False, True)
    assert not hours.is_capped
    # Nor does a profile lead to more that leaves no choice.
    assert choose(offered(memory=GIB / 2), {}).answers["memory"] == GIB / 2
    assert choose(offered(memory=GIB), {"profile": "large"}).options() == {"profile": "large", "cpu": "2", "hours": "8"}
    with pytest.raises(ChoiceError, match=r"“8G”. You can have 2G, 4G\."):
        choose(offered(memory=4 * GIB), {"profile": "large", "memory": "8G"})


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ({"profile": "large", "memory": "8G"}, ("large", 8 * GIB)),
        # What is not offered any more.
        ({"profile": "large", "memory": "16G"}, ("large", 4 * GIB)),
        ({"profile": "gone", "memory": "8G"}, ("small", GIB)),
        # What the release before, or another program, has left.
        ({"profile": ["large"], "x": 1}, ("large", 4 * GIB)),
        ({}, ("small", GIB)),
        ({"profile": {"a": 1}}, ("small", GIB)),
    ],
)
def test_former_choices_count_as_far_as_they_are_offered(former: dict[str, Any], now: tuple[str, int]) -> None:
    choice = recall(offered(), former)
    assert (choice.profile.name, choice.answers["memory"]) == now


def test_of_a_form_the_questions_of_the_chosen_profile_count() -> None:
    form = {"profile": ["large"], "large.memory": ["8G"], "large.cpu": ["4"], "small.memory": ["1G"]}
    assert choose(offered(), form_options(offered(), form)).options()["memory"] == "8G"
    for further in ("small.nosuch", "gone.memory", "memory.large", "x"):
        with pytest.raises(ChoiceError):
            choose(offered(), form_options(offered(), {**form, further: ["1"]}))


def test_a_start_without_settings_is_an_option_of_its_own() -> None:
    for value in (["1"], "1", 1, True):
        assert choose(offered(), {"without_settings": value}).without_settings
    assert choose(offered(), {"without_settings": "1"}).options() == {"profile": "small", "without_settings": "1"}
    assert not choose(offered(), {"without_settings": "0"}).without_settings


@pytest.mark.parametrize("size", [2**10, 2**20, 1536 * 2**20, 2**31, 2**40, 2**30 + 1, 12345, 3 * 2**28])
def test_a_size_is_written_as_it_is_read(size: int) -> None:
    profiles = read_profiles([{"name": "a", "memory": size_text(size)}])
    assert profiles[0].questions[0].default == size


@pytest.mark.parametrize(
    ("profile", "problem"),
    [
        ({"name": "Big"}, "cannot have the name 'Big'"),
        ({"name": "a" * 31}, "cannot have the name"),
        ({}, "cannot have the name ''"),
        ({"name": "a", "memroy": "1G"}, "has 'memroy', which is nothing"),
        ({"name": "a", "interface": "rstudio"}, "has the interface 'rstudio'"),
        ({"name": "a", "application": "root"}, "Profile a has the application 'root'"),
        ({"name": "a", "interface": "desktop", "application": "-x"}, "Profile a has the application '-x'"),
        ({"name": "a", "memory": "lots"}, "Profile a: memory: 'lots' is no size such as 512M or 2G"),
        ({"name": "a", "cpu": [1, "x"]}, "Profile a: cpu: 'x' is no number such as 0.5 or 4"),
        ({"name": "a", "partition": ["main", "-x"]}, "Profile a: partition: '-x' is no name of a cluster"),
        ({"name": "a", "qos": "x,y"}, "Profile a: qos: 'x,y' is no name"),
        ({"name": "a", "gpus": [1, 0.5]}, "Profile a: gpus: '0.5' is no whole number such as 0 or 2"),
        ({"name": "a", "gpus": "a100:1"}, "Profile a: gpus: 'a100:1' is no whole number"),
        ({"name": "small"}, "Two profiles have the name 'small'"),
    ],
)
def test_a_profile_that_cannot_be_used_is_named(profile: dict[str, Any], problem: str) -> None:
    with pytest.raises(ProfileError, match=problem):
        read_profiles([*SITE, profile])
