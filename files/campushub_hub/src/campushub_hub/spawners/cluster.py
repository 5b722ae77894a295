"""
What the hub knows of a Slurm cluster, for all its servers together.

- One squeue tells of the jobs of all servers, every few seconds while one of them is about to change: while a server
  starts or stops, or has ended its connection to the hub. Whatever keeps it from answering says nothing of them.
- Jobs of this hub that belong to no server, as after a hub that was killed, are cancelled.
- A job is known by its number and the UID that Slurm says: the number has come through a program that ran as the user.
- A job that has begun asks here for its environment: one line to a port, and one back. Both are credentials of munge,
  which says whose the job is, and lets nobody but its user read the answer.
- Servers on nodes reach the hub's API at a port of its own, with the certificates that their jobs got.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import socket
import ssl
import subprocess
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream
from traitlets import Float, Integer, Unicode
from traitlets.config import SingletonConfigurable

from campushub_hub.certificates import Certificates
from campushub_hub.host import user_session

from .answers import ask_mediator, printable

if TYPE_CHECKING:
    from .slurm import CampusSlurmSpawner

# Nothing in it that a user could have written: who puts a line break into a comment would speak for others' jobs.
FORMAT = "%i|%T|%U|%u|%B|%P|%S|%r"
# Of sinfo, a line for each node of each partition: of its cores those that are allocated, idle, neither, and all; what
# else there is of it, and what of that is in use.
FREE_FORMAT = "Partition:|,Available:|,CPUsState:|,Gres:|,GresUsed:|"
# A number of GPUs there, as in: gpu:2(S:0-1) or gpu:a100:2(IDX:0,3),shard:4
GPUS = re.compile(r"(?:\A|,)gpu(?::\(null\)|:[^:,()]+)?:(\d+)")
# What can be the name of the jobs of a hub: it is read by scripts.
JOB_NAME = re.compile(r"[A-Za-z0-9_.-]+")
# States of squeue(1) after which a job does nothing any more.
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
    *("PREEMPTED", "REVOKED", "TIMEOUT"),
}
# Who Slurm runs as, and may cancel any job, on the clusters of role slurm.
SLURM_USER = "slurm"
# Seconds that a program has to answer.
QUERY_SECONDS = 30.0
# Seconds for which nobody tries again to add a user to an account, as while slurmdbd is down.
ASSOCIATE_PAUSE = 15.0
# Seconds between two looks at the jobs while all servers run, and nobody waits for one.
QUIET_SECONDS = 30.0
# The path in the sudo rule.
MEDIATOR = "/opt/campushub/hub/bin/campushub-mediator"
# Of Slurm, so that it does not look for words of a language, or for a zone, in the hub's environment.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "SLURM_TIME_FORMAT": "%s"}
# After how many seconds a job that does not end is cancelled once more, and how many of a user at once.
CANCEL_SECONDS, CANCEL_BATCH = 60.0, 100
# The most bytes of a report, and the seconds that it may take.
REPORT_SIZE, REPORT_SECONDS = 16_000, 10.0
# The most connections of one host to the port for reports, where each takes moments, and to that of the API.
HOST_REPORTS, HOST_CONNECTIONS = 32, 1000
# For how many seconds the address of a node is what Slurm has said: twenty servers may start there at once.
ADDRESS_SECONDS = 60.0
# For how many seconds pages show what is free, and how long they wait for Slurm to say it.
FREE_SECONDS, FREE_WAIT = 5.0, 2.0


class Key(NamedTuple):
    """By what a job is known."""

    uid: int
    number: int


class Job(NamedTuple):
    """A job as Slurm describes it."""

    state: str
    user: str
    node: str
    partition: str
    # Seconds since 1970; of a job that waits, when it is expected to begin.
    start: float | None
    # Why it waits.
    reason: str

    @property
    def ended(self) -> bool:
        """Whether it does nothing any more."""
        return self.state in ENDED

    @property
    def ending(self) -> bool:
        """Whether Slurm has it end, or has ended it. That of a node that does not answer takes as long as that."""
        return self.ended or self.state == "COMPLETING"


class Free(NamedTuple):
    """What nobody uses of a partition."""

    cores: int = 0
    gpus: int = 0


# Of a job that Slurm has forgotten, some minutes after its end.
GONE = Job("COMPLETED", "", "", "", None, "")


class RefusedError(OSError):
    """What Slurm has refused."""


class ReportError(Exception):
    """A report that is none of a job that begins."""


def parse_jobs(text: str) -> dict[Key, Job]:
    """Return the jobs that squeue has printed in `FORMAT`; other lines count for nothing."""
    jobs = {}
    for line in text.splitlines():
        number, *fields = line.split("|", 7)
        if number.isdigit() and len(fields) == 7 and fields[1].isdigit():
            state, uid, user, node, partition, start, reason = fields
            when = float(start) if start.isdigit() else None
            found = Job(state, user, "" if node == "n/a" else node, partition, when, reason)
            jobs[Key(int(uid), int(number))] = found
    return jobs


def parse_free(text: str) -> dict[str, Free]:
    """Return what nobody uses, by partition and of the default one by "", as sinfo has printed it in `FREE_FORMAT`."""
    free: dict[str, Free] = {}
    for line in text.splitlines():
        found = re.match(r"([^|*]+)(\*?)\|(\w+)\|\d+/(\d+)/\d+/\d+\|([^|]*)\|([^|]*)\|\Z", line)
        if found:
            name, is_default, state, idle, there, used = found.groups()
            cores = int(idle) if state == "up" else 0
            # Without a core, as of a node that is drained, nobody gets them.
            gpus = max(0, count_gpus(there) - count_gpus(used)) if cores else 0
            for partition in (name, *([""] if is_default else [])):
                before = free.get(partition, Free())
                free[partition] = Free(before.cores + cores, before.gpus + gpus)
    return free


def count_gpus(text: str) -> int:
    """Return how many GPUs there are among the generic resources of a node."""
    return sum(map(int, GPUS.findall(text)))


def parse_credential(text: str) -> tuple[int, str]:
    """Return the UID of who has made a credential, and what is in it, as unmunge has printed it."""
    head, _, payload = text.partition("\n\n")
    fields = dict(line.split(":", 1) for line in head.splitlines() if ":" in line)
    try:
        # As in: alice (2001)
        return int(fields["UID"].rpartition("(")[2].rstrip(") ")), payload
    except (LookupError, ValueError):
        raise ReportError("unmunge has not said whose it is") from None


async def run(*command: str, given: str = "", timeout: float = QUERY_SECONDS) -> str:
    """Return what a program of the host prints. Raises OSError if it fails, or does not end in time."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        printed, problem = await asyncio.wait_for(process.communicate(given.encode()), timeout)
    except asyncio.TimeoutError:
        raise OSError(f"{command[0]} has not ended within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            # Who waited may have been cancelled.
            with contextlib.suppress(ProcessLookupError):
                process.kill()
    if process.returncode:
        raise OSError(problem.decode(errors="replace").strip() or f"{command[0]}: {process.returncode}")
    return printed.decode(errors="replace")


def host_of(address: Any) -> str:
    """Return the host at the other end of a connection. All addresses of the loopback network are this one."""
    host = str((address or ("",))[0]).removeprefix("::ffff:")
    return "localhost" if host == "::1" or host.startswith("127.") else host


class NodeServer(HTTPServer):
    """A server for nodes, whose users cannot take more of the hub's connections than those of one host."""

    def initialize(self, *args: Any, **kwargs: Any) -> None:
        """Begin without connections."""
        super().initialize(*args, **kwargs)
        self.held: defaultdict[str, list[IOStream]] = defaultdict(list)

    def handle_stream(self, stream: IOStream, address: Any) -> None:
        """Serve a connection, or close it if its host has too many."""
        host = host_of(address)
        self.held[host] = [one for one in self.held[host] if not one.closed()]
        if len(self.held[host]) >= HOST_CONNECTIONS:
            stream.close()
            return
        self.held[host].append(stream)
        super().handle_stream(stream, address)


class SlurmCluster(SingletonConfigurable):
    """The cluster, as one hub sees it."""

    job_name = Unicode(
        config=True,
        help="Name of the jobs of this hub. Two hubs of one cluster must have different ones. Empty is the one that "
        "this hub has used before; the first is campushub- and the name of its host.",
    )
    name_file = Unicode(
        "/var/lib/jupyterhub/slurm_job_name",
        config=True,
        help="File with the name of the jobs, so that it stays when the host gets another name.",
    )
    partition = Unicode(
        "", config=True, help="Partition of servers whose profile names none. Empty is the default of the cluster."
    )
    address = Unicode(config=True, help="Name by which nodes reach the hub.")
    report_port = Integer(983, config=True, help="Port at which jobs that begin report.")
    api_port = Integer(984, config=True, help="Port of the hub's API for servers on nodes.")
    account = Unicode(
        config=True,
        help="Account of servers whose profile names none. The hub adds who starts a server to its account of the "
        "cluster, which must be there. Empty is the default of the cluster, and nobody is added.",
    )
    query_interval = Float(
        3,
        config=True,
        help="Seconds between two looks at the jobs of all servers while one starts, stops or cannot be reached, or "
        "Slurm does not answer; at other times it is half a minute.",
    )
    certificates = Unicode(
        "/etc/jupyterhub/nodes", config=True, help="Directory with the certificates of hub, proxy and nodes."
    )

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.jobs: dict[Key, Job] = {}
        # Place of each job that waits among those of its partition, from 1 on.
        self.positions: dict[int, int] = {}
        # When the query began that was answered last; whether the last one was.
        self.asked = 0.0
        self.answers = False
        self.claims: dict[Key, tuple[CampusSlurmSpawner, float]] = {}
        # How many jobs of a user, by UID, are being submitted, whose numbers nobody knows yet.
        self.submissions: Counter[int] = Counter()
        self.changed = asyncio.Event()
        # That a job is about to change.
        self._hurry = asyncio.Event()
        # Of the jobs whose end somebody waits for.
        self._ends: dict[Key, asyncio.Event] = {}
        self._query: asyncio.Task[None] | None = None
        self._tasks: list[asyncio.Task[Any]] = []
        self._reports = asyncio.Semaphore(8)
        # Connections for reports, by host.
        self._reporting: Counter[str] = Counter()
        self._free: asyncio.Task[dict[str, Free]] | None = None
        self._free_since = -math.inf
        # By node, with the time of the answer.
        self._addresses: dict[str, tuple[str, float]] = {}
        self._cancelled: dict[Key, float] = {}
        # Until when nothing is to be done about a user and an account: always, where the user is in it.
        self._associated: dict[tuple[str, str], float] = {}
        self._name = ""
        self.tls = Certificates(Path(self.certificates))

    @property
    def name(self) -> str:
        """
        The name of the jobs of this hub.

        It is written down: by another one the hub would not find its jobs, and would start servers a second time.
        """
        if not self._name:
            written = self._written_name()
            self._name = self.job_name or written or f"campushub-{socket.gethostname().partition('.')[0]}"
            if self._name != written and JOB_NAME.fullmatch(self._name):
                self._write_name()
        return self._name

    def _written_name(self) -> str:
        """Return the name that was written down, if there is one and it can be a name."""
        try:
            text = Path(self.name_file).read_text(encoding="ascii").removesuffix("\n")
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            self.log.warning("The name of the jobs cannot be read: %s: %s", self.name_file, error)
            return ""
        if not JOB_NAME.fullmatch(text):
            self.log.warning("%s has no name of jobs, and counts for nothing", self.name_file)
            return ""
        return text

    def _write_name(self) -> None:
        """Write the name down, for the hub's user alone; it is in backups."""
        new = Path(f"{self.name_file}.new")
        try:
            new.unlink(missing_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(f"{self._name}\n")
            new.replace(self.name_file)
        except OSError as error:
            self.log.warning("The name of the jobs cannot be written down: %s", error)

    def begin(self) -> None:
        """Begin to look, and to listen to jobs, where that has not begun and there is a loop of events."""
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop()
            self._tasks = self._tasks or [asyncio.ensure_future(task()) for task in (self.watch, self.listen)]

    # The jobs

    def claim(self, job: Key, spawner: CampusSlurmSpawner) -> None:
        """Say whose server a job is."""
        self.claims[job] = spawner, time.monotonic()
        self.hurry()

    def release(self, job: Key) -> None:
        """Say that a job is no server any more."""
        self.claims.pop(job, None)
        self._ends.pop(job, None)
        # One that has not ended is to be cancelled.
        self.hurry()

    @property
    def quiet_interval(self) -> float:
        """Return the most seconds between two looks."""
        return max(self.query_interval, QUIET_SECONDS)

    @property
    def settled(self) -> bool:
        """Return whether no job is about to change, as far as the hub knows."""
        return self.answers and all(spawner.settled for spawner, _ in self.claims.values())

    def hurry(self) -> None:
        """Have the next look made soon: a job is about to change, and somebody waits, or is to be told why."""
        self._hurry.set()

    async def watch(self) -> None:
        """Look at the jobs, often while one is about to change, and cancel those that belong to no server."""
        sweep: asyncio.Task[None] | None = None
        while True:
            self._hurry.clear()
            await self.refresh()
            # However long that takes, servers that start wait for the next look.
            if sweep is None or sweep.done():
                sweep = asyncio.ensure_future(self.sweep())
            await asyncio.sleep(self.query_interval)
            if self.settled:
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._hurry.wait(), self.quiet_interval - self.query_interval)

    async def sweep(self) -> None:
        """Cancel jobs that belong to no server, and go on whatever comes of it."""
        try:
            await self.cancel_orphans()
        except Exception:
            self.log.exception("Cannot cancel jobs of the hub that belong to no server")

    async def refresh(self) -> None:
        """Look at the jobs once, together with all who want to know just now."""
        if self._query is None or self._query.done():
            self._query = asyncio.ensure_future(self._ask())
        await asyncio.shield(self._query)

    async def _ask(self) -> None:
        began = time.monotonic()
        try:
            jobs = parse_jobs(
                await run("squeue", "--noheader", "--states=all", f"--name={self.name}", f"--format={FORMAT}")
            )
            waiting = {job.partition for key, job in jobs.items() if job.state == "PENDING" and key in self.claims}
            if waiting:
                queues = f"--partition={','.join(sorted(waiting))}"
                self.positions = parse_positions(
                    await run("squeue", "--noheader", "--states=PENDING", queues, "--sort=-p,i", "--format=%i|%P")
                )
        except OSError as error:
            if self.answers or not self.asked:
                self.log.error("Slurm does not say which jobs there are: %s", error)  # noqa: TRY400 (no bug of ours)
            self.answers = False
        else:
            if not self.answers:
                self.log.info("Slurm says which jobs there are: %d of %s", len(jobs), self.name)
            self.jobs, self.asked, self.answers = jobs, began, True
        # Those who wait look, and wait for the next one.
        self.changed.set()
        self.changed = asyncio.Event()
        # Of hundreds of servers that run nobody has to look.
        for job, end in self._ends.items():
            if (found := self.look(job)) and found.ending:
                end.set()

    def look(self, job: Key) -> Job | None:
        """Return a job as it was when Slurm answered last; None is unknown."""
        _, since = self.claims.get(job, (None, 0.0))
        if not self.answers or self.asked <= since:
            return None
        return self.jobs.get(job, GONE)

    async def find(self, job: Key) -> Job | None:
        """Return a job; None is unknown."""
        if time.monotonic() - self.asked > 2 * self.quiet_interval or self.look(job) is None:
            await self.refresh()
        return self.look(job)

    async def wait_for_end(self, job: Key) -> None:
        """Wait until Slurm says that a job is ending, or has ended."""
        if (found := self.look(job)) is None or not found.ending:
            await self._ends.setdefault(job, asyncio.Event()).wait()

    async def free(self) -> dict[str, Free]:
        """
        Return what nobody uses, by partition, and by "" of that without a choice; nothing is unknown.

        All pages of a moment ask once.
        """
        if not self.answers:
            return {}
        if self._free is None or time.monotonic() - self._free_since > FREE_SECONDS:
            self._free, self._free_since = asyncio.ensure_future(self._ask_for_free()), time.monotonic()
        await asyncio.wait([self._free], timeout=FREE_WAIT)
        free = dict(self._free.result()) if self._free.done() else {}
        if self.partition:
            free.pop("", None)
            free |= {"": free[self.partition]} if self.partition in free else {}
        return free

    async def _ask_for_free(self) -> dict[str, Free]:
        try:
            return parse_free(await run("sinfo", "--noheader", "--Node", f"--Format={FREE_FORMAT}"))
        except OSError:
            # The next look at the jobs says so.
            return {}

    async def cancel_orphans(self) -> None:
        """Cancel the jobs of this hub that belong to no server."""
        if not self.answers:
            return
        now = time.monotonic()
        # Slurm takes a while to end one that is cancelled.
        orphans = {
            key: job
            for key, job in self.jobs.items()
            if key not in self.claims
            and not job.ending
            and not self.submissions[key.uid]
            and now - self._cancelled.get(key, -math.inf) > CANCEL_SECONDS
        }
        recorded = self.recorded() if orphans else set()
        # Anybody may give jobs of their own the name of the hub's, as many as Slurm takes.
        by_user: dict[str, list[Key]] = defaultdict(list)
        for key, job in orphans.items():
            if key not in recorded:
                by_user[job.user].append(key)
        for user, all_keys in by_user.items():
            keys = all_keys[:CANCEL_BATCH]
            numbers = [key.number for key in keys]
            self._cancelled |= dict.fromkeys(keys, now)
            self.log.warning("Jobs of %s that belong to no server are cancelled: %s", user, numbers)
            try:
                await cancel(user, numbers, self.name)
            except OSError as error:
                self.log.error("Jobs of %s were not cancelled: %s: %s", user, numbers, error)  # noqa: TRY400 (no bug)

    def recorded(self) -> set[Key]:
        """Return the jobs of servers in the database, which a hub that starts may not have looked at."""
        from jupyterhub import orm
        from jupyterhub.app import JupyterHub

        if not JupyterHub.initialized():
            return set()
        servers = JupyterHub.instance().db.query(orm.Spawner).filter(orm.Spawner.server != None)  # noqa: E711 (SQL)
        states = [server.state for server in servers if server.state and "job" in server.state]
        return {Key(state.get("uid", -1), state["job"]) for state in states}

    async def node_address(self, node: str) -> str:
        """Return the address of a node, by which the hub reaches the servers there. Raises OSError."""
        address, since = self._addresses.get(node, ("", -math.inf))
        if time.monotonic() - since > ADDRESS_SECONDS:
            printed = await run("sinfo", "--noheader", f"--nodes={node}", "--format=%o")
            address = printed.split("\n")[0].strip() or node
            self._addresses[node] = address, time.monotonic()
        return address

    # Accounts

    async def associate(self, user: str, account: str) -> None:
        """Add a user to an account, once; a server starts without it, too, unless the cluster insists."""
        if not self.account or time.monotonic() < self._associated.get((user, account), -math.inf):
            return
        try:
            await act(SLURM_USER, "associate", user=user, account=account)
        except OSError as error:
            self._associated[user, account] = time.monotonic() + ASSOCIATE_PAUSE
            self.log.error("%s was not added to the account %s of Slurm: %s", user, account, error)  # noqa: TRY400 (no bug)
        else:
            self._associated[user, account] = math.inf

    # Jobs that begin

    async def listen(self) -> None:
        """Open the ports for jobs and their servers."""
        from jupyterhub.app import JupyterHub

        try:
            await asyncio.start_server(self.receive, None, self.report_port, limit=REPORT_SIZE)
            server = NodeServer(
                JupyterHub.instance().tornado_application, ssl_options=self.tls.hub_context(ssl.Purpose.CLIENT_AUTH)
            )
            server.listen(self.api_port)
        except Exception:
            self.log.exception("No server on a node can be started")

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the report of a job, which tries again where its node has too many connections."""
        peer = host_of(writer.get_extra_info("peername"))
        if self._reporting[peer] >= HOST_REPORTS:
            writer.close()
            return
        self._reporting[peer] += 1
        try:
            answer = await asyncio.wait_for(self.answer(reader), REPORT_SECONDS)
            writer.write(answer.encode())
            await writer.drain()
        except (ReportError, OSError, ValueError, LookupError, TypeError, asyncio.TimeoutError) as error:
            self.log.warning(
                "What %s has said is no report of a job: %s", peer, str(error)[:200] or type(error).__name__
            )
        except Exception:
            self.log.exception("The report of a job from %s has failed", peer)
        finally:
            self._reporting[peer] -= 1
            writer.close()

    async def answer(self, reader: asyncio.StreamReader) -> str:
        """Return the environment of the job whose report comes, for its user alone."""
        line = (await reader.readline()).decode("ascii")
        # Anybody who reaches the port may say anything.
        async with self._reports:
            uid, payload = parse_credential(await run("unmunge", given=line))
        report = json.loads(payload)
        job, port, directory = Key(uid, int(report["job"])), int(report["port"]), str(report["directory"])
        if job not in self.claims or not 1024 <= port < 65536:
            raise ReportError(f"job {job.number} of UID {uid} with port {port} is not expected")
        spawner, _ = self.claims[job]
        answer = await spawner.begin_job(job, port, directory)
        return await run("munge", f"--restrict-uid={uid}", given=json.dumps(answer))


def parse_positions(text: str) -> dict[int, int]:
    """Return the place of each job among those that wait in its partition; squeue has printed them in their order."""
    counts: Counter[str] = Counter()
    positions = {}
    for line in text.splitlines():
        number, _, partition = line.partition("|")
        counts[partition] += 1
        if number.isdigit():
            positions[int(number)] = counts[partition]
    return positions


def is_root() -> bool:
    """Return whether the hub is root, and has no sudo rule that prepares sessions of users."""
    return os.geteuid() == 0


def user_command(user: str, seconds: float) -> list[str]:
    """Return the words in front of a command of the mediator that is to run as the user, for so long at most."""
    if not is_root():
        return ["sudo", "-nH", "-u", user]
    # Outside of the hub's own confinement, and of the user's limits. What hangs on a mount is not waited for.
    outside = ["systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--property=KillMode=process"]
    outside += user_session.time_limit(seconds)
    return [*outside, f"--uid={user}", "--"]


async def act(as_user: str, action: str, /, **request: Any) -> None:
    """Have the mediator act as a user. Raises OSError, a RefusedError if Slurm has refused it."""
    seconds = user_session.action_seconds(action, None)
    command = [*user_command(as_user, seconds), MEDIATOR, action]
    # The time of the action does not begin at once.
    answer = await ask_mediator(as_user, command, request, seconds + QUERY_SECONDS, ENVIRONMENT)
    if not answer["ok"]:
        raise OSError(f"the mediator of {as_user} has failed")
    if answer["problem"]:
        raise RefusedError(printable(answer["problem"]))


async def cancel(user: str, jobs: list[int], name: str) -> None:
    """Cancel jobs of a user, if they have the name of the hub's jobs. Raises OSError."""
    try:
        await act(user, "cancel", jobs=jobs, name=name, user=user)
    except RefusedError:
        raise
    except OSError:
        # As of an account that is closed, which PAM gives no session.
        await act(SLURM_USER, "cancel", jobs=jobs, name=name, user=user)
