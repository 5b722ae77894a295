#!/usr/bin/python3 -I
"""
End the server of a user, whoever that is or was. Runs as root.

``campushub-stop UNIT`` is what the sudo rule of a hub that is not root allows in addition to the mediator: the user of
a server may be allowed no session any more, have no account any more, or be in the way of whatever runs as the user. It
succeeds when the service manager says that the unit has ended, be it long ago. It takes names of servers' units alone,
and only root gives names to units.
"""

from __future__ import annotations

import re
import subprocess
import sys

# A server has some seconds to end (`user_session.STOP_SECONDS`) and is killed then; a scope of a former release has 90.
SECONDS = 100
SYSTEMCTL = "/usr/bin/systemctl"


def is_server(unit: str) -> bool:
    """
    Return whether a unit is called like that of a server.

    Former releases have started scopes, on Debian 12 with a second number (`spawners.sudo.FORMER_UNIT`).
    """
    return re.fullmatch(r"jupyterhub-user-[0-9]{1,10}-[0-9]{1,20}(-0)?\.(service|scope)", unit) is not None


def stop(unit: str, seconds: float = SECONDS) -> bool:
    """Stop a unit and return whether it has ended."""
    try:
        subprocess.run([SYSTEMCTL, "stop", "--quiet", "--", unit], check=False, timeout=seconds)
        shown = subprocess.run(
            [SYSTEMCTL, "show", "--value", "--property=ActiveState", "--", unit],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            timeout=seconds,
        ).stdout
    except subprocess.SubprocessError as error:
        print(error, file=sys.stderr)
        return False
    return shown.strip() in ("inactive", "failed")


def main(arguments: list[str]) -> int:
    """Stop the unit that the command line names."""
    if len(arguments) != 1 or not is_server(arguments[0]):
        print("Give one unit, such as jupyterhub-user-2001-1764471600123456789.service", file=sys.stderr)
        return 2
    return 0 if stop(arguments[0]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
