"""
Servers as jobs of a Slurm cluster.

- The job is submitted, and cancelled, by the mediator as its user. Its number is in the database before anything else
  happens: a hub that is killed finds the server again, or cancels the job.
- A job gets its environment when it begins, not when it is submitted; see `cluster` and `campushub_hub.host.job`.
- The server listens on its node for the hub and its proxy alone, which show certificates, as it does.
- It ends when Slurm says so, or when nobody can be reached at its address; Slurm calls a job running that does nothing.
- The hub ends it a minute before Slurm would, and its open pages are told before; see `lifetime`.
"""

from __future__ import annotations

import asyncio
import math
import re
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from typing import Any, TypedDict

from jupyterhub.spawner import Spawner
from jupyterhub.utils import utcnow
from traitlets import Float, Integer, Unicode

from campushub_hub.certificates import fingerprint
from campushub_hub.host import user_session
from campushub_hub.profiles import SLURM
from campushub_hub.translation import gettext_noop

from .answers import printable
from .base import NO_SESSION, PORT_TAKEN, CampusSpawner, ServerEndedError, ServerStartError
from .cluster import MEDIATOR, Job, Key, ReportError, SlurmCluster, cancel, is_root, user_command
from .lifetime import Ending, Report

NO_CLUSTER = gettext_noop(
    "The cluster does not answer at the moment, so that no server can be started. Please try again in a few minutes."
)
REFUSED = gettext_noop("The cluster has not accepted your server: %(problem)s")
# The same of what is known, be it Slurm's answer or the reason for which a job waits. Each is of something that the
# server has asked for.
REFUSALS = (
    (
        re.compile(r"(?i)invalid ?qos|QOSNotAllowed"),
        "qos",
        gettext_noop(
            "You may not use the QOS “%(qos)s” of the cluster. Please choose another one, or ask your administrator. "
            "The cluster says: %(problem)s"
        ),
    ),
    (
        re.compile(r"(?i)invalid ?account|AccountNotAllowed"),
        "account",
        gettext_noop(
            "You may not use the account “%(account)s” of the cluster here. Please choose another one, or ask your "
            "administrator. The cluster says: %(problem)s"
        ),
    ),
    (
        re.compile(r"accounting/QOS policy|PerJob(Limit)?\Z|QOSMin"),
        "cores",
        gettext_noop(
            "What you have chosen is beyond a limit that the cluster has for you. Please choose less, or ask your "
            "administrator. The cluster says: %(problem)s"
        ),
    ),
    (
        re.compile(r"node configuration is not available|can not be satisfied|\(gres\)|BadConstraints"),
        "cores",
        gettext_noop(
            "No node of this part of the cluster has as much as you have chosen. Please choose less. The cluster says: "
            "%(problem)s"
        ),
    ),
)
QUEUE_TOO_LONG = gettext_noop(
    "You have waited %(minutes)s minutes in the queue of the cluster, and nothing became free. Please try again later."
)
NOT_REPORTED = gettext_noop("Your server was given a place on %(node)s and did not start there.")
# Why a job has ended, by its state, as end_reason.html says it of a server that ran.
REASONS = {
    "BOOT_FAIL": "node",
    "CANCELLED": "cancelled",
    "DEADLINE": "time_limit",
    "NODE_FAIL": "node",
    "OUT_OF_MEMORY": "memory",
    "PREEMPTED": "preempted",
    "TIMEOUT": "time_limit",
}
# The same, of one that has not come so far.
ENDED_WHILE_STARTING = {
    "cancelled": gettext_noop("The job of your server was cancelled before it started."),
    "memory": gettext_noop("Your server has used more memory than it may while it was starting."),
    "node": gettext_noop("The node on which your server was starting has failed. Please start it again."),
    "preempted": gettext_noop(
        "Other work was given the place of your server before it started. Please start it again."
    ),
    "time_limit": gettext_noop("The time of your server was over before it started."),
    "ended": gettext_noop("Your server ended while it was starting."),
}
# What sbatch says where the controller, or munge on one of the two hosts, does not answer.
SILENT = re.compile(r"contact slurm controller|timed out|Zero Bytes|[Aa]uthentication|\AMunge ")
# Why a job waits that would do so indefinitely, as clusters say it that do not refuse it (EnforcePartLimits).
HOPELESS = re.compile(
    r"(PartitionTimeLimit|BadConstraints|InvalidAccount|InvalidQOS|AccountNotAllowed|QOSNotAllowed"
    r"|(Assoc|QOS)Max\w+PerJob(Limit)?|QOSMin\w+)\Z"
)
# Seconds between two looks at the port of a server that has just begun, and for how many seconds it has.
BEGIN_INTERVAL, BEGIN_SECONDS = 0.03, 2
# The same, of one that takes longer to start, and of one that is not there.
LISTEN_INTERVAL, RETRY_INTERVAL = 0.1, 1.0
# Seconds that a server has to show its certificate.
CONNECT_SECONDS = 5.0
# The same, of one that has ended its connection, after which nobody is led there: it may be another one.
DOUBT_SECONDS = 1.0
# Of the connection that is held to each server: seconds between two signs of life that are missing, how many may be.
KEEPALIVE_SECONDS, KEEPALIVE_COUNT = 5, 4
# How much longer a server is not asked again that has answered there.
ANSWERED_FACTOR = 3
# The most bytes that a server may say there in answer to a question.
ANSWER_SIZE = 10_000
# Seconds before the end of a job at which the hub ends the server.
MARGIN = 60


class StrangerError(Exception):
    """Another server listens at the port of this one."""


class HangingError(Exception):
    """A server that listens and does not answer, not even with its certificate."""


async def listens(address: str, port: int) -> bool:
    """Return whether anybody listens there."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), CONNECT_SECONDS)
    except (OSError, asyncio.TimeoutError):
        return False
    writer.close()
    return True


def keep_alive(connection: asyncio.StreamWriter, idle: int) -> None:
    """
    Have a connection end when the other host has not answered the kernel's question after so many silent seconds.

    What it has been sent and does not acknowledge is such a question as well.
    """
    carrier = connection.get_extra_info("socket")
    carrier.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        socket.TCP_USER_TIMEOUT: 1000 * KEEPALIVE_SECONDS * KEEPALIVE_COUNT,
        socket.TCP_KEEPIDLE: idle,
        socket.TCP_KEEPINTVL: KEEPALIVE_SECONDS,
        socket.TCP_KEEPCNT: KEEPALIVE_COUNT,
    }
    for option, value in options.items():
        carrier.setsockopt(socket.IPPROTO_TCP, option, value)


class HeldConnection:
    """
    A connection to a server that stays open: its end is that of the server, and the hub asks there whether it answers.

    For each question a connection of its own would take both sides some milliseconds, for their certificates.
    """

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._answer: asyncio.Future[bool] | None = None
        # How much more the server may say.
        self._left = 0

    async def ask(self, request: bytes) -> bool:
        """Return True when the server answers, or False when the connection ends before."""
        # One who has asked, and gave up, has asked for the next one as well.
        if self._answer is None or self._answer.done():
            self._answer = asyncio.get_running_loop().create_future()
            self._left = ANSWER_SIZE
            self._writer.write(request)
        return await asyncio.shield(self._answer)

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Wait until the connection ends, or the server has said more than it was asked for. Raises OSError."""
        try:
            while (said := await reader.read(ANSWER_SIZE)) and self._left >= len(said):
                self._left -= len(said)
                self._note(answered=True)
        finally:
            self._note(answered=False)

    def _note(self, *, answered: bool) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_result(answered)


class Resources(TypedDict):
    """What a server asks the cluster for."""

    partition: str  # empty is the cluster's default, as are account and QOS
    account: str
    qos: str
    memory: int  # MB; 0 is the partition's default
    cores: int
    gpus: int
    minutes: int


def refusal(problem: str, resources: Resources | None) -> ServerStartError:
    """Return what to tell somebody whose server Slurm has refused."""
    asked = {name: str(value) for name, value in (resources or {}).items()}
    fitting = (message for pattern, name, message in REFUSALS if asked.get(name) and pattern.search(problem))
    return ServerStartError(next(fitting, REFUSED), 500, problem=problem, **asked)


class Queue(TypedDict):
    """Why a job waits; spawn_pending.html has the words."""

    reason: str
    position: int
    start: float | None
    partition: str
    cores: int
    gpus: int


class CampusSlurmSpawner(CampusSpawner, Spawner):  # type: ignore[misc]
    """Servers as jobs of a Slurm cluster."""

    hours = Float(12, config=True, help="Hours after which a server ends whose profile names none.")
    queue_timeout = Integer(3600, config=True, help="Seconds that a server may wait in the queue.")
    stop_timeout = Float(60, config=True, help="Seconds that a job has to end after it is cancelled.")
    unreachable_timeout = Float(
        75,
        config=True,
        help="Seconds after which a server is ended that nobody can connect to, as when its node has gone. 0 is never.",
    )
    poll_interval = Integer(
        600, config=True, help="Seconds between two looks of JupyterHub; it is told of an end as soon as Slurm says so."
    )
    # The path in the sudo rule.
    mediator_path = Unicode(MEDIATOR, config=True, help="Path of the program that acts as the user.")

    runs_on = SLURM
    # Number of the job, and the UID of the account that it was submitted by.
    job = 0
    uid = -1
    # Of a server that listens, without its path.
    listens_at = ""
    # Of its certificate.
    fingerprint = ""
    report: asyncio.Future[tuple[str, int]] | None = None
    _directory = ""
    _resources: Resources | None = None
    # Since when nobody can connect to the server.
    _unreachable: float | None = None
    # Whether nobody is to be led to the server, and what `CampusProxy` has last told the proxy; None is not known.
    withheld = False
    proxy_withholds: bool | None = False
    _routing: asyncio.Task[None] | None = None
    _doubt: asyncio.TimerHandle | None = None
    _held: HeldConnection | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.cluster = SlurmCluster.instance(config=self.config)
        # Servers have certificates, and so has the hub for them.
        self.internal_ssl = True
        # JupyterHub's covers the queue as well.
        self.begin_timeout = self.start_timeout
        self.start_timeout += self.queue_timeout + 60
        self.cluster.begin()

    # What is kept

    def get_state(self) -> dict[str, Any]:
        """Remember the job."""
        state = super().get_state()
        kept = {"job": self.job, "uid": self.uid, "url": self.listens_at, "fingerprint": self.fingerprint}
        return {**state, **kept} if self.job else state

    def load_state(self, state: dict[str, Any]) -> None:
        """Read what `get_state` wrote."""
        super().load_state(state)
        self.job, self.uid = state.get("job", 0), state.get("uid", -1)
        self.listens_at, self.fingerprint = state.get("url", ""), state.get("fingerprint", "")
        if self.job:
            self.cluster.claim(self.key, self)

    def clear_state(self) -> None:
        """Forget the job."""
        super().clear_state()
        self.cluster.release(self.key)
        self.job, self.uid, self.listens_at, self.fingerprint = 0, -1, "", ""
        self.report, self._resources, self._unreachable, self._directory = None, None, None, ""
        self.withheld = False

    @property
    def key(self) -> Key:
        """By what the job is known."""
        return Key(self.uid, self.job)

    # What differs on a node

    def user_command(self, seconds: float) -> list[str]:
        """Return the words in front of a command that is to run as the user, within the user's limits."""
        command = user_command(self.user.name, seconds)
        if is_root():
            command.insert(-1, f"--slice={user_session.slice_name(self.account.pw_uid)}")
        return command

    async def create_network_home(self, homes: user_session.Homes, **request: Any) -> dict[str, Any]:
        """Have the user's home created on the storage, and probe it again."""
        if is_root():
            return await super().create_network_home(homes, **request)
        return await self.run_mediator("create-home", **request)

    async def publish_token(self) -> None:
        """Publish none: it would be on this host, and the server is on another."""

    def private_directory(self) -> str:
        """Return the directory of the job."""
        return self._directory

    def local_directory(self, homes: user_session.Homes) -> str:  # noqa: ARG002 (of other hosts)
        """Return the same: no other directory of a node is the user's own."""
        return self._directory

    def get_env(self) -> dict[str, str]:
        """Say where the server finds its certificates."""
        files = {"KEYFILE": "server.key", "CERTFILE": "server.pem", "CLIENT_CA": "centre-ca.pem"}
        return {
            **super().get_env(),
            **{f"JUPYTERHUB_SSL_{name}": f"{self._directory}/{file}" for name, file in files.items()},
        }

    # Start

    def resources(self) -> Resources:
        """Return what the server asks for, as it was chosen within the user's limits."""
        answers = self.choice.answers if self.choice else {}
        return {
            "partition": str(answers.get("partition") or self.cluster.partition),
            "account": str(answers.get("account") or self.cluster.account),
            "qos": str(answers.get("qos") or ""),
            "memory": math.ceil(float(self.mem_limit or 0) / 2**20),
            "cores": max(1, math.ceil(float(self.cpu_limit or 1))),
            "gpus": int(answers.get("gpus") or 0),
            "minutes": math.ceil((self.seconds_to_run() + self.extension_limit) / 60),
        }

    def seconds_to_run(self) -> int:
        """Return how long the server may run if its user asks for no more time."""
        hours = self.choice.answers.get("hours") if self.choice else None
        seconds = round(float(hours or self.hours) * 3600)
        return min(seconds, self.max_age) if self.max_age else seconds

    async def start(self) -> str:
        """Submit the job, wait until it has begun and the server listens, and return the server's address."""
        await self.prepare()
        if is_root():
            await self.prepare_session()
        await self.resolve_home()
        self._resources = self.resources()
        self.chosen_age = max(MARGIN, self.seconds_to_run() - MARGIN)
        self.report = asyncio.get_running_loop().create_future()
        self.cluster.begin()
        await self.finish_submission(self.submit(self._resources))
        address, port = await self.wait_for_report()
        # As Slurm counts. JupyterHub's is when it was asked for, and the queue is no part of its age.
        self.orm_spawner.started = utcnow(with_tz=False)
        await self.wait_until_reachable(address, port)
        self.listens_at = f"https://{f'[{address}]' if ':' in address else address}:{port}"
        self.keep_state()
        self.secure_server()
        return self.listens_at

    async def prepare_session(self) -> None:
        """Set the user's limits and create their directories, as the session of the sudo rule does for another hub."""
        account = self.account
        try:
            await asyncio.to_thread(user_session.prepare, account, self._limits, self.session_settings)
        except (OSError, subprocess.SubprocessError) as error:
            self.log.error("Cannot prepare the session of %s: %s", account.pw_name, error)  # noqa: TRY400 (no bug of ours)
            raise ServerStartError(NO_SESSION) from error

    async def submit(self, resources: Resources) -> None:
        """Submit the job and write down its number."""
        uid = self.account.pw_uid
        # The job may be there before its number is.
        self.cluster.submissions[uid] += 1
        try:
            await self.cluster.associate(self.account.pw_name, resources["account"])
            answer = await self.run_mediator(
                "submit",
                **resources,
                name=self.cluster.name,
                interface=self.choice.profile.interface if self.choice else "",
                contact=f"{self.cluster.address}:{self.cluster.report_port}",
            )
            if problem := printable(answer["problem"]):
                self.log.error("Slurm has not accepted the server %s: %s", self._log_name, problem)
                raise ServerStartError(NO_CLUSTER) if SILENT.search(problem) else refusal(problem, resources)
            self.job, self.uid = int(answer["job"]), uid
            self.cluster.claim(self.key, self)
            self.keep_state()
        finally:
            self.cluster.submissions[uid] -= 1
        self.log.info("The server %s is job %d", self._log_name, self.job)

    async def wait_for_report(self) -> tuple[str, int]:
        """Wait until the job has begun and said its port. Raises ServerStartError."""
        if self.report is None:
            raise RuntimeError("no job was submitted")
        began = time.monotonic()
        running: float | None = None
        while not self.report.done():
            changed = asyncio.ensure_future(self.cluster.changed.wait())
            waiting: list[asyncio.Future[Any]] = [self.report, changed]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            changed.cancel()
            found = self.cluster.look(self.key)
            if self.report.done() or found is None:
                continue
            self.check_job(found)
            if found.state == "PENDING":
                if time.monotonic() - began > self.queue_timeout:
                    raise ServerStartError(QUEUE_TOO_LONG, minutes=str(round(self.queue_timeout / 60)))
            elif running is None:
                running = time.monotonic()
            elif time.monotonic() - running > self.begin_timeout:
                raise ServerStartError(NOT_REPORTED, node=found.node)
        return self.report.result()

    def check_job(self, found: Job) -> None:
        """Raise ServerStartError for a job that has ended while the server was starting, or never begins."""
        if found.ended:
            reason = REASONS.get(found.state, "ended")
            self.log.error("Job %d of the server %s has ended: %s", self.job, self._log_name, found.state)
            raise ServerEndedError(ENDED_WHILE_STARTING[reason])
        if found.state == "PENDING" and HOPELESS.match(found.reason):
            self.log.error(
                "Job %d of the server %s would wait indefinitely: %s", self.job, self._log_name, found.reason
            )
            raise refusal(found.reason, self._resources)

    async def begin_job(self, job: Key, port: int, directory: str) -> dict[str, Any]:
        """Return what the job needs to become the server, which has begun. Raises ReportError and OSError."""
        if job != self.key or self.report is None or self.report.done():
            raise ReportError(f"job {job.number} of UID {job.uid} is none that is about to start")
        found = self.cluster.look(job)
        if found is None or not found.node:
            await self.cluster.refresh()
            found = self.cluster.look(job)
        if found is None or not found.node or found.ended:
            raise ReportError(f"Slurm does not say where job {job.number} runs")
        address = await self.cluster.node_address(found.node)
        # Another report may have been first while Slurm was asked.
        if self.report is None or self.report.done():
            raise ReportError(f"job {job.number} has reported already")
        pair = self.cluster.tls.for_server(self.user.name, address)
        self.fingerprint = fingerprint(ssl.PEM_cert_to_DER_cert(pair.certificate))
        self.ip, self.port, self._directory = "0.0.0.0", port, directory  # noqa: S104 (it asks for certificates)
        answer = {
            "env": self.get_env(),
            "args": self.get_args(),
            # Of memory and cores Slurm sees to it.
            "tasks": self._limits["tasks"] or 0,
            "files": {
                "server.key": pair.key,
                "server.pem": pair.certificate,
                "centre-ca.pem": self.cluster.tls.centre_authority,
            },
        }
        self.report.set_result((address, port))
        return answer

    async def wait_until_reachable(self, address: str, port: int) -> None:
        """Wait until the server can be connected to. Raises ServerStartError."""
        began = time.monotonic()
        while not await self.is_there(address, port):
            if (found := self.cluster.look(self.key)) is not None:
                self.check_job(found)
            waited = time.monotonic() - began
            if waited > self.begin_timeout:
                raise ServerStartError(NOT_REPORTED, node=found.node if found else address)
            await asyncio.sleep(BEGIN_INTERVAL if waited < BEGIN_SECONDS else LISTEN_INTERVAL)

    async def is_there(self, address: str, port: int) -> bool:
        """Return whether a server that starts listens. Raises ServerStartError."""
        try:
            return await self.connects(address, port)
        except StrangerError:
            raise ServerStartError(PORT_TAKEN) from None

    async def connects(self, address: str, port: int) -> bool:
        """Return whether the server is there. Raises StrangerError if another one of the node is."""
        try:
            connection = await self.connect(address, port)
        except HangingError:
            return False
        if connection:
            connection[1].close()
        return connection is not None

    async def connect(self, address: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """
        Return a connection to the server, or None if nobody is there. Raises StrangerError and HangingError.

        Each server of a node has a certificate for its address, and whoever finds the port free could listen there.
        """
        opening = asyncio.open_connection(address, port, ssl=self.cluster.tls.hub_context())
        try:
            reader, writer = await asyncio.wait_for(opening, CONNECT_SECONDS)
        except asyncio.TimeoutError:
            if await listens(address, port):
                raise HangingError from None
            return None
        except ssl.SSLCertVerificationError:
            raise StrangerError from None
        except OSError:
            return None
        certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        if fingerprint(certificate) != self.fingerprint:
            writer.close()
            self.log.error("Somebody else listens at port %d of %s, of the server %s", port, address, self._log_name)
            raise StrangerError
        return reader, writer

    def secure_server(self) -> None:
        """Have JupyterHub show the hub's certificate to the server."""
        self.tls = self.cluster.tls.hub_context()
        if self.server:
            place = self.cluster.tls.directory
            self.server.proto = "https"
            self.server.keyfile, self.server.certfile = str(place / "hub.key"), str(place / "hub.pem")
            self.server.cafile = str(place / "servers-ca.pem")

    async def get_url(self) -> str:
        """Return the server's address, which JupyterHub is about to look at after its restart."""
        self.secure_server()
        await super().get_url()
        return f"{self.listens_at}{self.server.base_url}"

    # While it waits and runs

    @property
    def settled(self) -> bool:
        """Return whether the server runs, and shows it by the connection that the hub holds."""
        return bool(self._held and not self.pending and not self.withheld)

    def place(self) -> str:
        """Return the node on which the server runs, as far as it is known."""
        found = self.cluster.look(self.key) if self.job else None
        return found.node if found else ""

    def queue(self) -> Queue | None:
        """Return why the job waits, or None if it does not, or nobody knows."""
        found = self.cluster.look(self.key) if self.job else None
        if found is None or found.state != "PENDING":
            return None
        return {
            "reason": found.reason,
            "position": self.cluster.positions.get(self.job, 0),
            "start": found.start,
            "partition": found.partition,
            "cores": self._resources["cores"] if self._resources else 0,
            "gpus": self._resources["gpus"] if self._resources else 0,
        }

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what the job waits for; the page that waits puts it in words of its language."""
        last: dict[str, Any] = {}
        # From before there is a job: session and home may take longer than to open the page.
        while self.pending == "spawn":
            queue = self.queue()
            found = self.cluster.look(self.key) if self.job else None
            if queue:
                place = f", place {queue['position']}" if queue["position"] else ""
                event = {
                    "progress": 20,
                    "message": f"Waiting in the queue of {queue['partition']}{place}",
                    "queue": queue,
                }
            elif found and found.node:
                event = {"progress": 60, "message": f"Starting on {found.node}", "node": found.node}
            else:
                event = {"progress": 10, "message": "Asking the cluster for a place"}
            if event != last:
                last = event
                yield event
            await self.cluster.changed.wait()

    async def poll(self) -> int | None:
        """Return None while the job runs, or nobody can say that it does not."""
        if not self.job:
            return None if self.submitting else 0
        found = await self.cluster.find(self.key)
        if found is None:
            return None
        if not found.ended:
            # Whoever waited for it when the hub ended has been told that the server does not run.
            return self.give_up() if self._check_pending and not self.listens_at else None
        reason: Ending = {"reason": REASONS.get(found.state, "ended"), "message": ""}
        self._ending = self._ending or reason
        return 0 if found.state == "COMPLETED" else 1

    def give_up(self) -> int:
        """Forget the job of a start that ended with the hub; what belongs to no server is cancelled."""
        self.log.warning("The server %s was starting when the hub ended; job %d is cancelled", self._log_name, self.job)
        self.clear_state()
        self.last_end = {"reason": "hub", "message": "", "at": time.time(), "key": "", "boot": ""}
        self.keep_state()
        return 1

    async def stop(self, now: bool = False) -> None:  # noqa: ARG002 (Slurm has the patience)
        """Cancel the job, this one alone, and wait until it has ended."""
        self.note_stop()
        await self.wait_for_submission()
        if not self.job:
            return
        try:
            await cancel(self.user.name, [self.job], self.cluster.name)
        except OSError as error:
            # The hub tries again if need be, for then it is a job of no server.
            self.log.error("Job %d of the server %s was not cancelled: %s", self.job, self._log_name, error)  # noqa: TRY400 (no bug)
        end = time.monotonic() + self.stop_timeout
        while time.monotonic() < end:
            await self.cluster.refresh()
            found = self.cluster.look(self.key)
            if found is not None and found.ending:
                return
            await asyncio.sleep(0.3)
        self.log.error("Job %d of the server %s has not ended", self.job, self._log_name)

    async def why_ended(self, pid: int) -> Ending:  # noqa: ARG002 (of another host)
        """Return what is known, which Slurm has said already."""
        return {"reason": "ended", "message": ""}

    async def watch(self) -> None:
        """Wait until Slurm says that the job has ended, and tell the hub."""
        while True:
            await self.cluster.wait_for_end(self.key)
            found = self.cluster.look(self.key)
            if found is not None and found.ended and self._callbacks and await self.poll_and_notify() is not None:
                return
            if found is not None and found.ending:
                # That can take long, with the port free.
                self.withhold(True)
            await self.cluster.changed.wait()

    async def watch_answers(self) -> None:
        """End a server that nobody can connect to any more, in addition to noting whether it answers."""
        noting = asyncio.ensure_future(super().watch_answers())
        try:
            # JupyterHub makes the route when the server has answered.
            while self.pending:  # noqa: ASYNC110 (it is an attribute of JupyterHub)
                await asyncio.sleep(LISTEN_INTERVAL)
            self.begin_doubt(CONNECT_SECONDS)
            while await self.hold_connection():
                self.begin_doubt(DOUBT_SECONDS)
        except StrangerError:
            await self.cut_off()
        finally:
            noting.cancel()
            self.end_doubt()

    def begin_doubt(self, seconds: float) -> None:
        """Have nobody led to the server any more if it has not shown its certificate within some seconds."""
        self._doubt = self._doubt or asyncio.get_running_loop().call_later(seconds, self.withhold, True)

    def end_doubt(self) -> None:
        """Forget the doubt: the server has shown its certificate, or has ended."""
        if self._doubt:
            self._doubt.cancel()
        self._doubt = None

    def withhold(self, withheld: bool) -> None:
        """Have nobody led to the server, or everybody again; meanwhile the proxy says that it does not answer."""
        if self.withheld != withheld:
            self.withheld = withheld
            words = "no more to" if withheld else "again to"
            self.log.warning("Browsers are led %s the server %s", words, self._log_name)
        if self.proxy_withholds != withheld and not self._routing:
            # Nobody waits for the proxy, which may be busy, and nothing cancels what it may have heard already.
            self._routing = asyncio.ensure_future(self._change_route())

    async def _change_route(self) -> None:
        """Tell the proxy whether the server is withheld, until it knows what holds by then."""
        try:
            while self.ready and self.proxy_withholds != self.withheld:
                await self.user.settings["proxy"].add_user(self.user, self.name)
        except Exception:
            # It is compared every few minutes.
            self.log.exception("The route of the server %s was not changed", self._log_name)
        finally:
            self._routing = None

    async def hold_connection(self) -> bool:
        """
        Connect to the server, wait until that ends, and return whether it is to be done again. Raises StrangerError.

        A server that ends closes it at once, long before Slurm says so. Until then another one could take its port, and
        would be sent the browser of this one's user. So nobody is led there before the certificate is seen again. The
        kernels of both hosts notice when one of them has gone.
        """
        pause = min(RETRY_INTERVAL, self.answer_interval)
        try:
            connection = await self.connect(self.server.ip, self.server.port) if self.server else None
        except HangingError:
            # Its user is told so, and decides; see `check_answer`.
            self._unreachable = None
            await asyncio.sleep(pause)
            return True
        if connection is None:
            self.withhold(True)
            now = time.monotonic()
            self._unreachable = self._unreachable or now
            if self.unreachable_timeout and now - self._unreachable >= self.unreachable_timeout:
                self.log.error("The server %s cannot be reached on its node, and is ended", self._log_name)
                self.end_without_farewell()
                return False
            await asyncio.sleep(pause)
            return True
        self._unreachable = None
        self.end_doubt()
        reader, writer = connection
        began = time.monotonic()
        try:
            keep_alive(writer, max(1, round(self.answer_interval)))
            found = self.cluster.look(self.key)
            if found is None or not found.ending:
                self.withhold(False)
            self._held = HeldConnection(writer)
            await self._held.listen(reader)
        except OSError:
            pass
        finally:
            self._held = None
            writer.close()
            # It may have ended, and Slurm knows why.
            self.cluster.hurry()
        if time.monotonic() - began < 1:
            # No server does that but one that wants the hub to be busy, or has just ended.
            self.begin_doubt(DOUBT_SECONDS)
            await asyncio.sleep(pause / 2)
        return True

    @property
    def answer_pause(self) -> float:
        """
        Return the seconds until the server is asked again.

        That it has ended the connection shows, and a page that gets no answer has the hub ask at once. All that have
        answered are asked at the same moments: the hub of hundreds would hardly ever be at rest.
        """
        if self.unresponsive or not self._held:
            return self.answer_interval
        pause = ANSWERED_FACTOR * self.answer_interval
        left = pause - time.monotonic() % pause
        return left if left > self.answer_interval else left + pause

    async def answers(self) -> bool:
        """Return whether the server answers a request, whatever it says."""
        place = self.listens_at.removeprefix("https://")
        request = f"GET {self.server.base_url}api HTTP/1.1\r\nHost: {place}\r\n\r\n"
        # A connection may end because the server closes it.
        return bool(self._held and await self._held.ask(request.encode())) or await super().answers()

    async def cut_off(self) -> None:
        """End a server at whose port somebody else listens, to whom nothing more must be sent."""
        self.withheld = True
        try:
            await self.user.settings["proxy"].delete_user(self.user, self.name)
        except Exception:
            # The end takes it away once more.
            self.log.exception("The route of the server %s was not taken away", self._log_name)
        self.end_without_farewell()

    async def _ask(self) -> Report:
        """Tell and ask nothing where nobody else is led, for the hub says its secret of the server."""
        if self.withheld:
            raise LookupError
        return await super()._ask()

    def end_without_farewell(self) -> None:
        """End a server that nothing can be sent to, or must be."""
        self._ending = self._ending or {"reason": "unreachable", "message": ""}
        self._farewell = asyncio.ensure_future(asyncio.sleep(0))
        self.begin_end("unreachable")
