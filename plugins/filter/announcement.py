"""An announcement to users, checked, as hosts keep it in a file and pages read it."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import re
from typing import TYPE_CHECKING

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable

DOCUMENTATION = """
name: announcement
short_description: The file of an announcement to users
description:
  - Returns the JSON document that the hub and users' servers show in open pages. Times become those of every place.
options:
  _input:
    description: The text, for languages that it is not translated to.
    type: str
    required: true
  translations:
    description: The text in other languages, by their codes, as V(ru).
    type: dict
    default: {}
  start:
    description:
      - When pages begin to show it, by the clock of the controller. V(18:00) is today, V(2026-11-29 18:00) another day.
      - Empty is now.
    type: str
    default: ""
  end:
    description: When pages stop to show it. Empty is never.
    type: str
    default: ""
"""

EXAMPLES = """
- name: Write the announcement
  ansible.builtin.copy:
    content: "{{ 'The storage is slow.' | announcement(end='18:00') }}"
    dest: /etc/campushub/announcement.json
    mode: "0644"
"""

RETURN = """
_value:
  description: The document.
  type: str
"""

LONGEST = 500


def moment(option: str, text: str) -> float | None:
    """Return a time as seconds since 1970, or None where there is none."""
    if not text:
        return None
    now = dt.datetime.now().astimezone()
    try:
        if re.fullmatch(r"\d{1,2}:\d\d", text):
            hours, minutes = map(int, text.split(":"))
            return now.replace(hour=hours, minute=minutes, second=0, microsecond=0).timestamp()
        return dt.datetime.fromisoformat(text).astimezone().timestamp()
    except ValueError as error:
        remedy = "Write it as 18:00, or with the day as '2026-11-29 18:00'."
        raise AnsibleFilterError(f"{option}: '{text}' is no time. {remedy}") from error


def check_text(language: str, text: str) -> None:
    """Raise AnsibleFilterError for a text that no page could show."""
    if not re.fullmatch(r"[a-z]{2,3}|", language):
        raise AnsibleFilterError(f"'{language}' is no code of a language. Write one such as ru.")
    if not text.strip() or len(text) > LONGEST or not text.replace("\n", " ").isprintable():
        what = f"'{text[:40]}' has {len(text)} characters" if text.strip() else "it is empty"
        rule = f"Write 1 to {LONGEST} printable characters, with the address of a page for more."
        raise AnsibleFilterError(f"The announcement cannot be shown: {what}. {rule}")


def announcement(text: str, translations: dict[str, str] | None = None, start: str = "", end: str = "") -> str:
    """Return the document of an announcement. Raises AnsibleFilterError."""
    texts = {"": text, **(translations or {})}
    for language, translated in texts.items():
        check_text(language, translated)
    begins, ends = moment("from", start), moment("until", end)
    now = dt.datetime.now().astimezone()
    remedy = "Write a later time, or the day as well."
    if ends is not None and ends <= now.timestamp():
        raise AnsibleFilterError(f"until: '{end}' is in the past, it is {now:%Y-%m-%d %H:%M}. {remedy}")
    if ends is not None and begins is not None and ends <= begins:
        raise AnsibleFilterError(f"until: '{end}' is not after from: '{start}'. {remedy}")
    document = {"comment": "Managed by CampusHub", "texts": texts, "from": begins, "until": ends}
    # By which a page remembers that somebody has closed it.
    identity = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
    return json.dumps({**document, "id": identity}, ensure_ascii=False, indent=2) + "\n"


class FilterModule:
    """Gives Ansible the filter."""

    def filters(self) -> dict[str, Callable[..., str]]:
        """Return the filter by its name."""
        return {"announcement": announcement}
