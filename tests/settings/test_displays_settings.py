"""Every message of role displays about its settings, and settings that it takes."""

from __future__ import annotations

from typing import Any

import yaml

from tests.settings.validation import ROOT, answered_otherwise, facts, run_for

HOSTS = "is not supported. Use Debian 12 or 13, or Ubuntu 22.04 or 24.04."
APPLICATION = {"id": "paraview", "title": "ParaView", "command": ["paraview"]}

BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "rocky9": ({"facts": facts("Rocky", "9.5", "Blue Onyx")}, [f'distribution = "Rocky 9" {HOSTS}']),
    "distribution": (
        {"displays_engine": "xpra", "displays_xpra_source": "distribution", "facts": facts("Debian", "12", "bookworm")},
        [
            (
                'displays_xpra_source = "distribution" is of no use, for Debian 12 has Xpra 3.1 and displays need '
                "6.5 or newer. "
                "Use build, or upstream where the repository of Xpra's makers can be reached."
            )
        ],
    ),
    "no-distribution": (
        {"displays_engine": "xpra", "displays_xpra_source": "distribution", "facts": facts("Debian", "13", "trixie")},
        [
            (
                'displays_xpra_source = "distribution" is of no use, for Debian 13 has no Xpra and displays need '
                "6.5 or newer. "
                "Use build, or upstream where the repository of Xpra's makers can be reached."
            )
        ],
    ),
    "source": (
        {"displays_xpra_source": "pypi"},
        [
            (
                'displays_xpra_source = "pypi" is none of upstream, build, distribution.'
                " See docs/reference/settings/displays.md."
            ),
        ],
    ),
    "url": (
        {"displays_xpra_apt_url": "xpra.org"},
        [
            (
                'displays_xpra_apt_url = "xpra.org" is no address of a repository. '
                "Begin it with https:// or http://, or set displays_xpra_source to build for hosts that reach none."
            )
        ],
    ),
    "no-url": (
        {"displays_xpra_apt_url": "", "displays_xpra_apt_key": "", "displays_xpra_apt_key_fingerprint": ""},
        [
            (
                'displays_xpra_apt_url = "" is no address of a repository. '
                "Begin it with https:// or http://, or set displays_xpra_source to build for hosts that reach none."
            )
        ],
    ),
    "built-version": (
        {"displays_xpra_source": "build", "displays_xpra_version": "6.5.4-r0-1"},
        [
            (
                'displays_xpra_version = "6.5.4-r0-1" has no effect on packages that are built. '
                "Leave it empty; the version that is built is the one that CampusHub is tested with."
            )
        ],
    ),
    "cache": (
        {"displays_xpra_build_cache": "cache"},
        [
            (
                'displays_xpra_build_cache = "cache" is no absolute path. '
                "Give a directory on the controller that is yours, such as ~/.cache/campushub/xpra."
            )
        ],
    ),
    "key": (
        {"displays_xpra_apt_key": "xpra.asc"},
        [
            (
                'displays_xpra_apt_key = "xpra.asc" is neither an address nor an absolute path. '
                "Begin it with https://, or with {{ inventory_dir }}/ when the file is kept beside the inventory."
            )
        ],
    ),
    "no-key": (
        {"displays_xpra_apt_key": "/nonexistent/xpra.asc"},
        [
            (
                'displays_xpra_apt_key = "/nonexistent/xpra.asc" is no file on the controller. '
                "Give the path of the repository's public key."
            )
        ],
    ),
    "fingerprint": (
        {"displays_xpra_apt_key_fingerprint": "C497EA957"},
        [
            (
                'displays_xpra_apt_key_fingerprint = "C497EA957" is no fingerprint of a key. '
                "Give its 40 hexadecimal digits, as gpg --show-keys prints them."
            )
        ],
    ),
    "suite": (
        {"displays_xpra_apt_suite": "book worm"},
        [
            (
                'displays_xpra_apt_suite = "book worm" cannot be the name of a suite. '
                "Leave it empty for the code name of the distribution, such as bookworm."
            )
        ],
    ),
    "version": (
        {"displays_xpra_version": "latest"},
        [
            (
                'displays_xpra_version = "latest" is no version of a package. Write it as apt-cache policy '
                "xpra-server shows it, such as 6.5.4-r0-1, or leave it empty for the newest."
            )
        ],
    ),
    "package": (
        {"displays_extra_packages": ["paraview gimp"]},
        [
            (
                'displays_extra_packages[0] = "paraview gimp" cannot be the name of a package. '
                "Write one name an entry, such as paraview."
            )
        ],
    ),
    "id": (
        {"displays_applications": [{**APPLICATION, "id": "Para View"}]},
        [
            (
                'displays_applications[0].id = "Para View" cannot be the short name of an application. '
                "Use at most 32 lower-case letters, digits and hyphens."
            )
        ],
    ),
    "taken": (
        {"displays_applications": [APPLICATION, APPLICATION, {**APPLICATION, "id": "desktop"}]},
        [
            f'displays_applications[{number}].id = "{name}" is taken already. '
            "Give each application a name of its own; desktop and terminal are always there."
            for number, name in ((1, "paraview"), (2, "desktop"))
        ],
    ),
    "title": (
        {"displays_applications": [{**APPLICATION, "title": ""}]},
        ['displays_applications[0].title = "" is no title. Write one line of at most 80 characters.'],
    ),
    "command": (
        {"displays_applications": [{**APPLICATION, "command": []}]},
        [
            (
                "displays_applications[0].command = [] starts nothing. "
                "Write the program and its arguments as a list, such as [paraview] or [/usr/bin/env, root, -l]."
            )
        ],
    ),
    "layout": (
        {"displays_keyboard_layouts": ["us", "Russian", "en", "uk"]},
        [
            f'displays_keyboard_layouts[{number}] = "{name}" is no keyboard layout. '
            "Write it as XKB names it, such as us, ru, de or ch(fr)."
            for number, name in ((1, "Russian"), (2, "en"), (3, "uk"))
        ],
    ),
    "limit": (
        {"displays_limit": -1},
        [("displays_limit = -1 is not a number of displays. Give how many displays a user may have; 0 is any number.")],
    ),
    "ready": (
        {"displays_prewarmed": 5},
        [
            (
                "displays_prewarmed = 5 is more than anybody needs, or less than none. "
                "Give 1 to have a desktop wait for each user who has a server, or 0 to start them when they are "
                "asked for."
            )
        ],
    ),
    "idle": (
        {"displays_idle_timeout": 5},
        [
            (
                "displays_idle_timeout = 5 would end displays while people look at them. "
                "Give at least 60 seconds, such as 86400 for a day; 0 is never."
            )
        ],
    ),
    "virtualgl": (
        {"displays_virtualgl": "yes please"},
        [
            (
                'displays_virtualgl = "yes please" is no device that VirtualGL draws with. Write egl, egl0 and so on, '
                "/dev/dri/card0, or an X display such as :0; leave it empty without a graphics card."
            )
        ],
    ),
    "misspelt": (
        {"displays_engines": "xpra"},
        ["displays_engines is no setting of role displays. Did you mean displays_engine?"],
    ),
}

GOOD: dict[str, dict[str, Any]] = {
    "nothing": {},
    "debian13": {"facts": facts("Debian", "13", "trixie")},
    "ubuntu2404": {"facts": facts("Ubuntu", "24.04", "noble")},
    "build": {
        "displays_xpra_source": "build",
        "displays_xpra_apt_url": "",
        "displays_xpra_apt_key": "",
        "displays_xpra_apt_key_fingerprint": "",
    },
    "distribution-or-tigervnc": {"displays_xpra_source": "distribution"},
    "everything": {
        "displays_engine": "tigervnc",
        "displays_xpra_apt_url": "https://mirror.example.org/xpra/",
        "displays_xpra_apt_key_fingerprint": "b499 3b57 3231 48e3 7977  e5d8 7325 4cad 1797 8faf",
        "displays_xpra_apt_suite": "bookworm",
        "displays_xpra_version": "6.5.4-r0-1",
        "displays_desktop": "none",
        "displays_extra_packages": ["paraview", "root-system=6.30"],
        "displays_applications": [
            APPLICATION,
            {
                "id": "root",
                "title": "ROOT «6»",
                "description": "Analysis of data",
                "command": ["sh", "-c", "echo $HOME"],
                "icon": "/usr/share/pixmaps/root.png",
                "categories": ["Science", "Physics"],
            },
        ],
        "displays_keyboard_layouts": ["us", "ch(fr)"],
        "displays_limit": 0,
        "displays_idle_timeout": 86400,
        "displays_prewarmed": 1,
        "displays_virtualgl": "egl0",
    },
}


def test_bad_settings_are_named_with_a_remedy_and_good_ones_pass() -> None:
    good: dict[str, tuple[dict[str, Any], list[str]]] = {name: (settings, []) for name, settings in GOOD.items()}
    assert answered_otherwise("displays", BAD | good) == {}


def test_a_sound_server_of_the_site_is_masked_no_longer() -> None:
    """By the record of links removal knows which mask is ours."""
    paths = "__displays_files | selectattr('link', 'defined') | map(attribute='path')"
    units = [f"/etc/systemd/user/pulseaudio.{kind}" for kind in ("socket", "service")]
    hosts: dict[str, dict[str, Any]] = {"sound": {}, "none": {"displays_sound": False}}
    assert run_for("displays", hosts, {}, paths) == {"sound": units, "none": []}
    for name in ("configure", "remove"):
        tasks = yaml.safe_load((ROOT / f"roles/displays/tasks/{name}.yml").read_text())
        assert [task["managed_files"].get("links_record") for task in tasks if "managed_files" in task] == [
            "{{ __displays_links }}"
        ]
