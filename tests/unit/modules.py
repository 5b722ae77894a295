"""Runs a module of the project as Ansible would, in this process."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from typing import Any

from ansible.module_utils.testing import patch_module_args


def run_module(main: Callable[[], None], *, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """Return what the module whose `main` this is answers; check mode on request."""
    printed = io.StringIO()
    with patch_module_args({**arguments, "_ansible_check_mode": check}), redirect_stdout(printed):
        umask = os.umask(0o022)
        os.umask(umask)
        with suppress(SystemExit):
            main()
        os.umask(umask)
    answer: dict[str, Any] = json.loads(printed.getvalue())
    return answer
