#!/usr/bin/python3 -IS
"""
Become the server of one user, in a job of Slurm on a node.

``campushub-job HUB:PORT UID COMMAND…`` is the script of the job; sbatch sends its text along, so that nodes need
nothing of it. It has no secret in it. The job tells the hub its port and gets the environment of the server, each in a
credential of munge: the first says whose the job is, the second can be read by its user alone, and must be from UID,
the hub's. The standard library is all that it imports.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import resource
import socket
import subprocess
import sys
import time

# Where role slurm has Slurm make a directory for each job, and remove it with the job.
JOBS = "/var/lib/campushub/jobs"
# How long the hub may be away, as for its restart.
PATIENCE = 300
# Where what the job and the server print goes, if it is there.
JOURNAL = "/run/systemd/journal/stdout"
# What would make the server load code from places that the hub's user chooses.
FORBIDDEN = ("LD_", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
# What Slurm tells a job, which programs look for.
KEPT = ("SLURM_", "CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "ROCR_VISIBLE_DEVICES", "ZE_AFFINITY_MASK")


def free_port() -> int:
    """Return a free port. Who takes it meanwhile has no certificate, and is not taken for the server."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def private_directory(job: str) -> str:
    """Return a directory that nobody else can look into, with a short path, for sockets in it."""
    made = f"{JOBS}/{job}"
    if os.path.isdir(made) and os.stat(made).st_uid == os.getuid():
        return made
    # In a cluster that is not ours. What is there stays when the job has ended.
    import tempfile

    return tempfile.mkdtemp(prefix="campushub-", dir="/tmp")


def run(command: list[str], given: str) -> str:
    """Return what a program of munge prints."""
    return subprocess.run(command, input=given, stdout=subprocess.PIPE, text=True, check=True).stdout


def ask(contact: str, hub: int, report: dict[str, object]) -> dict[str, object]:
    """Report to the hub and return its answer. Raises OSError, ValueError or CalledProcessError."""
    host, _, port = contact.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=30) as connection:
        connection.sendall(run(["/usr/bin/munge"], json.dumps(report)).encode())
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile() as stream:
            credential = stream.read()
    if not credential:
        raise OSError("the hub knows nothing of this job, or is about to start")
    head, _, payload = run(["/usr/bin/unmunge"], credential).partition("\n\n")
    author = re.search(r"^UID:.*\((\d+)\)$", head, re.MULTILINE)
    if author is None or int(author[1]) != hub:
        raise ValueError("the answer is not from the hub")
    answer: dict[str, object] = json.loads(payload)
    return answer


def ask_until_answered(contact: str, hub: int, report: dict[str, object]) -> dict[str, object]:
    """Report to the hub until it answers, or nobody waits any more."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return ask(contact, hub, report)
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            if time.monotonic() > end:
                raise
            print(f"The hub has not answered: {error}", file=sys.stderr, flush=True)
            time.sleep(1)


def write(path: str, text: str) -> None:
    """Write a file that nobody else can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)


def environment(asked: dict[str, str], directory: str) -> dict[str, str]:
    """Return the environment of the server: what Slurm says, what a login would set, and what the hub has said."""
    account = pwd.getpwuid(os.getuid())
    kept = {name: value for name, value in os.environ.items() if name.startswith(KEPT)}
    login = {"USER": account.pw_name, "LOGNAME": account.pw_name, "HOME": account.pw_dir, "XDG_RUNTIME_DIR": directory}
    login |= {"SHELL": account.pw_shell or "/bin/bash", "TMPDIR": f"{directory}/temporary"}
    hub = {name: value for name, value in asked.items() if not name.startswith(FORBIDDEN)}
    return {**kept, **login, **hub}


def into_journal(user: str) -> None:
    """
    Have the journal get what the job and the server print, and not nobody: a file would be in the home.

    As systemd-cat(1) does it, which would take a second start of this program.
    """
    with socket.socket(socket.AF_UNIX) as journal:
        if journal.connect_ex(JOURNAL):
            return
        # The name, no unit, the priority of what has none, that others are understood, and that nobody else gets it.
        journal.sendall(f"jupyterhub-user-{user}\n\n6\n1\n0\n0\n0\n".encode())
        for number in (1, 2):
            os.dup2(journal.fileno(), number)


def limit_tasks(number: int) -> None:
    """Have no more processes and threads of the user on this node than `number`, for all that the server starts."""
    hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
    most = number if hard == resource.RLIM_INFINITY else min(number, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def main(contact: str, hub: int, command: list[str]) -> None:
    """Get the environment and become the server."""
    into_journal(pwd.getpwuid(os.getuid()).pw_name)
    # Whatever the submitter's was.
    os.umask(0o022)
    directory = private_directory(os.environ["SLURM_JOB_ID"])
    report = {"job": int(os.environ["SLURM_JOB_ID"]), "port": free_port(), "directory": directory}
    answer = ask_until_answered(contact, hub, report)
    files, asked, arguments = answer["files"], answer["env"], answer["args"]
    if not isinstance(files, dict) or not isinstance(asked, dict) or not isinstance(arguments, list):
        raise TypeError("the hub's answer is of another release")
    if isinstance(tasks := answer.get("tasks"), int) and tasks > 0:
        limit_tasks(tasks)
    for name, text in files.items():
        write(f"{directory}/{os.path.basename(name)}", str(text))
    os.makedirs(f"{directory}/temporary", mode=0o700, exist_ok=True)
    settings = environment(asked, directory)
    try:
        os.chdir(settings["HOME"])
    except OSError as error:
        sys.exit(f"The home directory {settings['HOME']} cannot be used on {socket.gethostname()}: {error.strerror}")
    words = [*command, *(str(argument) for argument in arguments)]
    os.execve(words[0], words, settings)  # noqa: S606


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
