#!/usr/bin/python3 -IS
"""
Start a server, explain why it did not start, probe a home, or store a token, as the user it belongs to.

``campushub-mediator spawn``, ``explain``, ``probe``, ``create-home``, ``store-token`` and, for servers that
are jobs of a cluster, ``submit`` and ``cancel`` are the commands that the hub's sudo rule allows; ``create-home``
probes again after the session (`user_session`) has had the home created. As Slurm's own user, ``associate`` makes
somebody one of an account of the cluster. A hub that runs as root starts ``explain``, ``create-scratch`` and
``store-token`` through the service manager. The request is JSON on standard input and the answer JSON on standard
output, as SudoSpawner expects of its mediator. Unlike the mediator of SudoSpawner, this one imports nothing beyond the
standard library, ends as soon as the server is started and leaves no process behind: the session has started a unit for
the server, in which ``receive`` waits for what ``spawn`` has been given, and becomes the server. Its user can stop or
kill it: so it ends no server (`stop` does), and nobody waits for it without end (`user_session.action_seconds`).

People wait for a probe of their home. So it is made by a program of its own (`look`), which a hub that is root starts
by itself. For another hub ``receive`` has it made before it becomes the server, because a session of sudo takes longer
than the probe. What takes long to import is imported where it is used (no pathlib, no typing, no contextlib), and no
site-packages are looked for.
"""

from __future__ import annotations

import os
import resource
import select
import sys
import time

COMMAND = "/etc/jupyterhub/server-command.json"
# How long a unit and the one who speaks to it wait for each other.
RECEIVER_SECONDS = 30
# How long the accounting of Slurm may take to answer.
ASSOCIATE_SECONDS = 5
# How many resource limits a process has (setrlimit(2)).
RESOURCES = 16
NOTICE = "YOUR-HOME-IS-NOT-AVAILABLE.md"
SILENT = "it does not answer"
# What would make the server load code from places that the hub's user chooses.
FORBIDDEN = ("LD_", "PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")


def receiver() -> str:
    """Return the socket at which the unit of the new server waits, which the session has started for this sudo."""
    return f"/run/jupyterhub-users/{os.getuid()}/spawn-{os.getppid()}"


def command_of(interface: str) -> list[str]:
    """Return the program that serves an interface, with its first arguments."""
    import json

    with open(COMMAND) as file:
        commands = json.load(file)
    # Where there are profiles, a command for each of their interfaces.
    command: list[str] = commands[interface] if isinstance(commands, dict) else commands
    return command


def spawn(args: list[str], env: dict[str, str], interface: str, home: dict[str, object]) -> dict[str, object]:
    """
    Hand the server's command line and environment to its unit, and answer with the process number.

    Where `home` says how the unit is to probe the home (see `probe`), the answer may be what is wrong with that.
    """
    import json
    import socket

    command = [*command_of(interface), *args]
    limits = [resource.getrlimit(number) for number in range(RESOURCES)]
    request = {"command": command, "env": env, "limits": limits, "home": home}
    end = time.monotonic() + RECEIVER_SECONDS
    with socket.socket(socket.AF_UNIX) as unit:
        while unit.connect_ex(receiver()) and time.monotonic() < end:
            time.sleep(0.01)
        try:
            unit.sendall(json.dumps(request).encode())
            unit.shutdown(socket.SHUT_WR)
            with unit.makefile() as stream:
                answer = stream.read()
        except OSError as error:
            return {"ok": False, "error": f"its unit does not answer: {error}"}
    if answer.startswith("{"):
        found: dict[str, object] = json.loads(answer)
        return found
    pid_text, _, problem = answer.partition(" ")
    return {"ok": False, "error": problem} if problem or not pid_text else {"ok": True, "pid": int(pid_text)}


def receive(path: str) -> None:
    """
    Become the server that `spawn` describes at a socket. This is how the unit of a server begins.

    A failed execve() is told through the connection that a good one closes. So is a home that cannot be used; a look at
    it that hangs is inside of the unit, and so of the limits of its user.
    """
    import contextlib
    import json
    import socket

    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        listener.settimeout(RECEIVER_SECONDS)
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            return
        finally:
            os.unlink(path)
    connection.settimeout(None)
    with connection.makefile() as stream:
        request = json.load(stream)
    # One that an upgrade meets, which began before it, says nothing of a home.
    if request.get("home"):
        found = probe(**request["home"])
        if found["home"] != "ok":
            connection.sendall(json.dumps(found).encode())
            return
    connection.sendall(str(os.getpid()).encode())
    environment = {name: value for name, value in request["env"].items() if not name.startswith(FORBIDDEN)}
    try:
        for number, limit in enumerate(request["limits"]):
            # Those that PAM has set for the session. No process can raise its own.
            resource.setrlimit(number, lower(resource.getrlimit(number), limit))
        os.chdir(environment.get("HOME") or os.path.expanduser("~"))
        os.execve(request["command"][0], request["command"], environment)  # noqa: S606
    except (OSError, TypeError, ValueError) as error:
        connection.sendall(f" {error}".encode())


def lower(own: tuple[int, int], wanted: list[int]) -> tuple[int, int]:
    """Return a resource limit as it is wanted, or as near to it as the hard one allows."""

    def least(*limits: int) -> int:
        return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=resource.RLIM_INFINITY)

    hard = least(own[1], wanted[1])
    return least(wanted[0], hard), hard


def look_program() -> str:
    """Return the program that looks at a home, which is beside this one, be it installed or not."""
    directory, name = os.path.split(os.path.abspath(__file__))
    return os.path.join(directory, name.replace("mediator", "look"))


def probe(home: str, mount_point: str, timeout: float, scratch: str, env: dict[str, str]) -> dict[str, object]:
    """
    Return whether the user's home can be used. If it is unavailable, create the scratch home, if one is named.

    A process that touches a mount that hangs may be blocked indefinitely, and no signal ends it. So the home is probed
    by a process of its own that nobody waits for after the timeout; it ends when the mount answers or is taken away.
    """
    reader, writer = os.pipe()
    if os.fork() == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                # The caller reads the output of this program until nobody holds it open.
                nothing = os.open(os.devnull, os.O_RDWR)
                for handle, file in enumerate((nothing, writer, nothing)):
                    os.dup2(file, handle)
                # A new program, because file systems read credentials from the environment at the start of a process.
                environment = {name: value for name, value in env.items() if not name.startswith(FORBIDDEN)}
                command = [sys.executable, "-IS", look_program(), home, mount_point]
                os.execve(command[0], command, environment)  # noqa: S606
        finally:
            os._exit(0)
    os.close(writer)
    os.wait()
    # The timeout is that of the storage, and a busy host may take long to start a process.
    os.read(reader, len("looking\n"))
    ready, _, _ = select.select([reader], [], [], timeout)
    printed = os.read(reader, 4096).decode() if ready else ""
    state, problem = (printed or f"unavailable\n{SILENT}").splitlines()
    if state == "unavailable" and scratch:
        create_scratch(scratch, home, problem)
    return {"ok": True, "home": state, "problem": problem}


def create_scratch(scratch: str, home: str, problem: str) -> dict[str, object]:
    """Create the directory that the user works in while their home is unavailable, with a notice that says so."""
    os.makedirs(scratch, mode=0o700, exist_ok=True)
    text = (
        f"# Your home is not available\n\nYour home directory `{home}` cannot be used at the moment: {problem}.\n\n"
        f"You work in a directory of this host in its place, `{scratch}`. **It is no safe place:** move what you\n"
        "want to keep into your home when that is there again. Stop your server and start it again to get back.\n"
    )
    with open(f"{scratch}/{NOTICE}", "w") as notice:
        notice.write(text)
    return {"ok": True}


def place_in_settings(line: str, home: str) -> tuple[str, int]:
    """
    Return the file and line of the user's settings that a server's last line is most likely about, or nothing.

    Jupyter names a setting and its value, in quotation marks, and not where it stands.
    """
    import re
    from pathlib import Path

    words = [re.escape(word) for word in re.findall(r"['\"]+([^'\"]{2,})['\"]+", line)]
    found, most = ("", 0), 0
    for path in sorted(Path(home, ".jupyter").glob("**/jupyter*config*/*.json")) + sorted(
        path for path in Path(home, ".jupyter").glob("jupyter*config.*") if path.suffix in (".py", ".json")
    ):
        for number, text in enumerate(path.read_text(errors="replace").splitlines(), 1):
            matches = sum(bool(re.search(rf"(?<!\w){word}(?!\w)", text)) for word in words)
            if matches > most and not text.lstrip().startswith("#"):
                found, most = (str(path), number), matches
    return found


def last_words(lines: list[str], home: str) -> dict[str, object]:
    """Return the last line that a server has printed, and the file and line of the user's that it is about."""
    import re

    # What it notes while all is well, such as each request, tells nobody why it ended.
    warnings = [line for line in lines if not re.match(r"\[[DI] ", line)]
    texts = [re.sub(r"^\[[A-Z] [^\]]*\] ", "", line).strip() for line in warnings]
    line = next((text for text in reversed(texts) if text), "")
    places = [found.groups() for text in texts if (found := re.match(r'File "([^"]+)", line (\d+)', text))]
    own = [place for place in places if place[0].startswith(f"{home}/") and "/site-packages/" not in place[0]]
    file, number = own[-1] if own else place_in_settings(line, home)
    return {"line": line, "file": file, "number": int(number)}


def lines_of(pid: int, printed: list[tuple[int, str]]) -> list[str]:
    """Return the lines of a process; 0 is any. A server that is a fork has another number than what was started."""
    import re

    forks = [(number, re.fullmatch(r"Forked as process (\d+)\.", text)) for number, text in printed]
    numbers = {pid, *(int(fork[1]) for number, fork in forks if fork and number == pid)}
    chosen = zip(printed, forks, strict=True)
    return [text for (number, text), (_, fork) in chosen if not fork and (pid == 0 or number in numbers)]


def explain(
    output: str, pid: int, *, home: str, mount_point: str, timeout: float, env: dict[str, str]
) -> dict[str, object]:
    """
    Return whether the home can be used, and the last words of a server that has ended.

    `output` is the file that the session (`user_session`) has written; `pid`, unless it is 0, is whose lines count.
    """
    import json

    answer = probe(home, mount_point, timeout, "", env)
    words: dict[str, object] = {"line": "", "file": "", "number": 0}
    if answer["home"] == "ok":
        with open(output) as file:
            printed: list[tuple[int, str]] = json.load(file)
        words = last_words(lines_of(pid, printed), home)
    return answer | words


def store_token(path: str, text: str) -> dict[str, object]:
    """Write the user's token into a file that nobody else can read, in one step so that nobody reads half of it."""
    import contextlib

    new = f"{path}.new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    os.replace(new, path)
    return {"ok": True}


def run_slurm(command: list[str]) -> tuple[str, str]:
    """Return what a command of Slurm prints, and in one line what was wrong."""
    import pwd
    import subprocess

    account = pwd.getpwuid(os.getuid())
    # The job gets all of it, and it is no secret to Slurm's administrators.
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": account.pw_dir, "SHELL": account.pw_shell}
    environment |= {"USER": account.pw_name, "LOGNAME": account.pw_name}
    done = subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    lines = [line.partition(": error: ")[2] or line for line in done.stderr.splitlines() if line.strip()]
    # The first line says why; where munge does not run, its advice on something else comes first.
    lines.sort(key=lambda line: not line.startswith("Munge "))
    return done.stdout.strip(), "" if done.returncode == 0 else (lines[0] if lines else f"status {done.returncode}")


def submit(request: dict[str, object]) -> dict[str, object]:
    """Submit the job that becomes the user's server, and answer with its number, or why Slurm does not want it."""
    options = [
        "--parsable",
        "--no-requeue",
        "--export=ALL",
        "--chdir=/",
        "--output=/dev/null",
        "--nodes=1",
        "--ntasks=1",
    ]
    # Nothing that only its user may know: whoever uses the cluster sees it.
    options += [f"--job-name={request['name']}", f"--time={request['minutes']}", f"--cpus-per-task={request['cores']}"]
    options += [f"--mem={request['memory']}M"] if request["memory"] else []
    # Unlike --gpus, clusters with any SelectType know it.
    options += [f"--gres=gpu:{int(str(request['gpus']))}"] if request.get("gpus") else []
    options += [f"--{name}={request[name]}" for name in ("partition", "account", "qos") if request.get(name)]
    job = os.path.join(os.path.dirname(os.path.abspath(__file__)), "campushub-job")
    # The hub, whose answers the job believes, is the one who runs this by sudo.
    words = [job, str(request["contact"]), os.environ.get("SUDO_UID", "0"), *command_of(str(request["interface"]))]
    printed, problem = run_slurm(["/usr/bin/sbatch", *options, *words])
    number = printed.partition(";")[0]
    return {"ok": True, "job": int(number) if number.isdigit() and not problem else 0, "problem": problem}


def cancel(jobs: list[int], name: str, user: str) -> dict[str, object]:
    """Cancel jobs of a user, if they have the name of the hub's jobs."""
    _, problem = run_slurm(["/usr/bin/scancel", f"--name={name}", f"--user={user}", *map(str, jobs)])
    return {"ok": True, "problem": problem}


def associate(user: str, account: str) -> dict[str, object]:
    """Make a user one of an account of Slurm, which must be there, and answer with what was wrong."""
    import re

    # Commas, equals signs and spaces have a meaning to sacctmgr.
    if not all(re.match(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]*\Z", name) for name in (user, account)):
        return {"ok": True, "problem": f"{user} or {account} cannot be a name in the accounting of Slurm"}
    # Somebody waits for a server meanwhile.
    sacctmgr = ["/usr/bin/timeout", str(ASSOCIATE_SECONDS), "/usr/bin/sacctmgr"]
    # To add somebody who is in it fails, in words that differ from release to release.
    look = ["--noheader", "--parsable2", "show", "associations", f"user={user}", f"account={account}", "format=user"]
    printed, problem = run_slurm([*sacctmgr, *look])
    if not problem and not printed:
        printed, problem = run_slurm([*sacctmgr, "--immediate", "add", "user", f"name={user}", f"account={account}"])
    # That of Debian 13 does not print as an error what is wrong with the names.
    if problem.startswith("status ") and printed:
        problem = printed.splitlines()[0]
    return {"ok": True, "problem": problem.strip()}


def main(action: str) -> int:
    """Run the action and print the answer."""
    import json

    request = json.load(sys.stdin)
    # The action is an argument because the session was prepared according to it; see `user_session`.
    if action == "spawn":
        arguments = [str(argument) for argument in request["args"]]
        answer = spawn(arguments, request["env"], str(request.get("interface", "")), request.get("home") or {})
    elif action in ("probe", "create-home"):
        home, mount_point = request["home"], request["mount_point"]
        answer = probe(home, mount_point, float(request["timeout"]), request["scratch"], request["env"])
    elif action == "explain":
        place = {name: request[name] for name in ("home", "mount_point", "timeout", "env")}
        answer = explain(request["output"], int(request["pid"]), **place)
    elif action == "create-scratch":
        answer = create_scratch(request["scratch"], request["home"], request["problem"])
    elif action == "store-token":
        answer = store_token(request["path"], request["text"])
    elif action == "submit":
        answer = submit(request)
    elif action == "cancel":
        answer = cancel([int(job) for job in request["jobs"]], str(request["name"]), str(request["user"]))
    elif action == "associate":
        answer = associate(str(request["user"]), str(request["account"]))
    else:
        # As of a hub of another release.
        sys.exit(f"campushub-mediator has no action {action!r}.")
    json.dump(answer, sys.stdout)
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "receive":
        receive(sys.argv[2])
        # It has not become the server.
        sys.exit(1)
    sys.exit(main(sys.argv[1]))
