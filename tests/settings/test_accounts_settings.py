"""Every message of role accounts about its settings, and settings that it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plugins.action.check_settings import shown
from tests.settings.validation import answered_otherwise, facts

HASH = "$6$saltsalt$" + "a" * 86
KEY = "ssh-ed25519 " + "A" * 68 + " ann@laptop"
LETTERS = "Use at most 32 lower-case letters, digits, - and _, and begin with a letter."
NUMBER = "Give a number from 1000 on, other than 65534 and 65535."
SECRET = "Never write a password itself. Make a hash with: openssl passwd -6."
DN = "Write it like dc=example,dc=org."
ADDRESS = "Write it like ldaps://ldap.example.org or, for StartTLS, ldap://ldap.example.org."
OVERLAP = (
    "is a number of the directory, too, which has those from accounts_id_minimum on."
    " Give one below, or change accounts_id_minimum."
)
# Any certificate will do.
CERTIFICATE = str(next(Path("/etc/ssl/certs").glob("*.pem")).resolve())
LDAP = {
    "accounts_directory": "ldap",
    "accounts_ldap_uris": ["ldaps://ldap.example.org"],
    "accounts_ldap_base_dn": "dc=example,dc=org",
    "accounts_allowed_groups": ["hub-users"],
}


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
            "accounts_users[0].name is missing. See docs/reference/settings/accounts.md.",
            f'accounts_users[1].name = "Bob" is no login name that Unix can have. {LETTERS}',
        ],
    ),
    "types": (
        {"accounts_users": {}, "accounts_groups": ["staff"], "accounts_access_group": None},
        [
            (
                'accounts_access_group = null is empty, but a text is needed. Write "" for none, or leave the line out'
                " for the default. See docs/reference/settings/accounts.md."
            ),
            (
                'accounts_groups[0] = "staff" is a text, but a dictionary is needed.'
                " See docs/reference/settings/accounts.md."
            ),
            (
                "accounts_users = {} is a dictionary, but a list of dictionaries is needed."
                " See docs/reference/settings/accounts.md."
            ),
        ],
    ),
    "inner-types": (
        user(uid="many", groups="staff", password_hash=["s3cret"], state="gone"),
        [
            (
                'accounts_users[0].uid = "many" is a text, but a whole number is needed.'
                " See docs/reference/settings/accounts.md."
            ),
            (
                'accounts_users[0].groups = "staff" is a text, but a list of texts is needed.'
                " Begin a line with a dash for each entry. See docs/reference/settings/accounts.md."
            ),
            "accounts_users[0].password_hash is a list, but a text is needed. See docs/reference/settings/accounts.md.",
            'accounts_users[0].state = "gone" is none of present, absent. See docs/reference/settings/accounts.md.',
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
        {
            "accounts_access_group": "sudo",
            "accounts_groups": [{"name": "disk"}, {"name": "docker", "state": "absent"}],
            "accounts_users": [
                {"name": "root", "state": "absent"},
                {"name": "www-data"},
                {"name": "shadow"},
                {"name": "jupyterhub-proxy"},
                # The sudoers of Ubuntu know this group, which need not be there.
                {"name": "admin"},
                {"name": "video", "state": "absent"},
            ],
        },
        [
            'accounts_access_group = "sudo" belongs to the system. Choose another name.',
            'accounts_groups[0].name = "disk" belongs to the system. Choose another name.',
            'accounts_groups[1].name = "docker" belongs to the system. Choose another name.',
            'accounts_users[0].name = "root" belongs to the system. Choose another name.',
            'accounts_users[1].name = "www-data" belongs to the system. Choose another name.',
            'accounts_users[2].name = "shadow" belongs to the system. Choose another name.',
            'accounts_users[3].name = "jupyterhub-proxy" belongs to the system. Choose another name.',
            'accounts_users[4].name = "admin" belongs to the system. Choose another name.',
        ],
    ),
    "access-group-of-a-user": (
        {"accounts_access_group": "ann", "accounts_users": [{"name": "ann"}]},
        [
            (
                'accounts_access_group = "ann" is the name of a user, too, who gets a group of that name.'
                " Rename one of the two."
            )
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
    "directory": (
        {
            **LDAP,
            "accounts_ldap_uris": ["ldaps://ldap1.example.org", "ldap://192.0.2.1:1389", "ldaps://[2001:db8::1]/"],
            "accounts_ldap_bind_dn": "cn=reader,ou=services, dc=example,dc=org",
            "accounts_ldap_bind_password": "a b#c;d=\"e'",
            "accounts_ldap_ca_certificate": CERTIFICATE,
            "accounts_ldap_schema": "rfc2307bis",
            "accounts_kerberos_realm": "EXAMPLE.ORG",
            "accounts_kerberos_kdcs": ["kdc1.example.org", "kdc2.example.org:88"],
            "accounts_allowed_groups": ["Hub Users", "физики"],
            "accounts_users": [{"name": "ann", "uid": 2001}],
            "accounts_home_template": "/home/%l/%u",
            "accounts_shell": "/bin/zsh",
        },
        [],
    ),
    "joined": (
        {
            "accounts_directory": "ad",
            "accounts_ad_domain": "ad.example.org",
            "accounts_kerberos_realm": "AD.EXAMPLE.ORG",
            "accounts_allow_all": True,
        },
        [],
    ),
    "directory-kind": (
        {"accounts_directory": "LDAP"},
        ['accounts_directory = "LDAP" is none of "", ldap, ad. See docs/reference/settings/accounts.md.'],
    ),
    "no-servers": (
        {**LDAP, "accounts_ldap_uris": [], "accounts_ldap_base_dn": ""},
        [
            "accounts_ldap_uris = [] is empty. Name the servers of the directory, such as ldaps://ldap.example.org.",
            f'accounts_ldap_base_dn = "" is no name in a directory. {DN}',
        ],
    ),
    "servers": (
        {**LDAP, "accounts_ldap_uris": ["http://ldap.example.org", "ldap.example.org", "ldaps://a,ldaps://b"]},
        [
            f'accounts_ldap_uris[{index}] = "{text}" is no address of a directory. {ADDRESS}'
            for index, text in enumerate(("http://ldap.example.org", "ldap.example.org", "ldaps://a,ldaps://b"))
        ],
    ),
    "no-tls": (
        {**LDAP, "accounts_ldap_uris": ["ldaps://a", "ldap://b"], "accounts_ldap_start_tls": False},
        [
            (
                'accounts_ldap_uris[1] = "ldap://b" would send passwords over the network for everybody to read. Use'
                " ldaps://, or set accounts_ldap_start_tls: true. Who cannot have TLS must say"
                " accounts_ldap_allow_insecure: true."
            )
        ],
    ),
    "no-tls-in-so-many-words": (
        {
            **LDAP,
            "accounts_ldap_uris": ["ldap://b"],
            "accounts_ldap_start_tls": False,
            "accounts_ldap_allow_insecure": True,
        },
        [],
    ),
    "names-in-the-directory": (
        {
            **LDAP,
            "accounts_ldap_base_dn": "example.org",
            "accounts_ldap_user_base_dn": "ou=people,",
            "accounts_ldap_group_base_dn": "ou=groups\nldap_tls_reqcert = never",
            "accounts_ldap_bind_dn": "reader",
            "accounts_ldap_bind_password": "secret",
        },
        [
            f'accounts_ldap_base_dn = "example.org" is no name in a directory. {DN}',
            f'accounts_ldap_user_base_dn = "ou=people," is no name in a directory. {DN}',
            rf'accounts_ldap_group_base_dn = "ou=groups\nldap_tls_reqcert = never" is no name in a directory. {DN}',
            ('accounts_ldap_bind_dn = "reader" is no name in a directory. Write it like cn=reader,dc=example,dc=org.'),
        ],
    ),
    "reader-without-password": (
        {**LDAP, "accounts_ldap_bind_dn": "cn=reader,dc=example,dc=org"},
        [("accounts_ldap_bind_password and accounts_ldap_bind_dn are of use together only. Give both, or neither.")],
    ),
    "reader-with-a-line-break": (
        {
            **LDAP,
            "accounts_ldap_bind_dn": "cn=reader,dc=example,dc=org",
            "accounts_ldap_bind_password": "secret\nldap_tls_reqcert = never",
        },
        [
            (
                "accounts_ldap_bind_password begins or ends with a space, or holds a line break, which sssd cannot"
                " read. Choose another one."
            )
        ],
    ),
    "certificate-path": (
        {**LDAP, "accounts_ldap_ca_certificate": "ca.pem"},
        [
            (
                'accounts_ldap_ca_certificate = "ca.pem" is not an absolute path. Begin it with a slash, or with'
                " {{ inventory_dir }}/ when the file is kept beside the inventory."
            )
        ],
    ),
    "certificate-missing": (
        {**LDAP, "accounts_ldap_ca_certificate": "/nowhere/ca.pem"},
        [
            (
                'accounts_ldap_ca_certificate = "/nowhere/ca.pem" is no file on the controller. Give the path of the'
                " authority's certificate there, or leave it empty for those that the hosts trust."
            )
        ],
    ),
    "certificate-none": (
        {**LDAP, "accounts_ldap_ca_certificate": __file__},
        [
            (
                f"accounts_ldap_ca_certificate = {shown(__file__)} holds no certificate. It begins with"
                " -----BEGIN CERTIFICATE-----. Convert DER with: openssl x509 -inform der -in FILE -out FILE.pem."
            )
        ],
    ),
    "nobody": (
        {**LDAP, "accounts_allowed_groups": []},
        [
            (
                "accounts_allowed_groups = [] is empty, so nobody of the directory could log in. Name a group there,"
                " or users in accounts_allowed_users, or say accounts_allow_all: true."
            )
        ],
    ),
    "allowed": (
        {**LDAP, "accounts_allowed_groups": ["a, b", "sudo"], "accounts_allowed_users": ["#ann", "bob\nx = y"]},
        [
            (
                'accounts_allowed_groups[0] = "a, b" cannot be the name of a group.'
                " Write one name in each entry, without commas."
            ),
            'accounts_allowed_groups[1] = "sudo" belongs to the system. Name a group of the directory.',
            (
                'accounts_allowed_users[0] = "#ann" cannot be the name of a user.'
                " Write one name in each entry, without commas."
            ),
            (
                r'accounts_allowed_users[1] = "bob\nx = y" cannot be the name of a user.'
                " Write one name in each entry, without commas."
            ),
        ],
    ),
    "filter": (
        {**LDAP, "accounts_ldap_access_filter": "(&(a=b)(c=d)"},
        [
            (
                'accounts_ldap_access_filter = "(&(a=b)(c=d)" is no LDAP filter. Write it like'
                " (memberOf=cn=hub,ou=groups,dc=example,dc=org), with as many brackets closed as opened."
            )
        ],
    ),
    "id-range": (
        {
            **LDAP,
            "accounts_id_minimum": 500,
            "accounts_id_maximum": 400,
            "accounts_users": [{"name": "ann", "uid": 2001}],
        },
        [
            (
                "accounts_id_minimum = 500 would let the directory have numbers of the system."
                " Give the first number that belongs to a person there, at least 1000."
            ),
            (
                "accounts_id_maximum = 400 is not above accounts_id_minimum."
                " Give the last number of the directory; 0 is no limit."
            ),
        ],
    ),
    "id-overlap": (
        {
            **LDAP,
            "accounts_users": [{"name": "ann", "uid": 9999}, {"name": "bob", "uid": 10000}],
            "accounts_groups": [{"name": "physics", "gid": 20000}],
        },
        [
            f"accounts_users[1].uid = 10000 (bob) {OVERLAP}",
            f"accounts_groups[0].gid = 20000 (physics) {OVERLAP}",
        ],
    ),
    "homes": (
        {**LDAP, "accounts_home_template": "/home", "accounts_shell": "bash"},
        [
            'accounts_home_template = "/home" would be one home for everybody. Write it like /home/%u.',
            'accounts_shell = "bash" is no absolute path. Write it like /bin/bash.',
        ],
    ),
    "times": (
        {
            **LDAP,
            "accounts_home_template": "home/%u",
            "accounts_cache_seconds": 1,
            "accounts_offline_days": -1,
            "accounts_kerberos_ticket_lifetime": "10 hours",
            "accounts_kerberos_renewable_lifetime": "",
        },
        [
            'accounts_home_template = "home/%u" is no absolute path. Write it like /home/%u.',
            (
                "accounts_cache_seconds = 1 is too short for a directory that many people use."
                " Give at least 10 seconds; 60 is usual."
            ),
            (
                "accounts_offline_days = -1 is not a number of days."
                " Give how long people get in while the directory is down; 0 is not at all."
            ),
            'accounts_kerberos_ticket_lifetime = "10 hours" is no time. Give a number with s, m, h or d, such as 10h.',
            'accounts_kerberos_renewable_lifetime = "" is no time. Give a number with s, m, h or d, such as 10h.',
        ],
    ),
    "realm-missing": (
        {**LDAP, "accounts_kerberos_kdcs": ["kdc.example.org"]},
        [
            (
                'accounts_kerberos_realm = "" is missing. Give the realm that accounts_kerberos_kdcs or'
                " accounts_ad_domain belong to, such as EXAMPLE.ORG."
            )
        ],
    ),
    "realm": (
        {**LDAP, "accounts_kerberos_realm": "example.org", "accounts_kerberos_kdcs": ["kdc example"]},
        [
            'accounts_kerberos_realm = "example.org" is no realm. Write it in capitals, like EXAMPLE.ORG.',
            (
                'accounts_kerberos_kdcs[0] = "kdc example" is no server.'
                " Write it like kdc.example.org or kdc.example.org:88."
            ),
        ],
    ),
    "domain": (
        {**LDAP, "accounts_ad_domain": "ad example", "accounts_kerberos_realm": "EXAMPLE.ORG"},
        [
            (
                'accounts_ad_domain = "ad example" is of use with Active Directory only.'
                " Set accounts_directory: ad, or leave it out."
            ),
            'accounts_ad_domain = "ad example" is no domain. Write it like ad.example.org.',
        ],
    ),
    "nameless-in-active-directory": (
        {**LDAP, "accounts_directory": "ad"},
        [
            (
                'accounts_ldap_bind_dn = "" is empty, but Active Directory tells nothing to the nameless.'
                " Name an account that may read it, or join the hosts and set accounts_ad_domain."
            )
        ],
    ),
}


def test_every_mistake_has_a_remedy_and_shows_no_secret() -> None:
    assert answered_otherwise("accounts", CASES) == {}
