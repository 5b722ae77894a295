"""Check a host before anything is installed on it; see plugins/modules/check_host.py."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase


def first_line(text: str) -> str:
    """The first line that says something, as the start of a message."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no reason given"


def unreachable(text: str) -> str:
    """Reduce what ssh and Ansible say about a connection to a fault of the host and its remedy."""
    reason = first_line(re.split(r"(?:over|via) ssh: ", text)[-1]).removeprefix("ssh: ")
    return f"cannot be reached: {reason}. Is it up, and are its ansible_host, ansible_user and key right?"


def failure(result: dict[str, Any]) -> str:
    """Turn the result of a module that did not run into a fault of the host and its remedy."""
    output = f"{result.get('module_stderr', '')}\n{result.get('module_stdout', '')}\n{result.get('msg', '')}"
    if "sudo" in output or "privilege" in output.lower() or "become" in output.lower():
        complaint = re.search(r"^sudo: .+", output, re.MULTILINE)
        reason = first_line(complaint.group() if complaint else output)
        return (
            f"its user cannot become root: {reason}. Allow sudo for ansible_user, or give its password with "
            "--ask-become-pass."
        )
    if result.get("rc") == 127 or "interpreter" in output:
        return "has no Python where ansible_python_interpreter says (/usr/bin/python3 by default). Install python3."
    return f"cannot be checked: {first_line(output)}. Look at it with: ansible -m ansible.builtin.ping HOST -vvv"


def certificates(given: Any) -> list[str]:
    """Read those certificates that are given as files of the controller."""
    texts = []
    for item in given if isinstance(given, list) else []:
        path = Path(str(item))
        if not str(item).startswith("/"):
            texts.append(str(item))
        elif path.is_file():  # One that is missing is a wrong setting, which role base complains about.
            texts.append(path.read_text())
    return texts


class ActionModule(ActionBase):
    """Run the module of the same name; a host that does not let it run is a message like the others."""

    TRANSFERS_FILES = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the faults; fail with them unless they are being collected."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        task_vars = task_vars or {}
        reachable = False
        arguments = dict(self._task.args)
        arguments["ca_certificates"] = certificates(arguments.get("ca_certificates"))
        try:
            answer = self._execute_module(module_name="check_host", module_args=arguments, task_vars=task_vars)
        except AnsibleConnectionFailure as error:
            problems = [unreachable(str(error))]
        except AnsibleError as error:
            problems = [failure({"msg": str(error)})]
        else:
            if "problems" in answer:
                reachable = True
                problems = answer["problems"]
            elif answer.get("unreachable"):
                problems = [unreachable(str(answer.get("msg")))]
            else:
                problems = [failure(answer)]
            result["warnings"] = answer.get("warnings", [])
            facts = result["ansible_facts"] = answer.get("ansible_facts", {})
            cluster = facts.get("campushub", {}).get("cluster", {})
            if "time" in cluster:
                # The answer has taken a moment.
                cluster["clock"] = round(cluster.pop("time") - time.time())
            # In a cache that outlives this run it would be taken for the state of the host in later ones.
            if constants.CACHE_PLUGIN != "memory":
                facts.pop("campushub", None)
        result.update(changed=False, reachable=reachable, problems=problems)
        errors = [f"{task_vars['inventory_hostname']}: {problem}" for problem in problems]
        if boolean(self._templar.template(task_vars.get("preflight_collect", False)), strict=False):
            collected = list(task_vars.get("ansible_facts", {}).get("preflight_errors", []))
            result.setdefault("ansible_facts", {})["preflight_errors"] = collected + [
                error for error in errors if error not in collected
            ]
        elif errors:
            result.update(failed=True, msg="\n".join(errors))
        return result
