"""Every message of role accounts about its settings, and settings that it takes."""

from __future__ import annotations

from typing import Any

from tests.unit.settings import facts, messages

HASH = "$6$saltsalt$" + "a" * 86
KEY = "ssh-ed25519 " + "A" * 68 + " ann@laptop"
LETTERS = "Use at most 32 small letters, digits, - and _, and begin with a letter."
NUMBER = "Give a number from 1000 on, other than 65534 and 65535."
SECRET = "Never write a password itself. Make a hash with: openssl passwd -6."


def user(**settings: Any) -> dict[str, Any]:
    return {"accounts_users": [{"name": "ann", **settings}]}


CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "defaults": ({}, []),
    "everything": (
        {
            "accounts_access_group": "hub_users",
            "accounts_groups": [{"name": "staff-1", "gid": 3000}, {"name": "old", "state": "absent"}],
            "accounts_users": [
                {
                    "name": "ann",
                    "uid": 2001,
                    "full_name": "Анна Иванова",
                    "groups": ["staff-1", "video"],
                    "password_hash": HASH,
                    "ssh_keys": [KEY],
                    "shell": "/usr/bin/zsh",
                },
                {
                    "name": "_bob",
                    "uid": "2002",
                    "access": False,
                    "password_hash": "$y$j9T$" + "b" * 22 + "$" + "c" * 43,
                },
                {"name": "eve", "state": "absent", "remove_home": True},
            ],
            "facts": facts("Rocky", "9.5", "Blue Onyx"),
        },
        [],
    ),
    "misspelt": ({"accounts_user": []}, ["accounts_user is no setting of role accounts. Did you mean accounts_users?"]),
    "misspelt-inside": (
        user(passwd_hash=HASH),
        ["accounts_users[0].passwd_hash is no setting of accounts_users. Did you mean password_hash?"],
    ),
    "plain-key": (
        user(password="s3cret"),
        ["accounts_users[0].password is no setting of accounts_users. Did you mean password_hash?"],
    ),
    "nameless": (
        {"accounts_users": [{"uid": 2001}, {"name": "Bob"}]},
        [
            "accounts_users[0].name is missing. See roles/accounts/README.md.",
            f'accounts_users[1].name = "Bob" is no login name that Unix can have. {LETTERS}',
        ],
    ),
    "types": (
        {"accounts_users": {}, "accounts_groups": ["staff"], "accounts_access_group": None},
        [
            "accounts_access_group = null is empty, but a text is needed. See roles/accounts/README.md.",
            'accounts_groups[0] = "staff" is a text, but a dictionary is needed. See roles/accounts/README.md.',
            "accounts_users = {} is a dictionary, but a list of dictionaries is needed. See roles/accounts/README.md.",
        ],
    ),
    "inner-types": (
        user(uid="many", groups="staff", password_hash=["s3cret"], state="gone"),
        [
            'accounts_users[0].uid = "many" is a text, but a whole number is needed. See roles/accounts/README.md.',
            (
                'accounts_users[0].groups = "staff" is a text, but a list of texts is needed.'
                " Begin a line with a dash for each entry. See roles/accounts/README.md."
            ),
            "accounts_users[0].password_hash is a list, but a text is needed. See roles/accounts/README.md.",
            'accounts_users[0].state = "gone" is none of present, absent. See roles/accounts/README.md.',
        ],
    ),
    "state": (
        {"accounts_state": "abset"},
        ['accounts_state = "abset" is none of present, absent. Did you mean absent?'],
    ),
    "access-group": (
        {"accounts_access_group": "Hub Users"},
        [f'accounts_access_group = "Hub Users" is no name for a group. {LETTERS}'],
    ),
    "names": (
        {"accounts_users": [{"name": name} for name in ("Ann", "1st", "иван", "ann:x", "a" * 33, "bob\n", "")]},
        [
            f"accounts_users[{index}].name = {shown} is no login name that Unix can have. {LETTERS}"
            for index, shown in enumerate(
                ('"Ann"', '"1st"', '"иван"', '"ann:x"', '"' + "a" * 33 + '"', r'"bob\n"', '""')
            )
        ],
    ),
    "system-names": (
        {"accounts_users": [{"name": "root"}, {"name": "www-data"}]},
        [
            'accounts_users[0].name = "root" belongs to the system. Choose another name.',
            'accounts_users[1].name = "www-data" belongs to the system. Choose another name.',
        ],
    ),
    "twice": (
        {"accounts_users": [{"name": "ann", "uid": 2001}, {"name": "bob", "uid": 2001}, {"name": "ann"}]},
        [
            'accounts_users = ["ann"] is listed twice. Remove one of the two entries.',
            "accounts_users = [2001] is the number of two users. Give each user one of their own.",
        ],
    ),
    "numbers": (
        {"accounts_users": [{"name": "ann", "uid": 999}, {"name": "bob", "uid": 65534}, {"name": "eve", "uid": -5}]},
        [
            f"accounts_users[0].uid = 999 (ann) belongs to the system. {NUMBER}",
            f"accounts_users[1].uid = 65534 (bob) belongs to the system. {NUMBER}",
            f"accounts_users[2].uid = -5 (eve) belongs to the system. {NUMBER}",
        ],
    ),
    "full-name": (
        user(full_name="Ann: the first"),
        [
            (
                'accounts_users[0].full_name = "Ann: the first" (ann) holds a colon or a line break, which no account'
                " can have there. Leave it out."
            )
        ],
    ),
    "groups": (
        user(groups=["staff", "phyics", "chem"]),
        [
            (
                'accounts_users[0].groups = ["phyics", "chem"] (ann) is unknown.'
                " Correct the name, or add the group to accounts_groups."
            )
        ],
    ),
    "passwords": (
        {
            "accounts_users": [
                {"name": f"u{index}", "password_hash": text}
                for index, text in enumerate(
                    ("s3cret!", "$6$short", "$1$saltsalt$" + "a" * 22, HASH + ":0:", HASH + "\n")
                )
            ]
        },
        [f"accounts_users[{index}].password_hash (u{index}) is no hash of a password. {SECRET}" for index in range(5)],
    ),
    "keys": (
        user(ssh_keys=[KEY, "ssh-dss AAAA", "ssh-rsa A\nB"]),
        [
            (
                r'accounts_users[0].ssh_keys = ["ssh-dss AAAA", "ssh-rsa A\nB"] (ann) is no public key.'
                " Copy the line from a file like id_ed25519.pub."
            )
        ],
    ),
    "shell": (
        {"accounts_users": [{"name": "ann", "shell": "bash"}]},
        ['accounts_users[0].shell = "bash" (ann) is no absolute path. Write it like /bin/bash.'],
    ),
    "remove-home": (
        user(remove_home=True),
        [
            (
                "accounts_users[0].remove_home = true (ann) would remove the home of an account that stays."
                " Set state: absent, too, or leave remove_home out."
            )
        ],
    ),
    "group-entries": (
        {
            "accounts_groups": [
                {"name": "Staff"},
                {"name": "phys", "gid": 3000},
                {"name": "phys"},
                {"name": "chem", "gid": 3000},
                {"name": "bio", "gid": 100},
                {"name": "ann"},
                {"name": "root"},
            ],
            "accounts_users": [{"name": "ann"}],
        },
        [
            f'accounts_groups[0].name = "Staff" is no name for a group. {LETTERS}',
            'accounts_groups = ["phys"] is listed twice. Remove one of the two entries.',
            (
                'accounts_groups[5].name = "ann" is the name of a user, too, who gets a group of that name.'
                " Rename one of the two."
            ),
            'accounts_groups[6].name = "root" belongs to the system. Choose another name.',
            f"accounts_groups[4].gid = 100 (bio) belongs to the system. {NUMBER}",
            "accounts_groups = [3000] is the number of two groups. Give each group one of its own.",
        ],
    ),
}


def test_every_mistake_is_named_with_its_remedy_and_no_secret_is_shown() -> None:
    said = messages("accounts", {host: settings for host, (settings, _) in CASES.items()})
    assert said == {host: texts for host, (_, texts) in CASES.items()}
