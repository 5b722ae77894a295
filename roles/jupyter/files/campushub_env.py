#!/usr/bin/python3 -I
# Managed by CampusHub
"""
Enter an environment whose software comes from CVMFS, or start a kernel in it.

    campushub-env                 list the environments
    campushub-env NAME            a shell in one
    campushub-env NAME COMMAND…   a command in one

Listing touches no repository. Before an environment is entered its repository must answer; a process that looks into a
dead one cannot even be killed, so whatever looks there is a child that is left behind when it does not come back.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

SETTINGS = os.environ.get("CAMPUSHUB_ENVIRONMENTS", "/etc/campushub/environments.json")
# What belongs to the Python or the libraries that people came from.
LEFT_BEHIND = re.compile(
    r"PYTHON|VIRTUAL_ENV|CONDA|_CE_|LD_|MAMBA|PIP_|UV_|MPL|JUPYTER_(PATH|CONFIG|PREFER)|BASH_|ENV$|PROMPT_COMMAND$|IFS$"
    r"|CDPATH$|GLOBIGNORE$|SHELLOPTS$|BASHOPTS$|POSIXLY_CORRECT$|PERL5LIB$|R_(HOME|LIBS)|JULIA_|NODE_|ROOT|CLING|CMAKE_"
    r"|PKG_CONFIG|MANPATH$|INFOPATH$|(C|CPLUS|LIBRARY)_?(INCLUDE_)?PATH$|(LOADED)?MODULE|_LM|LMOD|__LMOD|EASYBUILD|EB"
    r"|EESSI|ALIEN|LCG|TCL"
)
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
# A pipe leads from the shell that has read the environment's script to this program.
READ_SCRIPT = """
set --
{setup}
exec /usr/bin/env -0 >&{pipe}
"""


class UnusableError(Exception):
    """An environment that cannot be entered, with the reason."""


def environments() -> dict[str, dict[str, Any]]:
    """Return the environments of this host; one that was never set up has none."""
    try:
        with open(SETTINGS, encoding="utf-8") as file:
            found: dict[str, dict[str, Any]] = json.load(file)
    except FileNotFoundError:
        return {}
    return found


def clean(variables: dict[str, str]) -> dict[str, str]:
    """Return the variables without what belongs to another Python or another environment."""
    kept = {name: value for name, value in variables.items() if not LEFT_BEHIND.match(name)}
    # Packages in the home directory were installed with another Python.
    return {**kept, "PATH": PATH, "PYTHONNOUSERSITE": "1"}


class Child:
    """A process that is nobody's child, and shares neither input nor output with this one."""

    def __init__(self, work: Callable[[int], None]) -> None:
        """Run `work(pipe)` in it; what it prints comes through a pipe of its own."""
        self.said, writing = os.pipe()
        self.noise, printing = os.pipe()
        self.group = os.fork()
        if self.group == 0:
            os.setsid()
            if os.fork() == 0:
                nothing = os.open(os.devnull, os.O_RDONLY)
                for source, target in ((nothing, 0), (printing, 1), (printing, 2)):
                    os.dup2(source, target)
                for handle in (self.said, self.noise, printing):
                    os.close(handle)
                try:
                    work(writing)
                except OSError as error:
                    os.write(writing, f"!{error.strerror or error}".encode())
                os._exit(0)
            os._exit(0)
        os.close(writing)
        os.close(printing)
        os.waitpid(self.group, 0)

    def answer(self, end: float) -> bytes | None:
        """Return all that it says, or None if that does not end in time; what it prints is passed on."""
        said, waiting = b"", True
        pipes = [self.said, self.noise]
        while waiting:
            ready = select.select(pipes, [], [], max(0.0, end - time.monotonic()))[0]
            if not ready:
                with contextlib.suppress(OSError):
                    os.killpg(self.group, signal.SIGKILL)
                return None
            for pipe in ready:
                part = os.read(pipe, 1 << 16)
                if pipe == self.noise:
                    os.write(2, part)
                else:
                    said += part
                if not part:
                    pipes.remove(pipe)
                    waiting = self.said in pipes
        os.close(self.said)
        os.close(self.noise)
        return said


def probe(path: str, end: float) -> None:
    """Make sure that a file can be read. Raises UnusableError."""

    def look(writing: int) -> None:
        with open(path, "rb") as file:
            file.read(1)
        os.write(writing, b"+")

    said = Child(look).answer(end)
    if said is None:
        raise UnusableError("does not answer")
    if said != b"+":
        raise UnusableError(f"has no {path}: {said[1:].decode(errors='replace')}")


def entered(environment: dict[str, Any], variables: dict[str, str], end: float) -> dict[str, str]:
    """
    Return the variables as the environment's script leaves them.

    Raises UnusableError.
    """

    def read_script(writing: int) -> None:
        os.set_inheritable(writing, True)
        script = READ_SCRIPT.format(setup=environment["setup"], pipe=writing)
        os.execve("/bin/bash", ["bash", "--noprofile", "--norc", "-c", script], variables)  # noqa: S606

    said = Child(read_script).answer(end)
    if said is None:
        raise UnusableError("answers too slowly for its environment. Try again; what has come is kept")
    if not said.endswith(b"\0"):
        raise UnusableError("has an environment that ends while it is set up")
    pairs = (entry.partition(b"=") for entry in said[:-1].split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs if name not in (b"_", b"SHLVL")}


def ready(name: str, environment: dict[str, Any]) -> dict[str, str]:
    """
    Return the variables of an environment.

    Raises UnusableError with a whole sentence.
    """
    end = time.monotonic() + float(environment.get("timeout", 25))
    where = environment.get("repository") or "its script"
    try:
        if environment.get("probe"):
            probe(environment["probe"], end)
        return entered(environment, clean(dict(os.environ)), end)
    except UnusableError as error:
        kind = f"the CVMFS repository {where}" if environment.get("repository") else where
        raise UnusableError(f"{environment['display_name']} ({name}) cannot start: {kind} {error}.") from None


def become(command: list[str], variables: dict[str, str]) -> NoReturn:
    """Run a program in place of this one. Raises FileNotFoundError or PermissionError."""
    os.environ["PATH"] = variables.get("PATH", PATH)
    os.execvpe(command[0], command, variables)  # noqa: S606


def kernel(name: str, connection_file: str) -> NoReturn:
    """Become the kernel, or one that says why it could not be."""
    found = environments().get(name)
    message = ""
    if found is None:
        message = f"{name} cannot start: this host has no such environment."
    else:
        try:
            command = [word.replace("{connection_file}", connection_file) for word in found["command"]]
            become(command, ready(name, found))
        except UnusableError as error:
            message = str(error)
        except OSError as error:
            message = f"{found['display_name']} ({name}) cannot start: {found['command'][0]}: {error.strerror}."
    print(message, file=sys.stderr, flush=True)
    python = os.environ.get("CAMPUSHUB_PYTHON", "/opt/campushub/user/bin/python")
    program = os.path.join(os.path.dirname(os.path.realpath(__file__)), "message_kernel.py")
    os.execv(python, [python, program, "-f", connection_file, f"--MessageKernel.message={message}"])  # noqa: S606


def listing() -> None:
    """Say which environments there are."""
    found = environments()
    width = max(map(len, found), default=0)
    for name, environment in found.items():
        print(f"{name:<{width}}  {environment['display_name']}")
    if not found:
        print("This host has no environments.", file=sys.stderr)


def main(arguments: list[str]) -> int:
    """Do what the command line says."""
    # As it is for programs, and not as Python has it for itself.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if arguments[:1] == ["--kernel"] and len(arguments) == 3:
        kernel(arguments[1], arguments[2])
    if not arguments or arguments in (["-l"], ["--list"]):
        listing()
        return 0
    name, *command = arguments
    if name.startswith("-"):
        print((__doc__ or "").strip())
        return 0 if name in ("-h", "--help") else 2
    found = environments().get(name)
    if found is None:
        print(f"campushub-env: there is no environment {name}. campushub-env alone lists them.", file=sys.stderr)
        return 2
    try:
        variables = ready(name, found)
        if not command:
            variables["PS1"] = rf"({name}) \u@\h:\w\$ "
            print(f"{found['display_name']}. Leave it with exit.", file=sys.stderr)
            command = ["bash", "--noprofile", "--norc", "-i"]
        become(command, variables)
    except UnusableError as error:
        print(f"campushub-env: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"campushub-env: {command[0]}: {error.strerror}", file=sys.stderr)
        return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
