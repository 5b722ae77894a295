"""The hub as its users, its administrator and a curious neighbour on the same host meet it."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from testinfra.backend.base import CommandResult
from testinfra.host import Host

from tests.exposure import exposure
from tests.site.centre import wait_until

HUB = "http://127.0.0.1:980"
UIDS = {"alice": 2001, "bob": 2002, "carol": 2003, "dave": 2004}
CLIENT = Path(__file__).resolve().parents[2] / "tests" / "hub_client.py"
ALLOCATE = "x = bytearray({megabytes} * 2**20); print('allocated', len(x))"

Client = Callable[..., str]
ApplyRole = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def client(host: Host) -> Iterator[Client]:
    """Act at the hub as a user: `client("alice", "start")` returns what the client printed."""
    host.run(f"cat > /opt/hub_client.py <<'END_OF_CLIENT'\n{CLIENT.read_text()}\nEND_OF_CLIENT\n")

    def act(user: str, action: str, *arguments: str, password: str = "", succeeds: bool = True) -> str:
        words = [HUB, user, password or f"{user}-secret", action, *arguments]
        done = host.run(f"/opt/campushub/hub/bin/python /opt/hub_client.py {shlex.join(words)}")
        assert (done.rc == 0) == succeeds, f"{user} {action}: {done.stdout}{done.stderr}"
        return str(done.stdout if succeeds else done.stderr)

    yield act
    for user in UIDS:
        host.run(f"/opt/campushub/hub/bin/python /opt/hub_client.py {HUB} {user} {user}-secret stop")


def as_person(host: Host, user: str, code: str) -> CommandResult:
    """Run code with `hub`, the session of a browser in which a user has logged in."""
    login = f"""
import sys
sys.path.insert(0, "/opt")
from hub_client import Hub, HubError
hub = Hub("{HUB}", "{user}")
hub.login("{user}-secret")
"""
    return host.run(f"/opt/campushub/hub/bin/python -c {shlex.quote(login + code)}")


@pytest.fixture
def alice(client: Client) -> Client:
    """Alice's server runs."""
    running = client("alice", "get", "/hub/api/users/alice")
    if '"ready": true' not in running:
        client("alice", "start")
    return client


# A module of Ansible, with the file by which Python tries whether it can write; and what systemd makes for units.
MADE_BY_OTHERS = re.compile(
    r"/(var/)?tmp/(ansible_[\w.]+_payload_\w+|[a-z0-9_]{8}|systemd-private-\S+|namespace-dev-\w{6})"
)


# The first test, before others make files there.
@pytest.mark.attack
def test_an_installation_leaves_the_shared_tmp_alone(host: Host) -> None:
    host.run("systemctl stop watch-tmp")
    made = host.check_output("cat /run/made-in-tmp").splitlines()
    assert made, "the watch saw nothing, not even Ansible's modules"
    assert [path for path in made if not MADE_BY_OTHERS.fullmatch(path)] == []


def spawner(host: Host) -> str:
    """Which spawner this host has."""
    settings = json.loads(host.file("/etc/jupyterhub/settings.json").content_string)
    return "sudo" if "Sudo" in settings["JupyterHub"]["spawner_class"] else "systemd"


def processes(host: Host, user: str) -> list[str]:
    """Commands of all processes of a user."""
    listed: str = host.run(f"ps -u {user} -o args=").stdout
    return listed.splitlines()


def as_user(host: Host, user: str, command: str) -> tuple[int, str]:
    """Run a command as another user of the host, with a shell of their own."""
    done = host.run(f"runuser -u {user} -- sh -c {shlex.quote(command)}")
    return done.rc, done.stdout + done.stderr


def slice_property(host: Host, user: str, name: str) -> str:
    """A property of the slice that holds a user's servers, as the service manager enforces it."""
    return str(host.check_output(f"systemctl show --value --property={name} jupyterhub-{UIDS[user]}.slice")).strip()


# Logging in


def test_hub_answers_with_its_version(host: Host) -> None:
    """The hub is up."""
    assert json.loads(host.check_output(f"curl -s {HUB}/hub/api"))["version"].startswith("6.")


@pytest.mark.one_host
def test_login_page_speaks_the_language_of_the_browser(host: Host) -> None:
    """English and Russian, and English for all others."""

    def page(language: str) -> str:
        return str(host.check_output(f"curl -s -H 'Accept-Language: {language}' {HUB}/hub/login"))

    russian = page("ru-RU,ru;q=0.9,en;q=0.8")
    assert "Имя пользователя" in russian
    assert "Помощь" in russian
    for language in ("en-GB", "fr,ru;q=0.1,en;q=0.5", "xx;q=banana"):
        assert "Username" in page(language)


@pytest.mark.one_host
def test_error_page_speaks_the_language_of_the_browser(host: Host) -> None:
    """A page that is not there, as the installed package says it."""
    for language, title in (("ru-RU,ru;q=0.9", "Такой страницы нет"), ("fr", "There is no such page")):
        assert title in host.check_output(f"curl -s -H 'Accept-Language: {language}' {HUB}/hub/nowhere")


@pytest.mark.one_host
def test_pages_carry_the_sites_name_help_and_announcement(host: Host) -> None:
    """What the administrator set is on the page, and config.d has the last word."""
    page = host.check_output(f"curl -s {HUB}/hub/login")
    assert "<title>Test Centre</title>" in page.replace("\n", "")
    assert 'href="https://help.example.org/"' in page
    assert "Maintenance on Friday, from nine" in page


@pytest.mark.one_host
def test_wrong_password_is_refused(client: Client) -> None:
    """With words that a person understands."""
    assert "Invalid username or password" in client("alice", "login", password="wrong", succeeds=False)


@pytest.mark.attack
@pytest.mark.one_host
def test_user_outside_of_the_allowed_groups_is_refused(client: Client) -> None:
    """Dave has an account and a password, but is in no group that may log in."""
    client("dave", "login", succeeds=False)


@pytest.mark.attack
def test_system_accounts_cannot_log_in(host: Host, client: Client) -> None:
    """Not even with a password and in the right group."""
    host.check_output("id sysadm || useradd --system --no-create-home --groups jupyter-users sysadm")
    host.check_output("echo sysadm:sysadm-secret | chpasswd")
    client("sysadm", "login", succeeds=False)
    host.check_output("userdel sysadm")


@pytest.mark.chaos
@pytest.mark.one_host
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("chage --lastday 0", "Your password is right, but it has expired"),
        ("chage --lastday 2020-01-01 --maxdays 30", "Your password is right, but it has expired"),
        ("chage --lastday 2020-01-01 --maxdays 30 --inactive 5", "Your password is right, but it has expired"),
        ("chage --expiredate 2020-01-01", "Your account has expired"),
    ],
)
def test_expired_accounts_are_told_and_not_locked(host: Host, client: Client, change: str, words: str) -> None:
    """By the real PAM; whoever has changed the password gets in at once, however often it was tried before."""
    host.check_output(f"{change} carol")
    try:
        for _ in range(6):
            assert words in client("carol", "login", succeeds=False)
    finally:
        host.check_output("chage --lastday $(date +%F) --maxdays 99999 --inactive -1 --expiredate -1 carol")
    client("carol", "login")


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_broken_pam_is_told_and_locks_nobody(host: Host, client: Client) -> None:
    service = "/etc/pam.d/jupyterhub"
    host.check_output(f"cp -p {service} /run/pam-jupyterhub; sed -i '1a auth requisite pam_gone.so' {service}")
    try:
        for _ in range(6):
            assert "This server cannot check passwords" in client("carol", "login", succeeds=False)
        assert "See /etc/pam.d/jupyterhub" in host.check_output("journalctl -u jupyterhub -n 30 --no-pager -o cat")
    finally:
        host.check_output(f"cp -p /run/pam-jupyterhub {service}")
    client("carol", "login")


# Each attempt beyond the first of an address waits for up to 8 s: all of them take a quarter of an hour.
EVERYTHING = "CAMPUSHUB_TEST_EVERYTHING" in os.environ
MANY_GUESSES = 1000 if EVERYTHING else 100
MANY_STARTS = 50 if EVERYTHING else 8
GUESSES = f"""
import sys, time
from concurrent.futures import ThreadPoolExecutor
sys.path.insert(0, "/opt")
from hub_client import Hub, HubError

def guess(number):
    try:
        Hub("{HUB}", f"guess{{number}}").login("wrong")
    except HubError as error:
        return str(error)

def login():
    begin = time.monotonic()
    Hub("{HUB}", "bob").login("bob-secret")
    return time.monotonic() - begin

alone = login()
with ThreadPoolExecutor(100) as pool:
    guesses = [pool.submit(guess, number) for number in range({MANY_GUESSES})]
    took = []
    while not all(guess.done() for guess in guesses):
        took.append(login())
        time.sleep(2)
print({{guess.result() for guess in guesses}}, max(took), alone)
"""


@pytest.mark.attack
@pytest.mark.one_host
@pytest.mark.usefixtures("client")
def test_many_guesses_shut_out_nobody_else(host: Host) -> None:
    """From the address of the others: nobody is refused, and bob gets in within 5 s all the time.

    Where the host itself is too slow for that, five times what a login takes with nobody else.
    """
    done = host.run(f"/opt/campushub/hub/bin/python -c {shlex.quote(GUESSES)}")
    assert done.rc == 0, done.stderr
    assert "'403 Invalid username or password'" in done.stdout
    assert "429" not in done.stdout
    bob, alone = (float(seconds) for seconds in done.stdout.split()[-2:])
    assert bob < max(5, 5 * alone), done.stdout


@pytest.mark.attack
@pytest.mark.one_host
def test_failed_login_leaves_no_password_in_the_journal(host: Host, client: Client) -> None:
    """The journal names user and address, not the password."""
    client("alice", "login", password="Top-Secret-4711", succeeds=False)
    journal = host.check_output("journalctl -u jupyterhub --since '-1 min' --no-pager")
    assert "alice" in journal
    assert "Top-Secret-4711" not in journal


# Working


def test_a_cell_runs_and_plots(alice: Client) -> None:
    """A kernel starts, knows the site's environment and draws."""
    assert alice("alice", "run", "import os; print(os.environ['COURSE'])") == 'Теория "1" it\'s; #x\n'
    plot = "%matplotlib inline\nimport matplotlib.pyplot as plt\nplt.plot([1, 2, 3]); plt.show()"
    assert "[image/png]" in alice("alice", "run", plot)


def test_a_terminal_is_a_shell_of_the_user(alice: Client) -> None:
    """At home, with the user's name and the user environment's Python first."""
    printed = alice("alice", "shell", "id -un; pwd; command -v python; umask")
    assert printed.split() == ["alice", "/home/alice", "/opt/campushub/user/bin/python", "0022"]


def test_lab_asks_for_no_news_and_no_builds(alice: Client) -> None:
    """Its page does as its configuration says, which is at the beginning of it."""
    page = alice("alice", "get", "/user/alice/lab")
    assert '"buildCheck": false' in page
    assert '"@jupyterlab/apputils-extension:announcements"' in page


def test_node_is_not_on_users_path(alice: Client) -> None:
    """The proxy's Node is nobody else's business."""
    assert "no node" in alice("alice", "shell", "command -v node || echo no node")


@pytest.mark.attack
def test_kernels_listen_on_no_tcp_port(alice: Client) -> None:
    """Asked of the kernel itself: none of its sockets is one that the host listens on."""
    code = """
import glob, os
tables = [line.split() for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}").readlines()[1:]]
listening = {fields[9] for fields in tables if fields[3] == "0A"}
links = [os.readlink(path) for path in glob.glob("/proc/self/fd/*") if os.path.islink(path)]
print(len(listening) > 0, sorted(listening & {link[8:-1] for link in links}))
"""
    assert alice("alice", "run", code) == "True []\n"


def test_named_servers_run_side_by_side(host: Host, client: Client) -> None:
    """A second server is a second process, does not replace the first, and stops alone."""
    client("carol", "start")
    client("carol", "start", "second")
    # A server that was forked is accompanied by a program that starts with these options.
    servers = [line for line in processes(host, "carol") if "singleuser" in line and " -IS " not in line]
    assert len(servers) == 2
    client("carol", "stop", "second")
    assert client("carol", "run", "print('still here')") == "still here\n"
    client("carol", "stop")


def test_a_server_is_forked_into_its_users_slice(host: Host, client: Client) -> None:
    """With either spawner: nothing that a unit of it has stands in the way."""
    client("bob", "start")
    service = host.check_output("systemctl show --value --property=MainPID campushub-prefork")
    forked = host.run(f"pgrep --parent {service} --uid bob").stdout.split()
    assert len(forked) == 1, host.run("journalctl --no-pager --grep 'No fork' _UID=2002").stdout
    (accompanying,) = host.check_output("pgrep --uid bob --full -- '-IS .*singleuser'").split()
    shown = [host.check_output(f"cat /proc/{pid}/cgroup; ls -l /proc/{pid}/ns/") for pid in (*forked, accompanying)]
    groups, links = ([re.findall(pattern, text) for text in shown] for pattern in (r"\d+:.*", r"\w+:\[\d+\]"))
    assert "jupyterhub-2002.slice" in str(groups[0])
    assert groups[0] == groups[1]
    assert links[0] == links[1]
    client("bob", "stop")


def test_stop_leaves_nothing_running(host: Host, client: Client) -> None:
    """Not even what a user detached from the terminal."""
    client("bob", "start")
    client("bob", "run", "import subprocess; subprocess.run(['setsid', '-f', 'sleep', '12345'])")
    wait_until(lambda: any("sleep 12345" in line for line in processes(host, "bob")), "no sleep", seconds=5)
    client("bob", "stop")
    wait_until(lambda: not processes(host, "bob"), f"no process of bob's: {processes(host, 'bob')}", seconds=15)


@pytest.mark.chaos
@pytest.mark.parametrize("restarted", [False, True])
def test_a_server_that_ends_is_taken_off_the_proxy_at_once(host: Host, client: Client, restarted: bool) -> None:
    """Who listens on its port next must not be sent bob's browser; also when the hub was restarted meanwhile."""
    client("bob", "start")
    if restarted:
        host.check_output("systemctl restart jupyterhub")
    token = "$(sed -n 's/^CONFIGPROXY_AUTH_TOKEN=//p' /etc/jupyterhub/secrets/proxy.env)"
    routes = f'curl -s -H "Authorization: token {token}" http://127.0.0.1:981/api/routes'
    assert '"/user/bob"' in host.check_output(routes)
    host.check_output("pkill -KILL -u bob -f singleuser")
    wait_until(lambda: '"/user/bob"' not in host.check_output(routes), "no route to bob's server", seconds=3)
    client("bob", "start")
    client("bob", "stop")


# What the home page says after a stop, and after the server was killed.
LAST_ENDS = """
import subprocess, time
def shown(*texts):
    end = time.monotonic() + 20
    while not all(text in hub.request("/hub/home")[2] for text in texts):
        assert time.monotonic() < end, hub.request("/hub/home")[2]
        time.sleep(0.5)
hub.start()
hub.stop()
shown("You have stopped it.")
hub.start()
assert "last-end" not in hub.request("/hub/home")[2]
subprocess.run(["pkill", "-KILL", "-u", "bob", "-f", "singleuser"], check=True)
shown("It ended by itself.", "Its last words were:")
"""


def test_the_home_page_says_why_a_server_ended(host: Host, client: Client) -> None:
    client("bob", "stop")
    done = as_person(host, "bob", LAST_ENDS)
    assert done.rc == 0, done.stderr
    assert "ended by itself, or with the host: ended" in host.check_output("journalctl -u jupyterhub -n 200 --no-pager")


KILLED = f"""
import subprocess, time
def start():
    try:
        hub.start()
    except HubError as error:
        # Neither the service manager nor the hub need have noticed the end of the last server: they say so with 400.
        if not str(error).startswith("400 "):
            raise
        time.sleep(0.02)
        start()
for number in range({MANY_STARTS}):
    start()
    subprocess.run(["pkill", "-KILL", "-u", "bob", "-f", "singleuser"], check=True)
print("started", number + 1)
"""


@pytest.mark.chaos
def test_starts_after_a_kill_succeed(host: Host, client: Client) -> None:
    """As after each kill for memory: what the service manager still does with the last unit harms no start."""
    client("bob", "stop")
    done = as_person(host, "bob", KILLED)
    assert done.stdout == f"started {MANY_STARTS}\n", done.stderr
    client("bob", "stop")
    units = host.check_output("systemctl list-units --all --no-legend 'jupyterhub-user-bob*.service'")
    assert units == "", "a failed unit stays"


@pytest.mark.attack
@pytest.mark.one_host
def test_two_accounts_with_one_uid_do_not_share_files(host: Host, client: Client) -> None:
    """The second is told at login; the first, whom the host takes both for, works on."""
    host.check_output("useradd --non-unique --uid 2003 --groups jupyter-users twin && echo twin:twin-secret | chpasswd")
    try:
        assert "another account of this server has the same number" in client("twin", "login", succeeds=False)
        client("carol", "login")
        journal = host.check_output("journalctl -u jupyterhub -n 50 --no-pager -o cat")
        assert "User twin is refused: UID 2003 is that of carol" in journal
    finally:
        # userdel would take carol's processes for twin's.
        host.check_output("sed -i /^twin:/d /etc/passwd /etc/shadow && gpasswd --delete twin jupyter-users")


# A server that does not start

SETTINGS = "/home/bob/.jupyter/jupyter_server_config.py"


def pending_page(host: Host, user: str, start: str = "", language: str = "en") -> str:
    """What a person sees who starts a server in the browser and waits for its end."""
    return str(
        host.check_output(
            f"/opt/campushub/hub/bin/python -c {shlex.quote(PAGE)} {user} {language} {shlex.quote(start)}"
        )
    )


PAGE = f"""
import sys, time
sys.path.insert(0, "/opt")
from hub_client import Hub
user, language, start = sys.argv[1:]
hub = Hub("{HUB}", user)
hub.login(user + "-secret")
header = {{"Accept-Language": language}}
show = hub.request if "/hub/spawn-pending" in start else hub.press_start
status, address, page = show(start or "/hub/spawn", headers=header)
end = time.monotonic() + 60
while "/hub/spawn-pending" in address and status == 200 and time.monotonic() < end:
    time.sleep(0.3)
    status, address, page = hub.request("/hub/spawn-pending/" + user, headers=header)
print(status, address, page)
"""


@pytest.fixture
def closed(host: Host, client: Client) -> Iterator[None]:
    """Bob's server does not run; his home is as it was afterwards."""
    client("bob", "stop")
    yield
    host.run("rm -rf /home/bob/.jupyter")
    host.run("[ ! -d /home/bob.away ] || { rm -f /home/bob; mv /home/bob.away /home/bob; }")
    host.check_output("chown bob: /home/bob && chmod 700 /home/bob")
    client("bob", "stop")


@pytest.mark.chaos
@pytest.mark.parametrize(
    ("line", "last"),
    [
        ('c.ServerApp.contents_manager_class = "jupytext.TextFileContentsManager"', "jupytext"),
        ('c.ServerApp.root_dir = "/home/bob/gone"', "/home/bob/gone"),
        ('c.ServerApp.port = "many"', "port"),
        ("raise SystemExit('my own words')", "my own words"),
    ],
    ids=["class", "directory", "type", "exit"],
)
@pytest.mark.usefixtures("closed")
def test_settings_that_end_the_server_are_told(host: Host, line: str, last: str) -> None:
    """With file and line, a reference that the journal has, and a way in without them."""
    host.check_output(f"runuser -u bob -- mkdir -p {SETTINGS.rpartition('/')[0]}")
    host.check_output(f"printf '%s\\n' '# mine' {shlex.quote(line)} >{SETTINGS}; chown bob: {SETTINGS}")
    page = pending_page(host, "bob")
    assert page.startswith("500 "), page[:300]
    assert "Your server ended while it was starting." in page
    words = page.partition('id="last-words"')[2].partition("</pre>")[0]
    assert last in words
    if last != "my own words":
        assert f"{SETTINGS}, line 2" in page
    reference = page.partition('id="reference">')[2].partition("<")[0]
    journal = host.check_output("journalctl -u jupyterhub --since '-2 min' --no-pager -o cat")
    assert f"Reference: {reference}" in journal
    assert "Traceback" not in journal.partition("Not starting bob's server")[2]
    assert "Ваш сервер завершился во время запуска." in pending_page(host, "bob", "/hub/spawn-pending/bob", "ru")
    assert host.check_output("systemctl list-units --failed --no-legend 'jupyterhub-user-*'") == ""
    link = page.partition('id="start-without-settings"')[2].partition('href="')[2].partition('"')[0]
    assert f"{HUB}/user/bob/" in pending_page(host, "bob", link)


@pytest.mark.chaos
@pytest.mark.one_host
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("mv /home/bob /home/bob.away", "There is no home directory /home/bob for you."),
        ("mv /home/bob /home/bob.away && touch /home/bob", "There is no home directory /home/bob for you."),
        ("chmod 000 /home/bob", "Your home directory /home/bob cannot be used: Permission denied."),
        ("chown root: /home/bob", "Your home directory /home/bob cannot be used: Permission denied."),
    ],
    ids=["missing", "file", "closed", "anothers"],
)
@pytest.mark.usefixtures("closed")
def test_a_home_that_cannot_be_used_is_told(host: Host, client: Client, change: str, words: str) -> None:
    host.check_output(change)
    assert words in pending_page(host, "bob")
    assert words in client("bob", "start", succeeds=False)


@pytest.mark.attack
@pytest.mark.one_host
def test_a_server_of_a_system_account_is_refused_in_words(host: Host) -> None:
    """An administrator has added root on the administrators' page, and presses Start."""
    code = """
hub.api("/hub/api/users/root", "POST", {})
try:
    hub.api("/hub/api/users/root/server", "POST", {})
except HubError as error:
    print(error)
hub.api("/hub/api/users/root", "DELETE")
"""
    done = as_person(host, "alice", code)
    assert done.rc == 0, done.stderr
    assert done.stdout.startswith("403 ")
    assert "root is an account of the system and not of a person" in done.stdout


@pytest.mark.chaos
@pytest.mark.one_host
def test_ten_starts_at_one_moment_are_one(host: Host, client: Client) -> None:
    client("bob", "stop")
    code = """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(10) as pool:
    print(set(pool.map(lambda _: hub.api("/hub/api/users/bob/server", "POST", {}), range(10))))
"""
    # Each is "201 Created" or "202 Accepted", or it would raise; unless one is so late that the server runs already.
    done = as_person(host, "bob", code)
    assert done.stdout == "{None}\n" or "bob is already running" in done.stderr, done.stderr
    assert client("bob", "run", "print('one')") == "one\n"
    client("bob", "stop")


@pytest.mark.attack
@pytest.mark.one_host
@pytest.mark.usefixtures("alice")
def test_cookies_are_not_sent_from_other_sites(host: Host) -> None:
    """Neither those of the hub nor those of a user's server, but for links that people follow."""
    code = """
hub.request("/user/alice/lab")
for cookie in hub.cookies:
    print(cookie.name, cookie.get_nonstandard_attr("SameSite"))
"""
    done = as_person(host, "alice", code)
    assert done.rc == 0, done.stderr
    cookies = done.stdout.splitlines()
    assert {"jupyterhub-hub-login", "jupyterhub-session-id", "jupyterhub-user-alice", "_xsrf"} <= {
        cookie.split()[0] for cookie in cookies
    }
    assert [cookie for cookie in cookies if not cookie.endswith(" Lax")] == []


@pytest.mark.one_host
def test_a_user_is_deleted_with_all_servers(host: Host, client: Client) -> None:
    client("carol", "start")
    client("carol", "start", "second")
    done = as_person(host, "alice", 'hub.api("/hub/api/users/carol", "DELETE")')
    assert done.rc == 0, done.stderr
    assert not [line for line in processes(host, "carol") if "singleuser" in line]


# Limits


@pytest.mark.chaos
def test_memory_limit_kills_the_kernel_and_spares_the_server(host: Host, alice: Client) -> None:
    """The slice has the limit; a kernel beyond it dies, the server and a kernel within it go on."""
    assert slice_property(host, "alice", "MemoryMax") == str(700 * 2**20)
    alice("alice", "run", ALLOCATE.format(megabytes=1200), succeeds=False)
    journal = host.check_output("journalctl --output=cat --since=-2min")
    assert re.search(rf"kernel \S+ was killed for want of memory: .*limit {700 * 2**20} bytes", journal)
    assert alice("alice", "run", ALLOCATE.format(megabytes=100)) == f"allocated {100 * 2**20}\n"


def session_of_carol(host: Host, what: str) -> Any:
    """Return what Carol's server says about her limits and programs."""
    code = f"""
import json
hub.request("/user/carol/lab")
print(json.dumps(hub.api("/user/carol/api/session/{what}")))
"""
    done = as_person(host, "carol", code)
    assert done.rc == 0, done.stderr
    return json.loads(done.stdout)


def counts_cpu(host: Host) -> bool:
    """Return whether what limits CPU also counts it, as systemd takes for granted with control groups of version 1."""
    limits, counts = (host.run(f"realpath -e /sys/fs/cgroup/{name}").stdout for name in ("cpu", "cpuacct"))
    return bool(limits == counts)


def test_users_see_what_all_their_servers_use(host: Host, client: Client) -> None:
    """In the bar of each server, whichever of them it is that works."""
    client("carol", "start")
    client("carol", "start", "second")
    try:
        if counts_cpu(host):
            wait_until(lambda: session_of_carol(host, "usage")["cpu"], "a second look at the use of CPU")
            assert session_of_carol(host, "usage")["cpu"]["limit"] == 0.5
        usage = session_of_carol(host, "usage")
        assert usage["memory"]["limit"] == 700 * 2**20
        programs = session_of_carol(host, "programs")
        servers = sorted(program["name"] for program in programs if program["kind"] == "server")
        assert servers == ["", "second"]
        own = sum(program["memory"] for program in programs)
        assert 0.5 * own < usage["memory"]["used"] < 2 * own + 100 * 2**20
    finally:
        client("carol", "stop", "second")
        client("carol", "stop")


@pytest.mark.one_host
def test_group_has_its_own_limits(host: Host, client: Client) -> None:
    """Bob is a physicist: what would be too much for alice is not for him."""
    client("bob", "start")
    assert slice_property(host, "bob", "MemoryMax") == str(2**30)
    assert slice_property(host, "bob", "TasksMax") == "200"
    assert client("bob", "run", ALLOCATE.format(megabytes=750)) == f"allocated {750 * 2**20}\n"
    client("bob", "stop")


def test_memory_limit_holds_over_all_servers_of_a_user(host: Host, client: Client) -> None:
    """Two servers do not give twice the memory."""
    client("carol", "start")
    client("carol", "start", "second")
    hold = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', "
    hold += "'import time; x = bytearray(450 * 2**20); print(\"held\", flush=True); time.sleep(60)'], "
    hold += "stdout=subprocess.PIPE, text=True, start_new_session=True); print(p.stdout.readline())"
    assert "held" in client("carol", "run", hold)
    second = f"/opt/campushub/hub/bin/python -c {shlex.quote(SECOND_SERVER)}"
    done = host.run(f"cd /opt && {second}")
    client("carol", "stop", "second")
    client("carol", "stop")
    # Either the newcomer or the first holder had to go: both together never were.
    held = "allocated" in done.stdout
    killed = host.run("journalctl -k --since '-1 min' | grep -c 'Memory cgroup out of memory'").stdout.strip()
    assert not held or killed != "0"


SECOND_SERVER = f"""
import sys
sys.path.insert(0, "/opt")
from hub_client import Hub
hub = Hub("{HUB}", "carol")
hub.login("carol-secret")
print(hub.run("{ALLOCATE.format(megabytes=450)}", name="second"))
"""


def prefork_pid(host: Host, service: str = "prefork") -> str:
    """Return the process of a service that forks servers or kernels."""
    return str(host.check_output(f"systemctl show --value -p MainPID campushub-{service}"))


@pytest.mark.chaos
def test_tasks_limit_stops_a_fork_bomb(host: Host, alice: Client) -> None:
    """Alice cannot have more processes than her limit, in a forked kernel of a forked server; the host goes on."""
    host.check_output(f"pgrep -u alice -P {prefork_pid(host)}")
    bomb = (
        "import os, subprocess\nn = 0\ntry:\n    while n < 400:\n        subprocess.Popen(['sleep', '20']); n += 1\n"
        "except OSError as error:\n    print('stopped', n, os.getppid(), error)"
    )
    printed = alice("alice", "run", bomb)
    assert printed.startswith("stopped")
    started, parent = printed.split()[1:3]
    assert int(started) < 200
    assert parent == prefork_pid(host, "prefork-kernels")
    host.run("pkill -u alice -x sleep")


def test_cpu_limit_is_enforced(alice: Client) -> None:
    """Half a core: two seconds of the clock give little more than one of the processor."""
    burn = (
        "import time\nend = time.monotonic() + 3\nstart = time.process_time()\n"
        "while time.monotonic() < end: pass\nprint(time.process_time() - start)"
    )
    assert float(alice("alice", "run", burn)) < 0.5 * 3 * 1.35


# Temporary files

TMP = "/var/lib/campushub/tmp"
PLACES = "/tmp/{0} /var/tmp/{0} /dev/shm/{0} /run/jupyterhub-users/2003/{0}"


@pytest.mark.attack
def test_servers_of_a_user_share_a_tmp_of_their_own(host: Host, client: Client) -> None:
    """Both of carol's do, and nobody else sees it; with the last of them it is gone, and what is in memory, too."""
    client("bob", "start")
    client("carol", "start")
    client("carol", "start", "second")
    client("carol", "shell", f"touch {PLACES.format('mine')} /tmp/.X1-lock; ipcmk --shmem 4096")
    look = "import glob; print(sorted(glob.glob('/tmp/mine') + glob.glob('/var/tmp/mine')))"
    both = as_person(host, "carol", f'print(hub.run("{look}", name="second"))')
    assert both.stdout.strip() == "['/tmp/mine', '/var/tmp/mine']", both.stderr
    assert client("bob", "shell", f"ls -A {PLACES.format('mine')} /tmp/.X1-lock; ipcs -m").count("mine") == 4
    assert host.run("ls -A /tmp/mine /var/tmp/mine /dev/shm/mine /tmp/.X1-lock").stdout == ""
    assert "4096" not in client("bob", "shell", "ipcs -m") + host.check_output("ipcs -m")
    on_disk = host.check_output(f"stat --file-system --format %i {TMP}/2003/tmp")
    assert on_disk == client("carol", "shell", "stat --file-system --format %i /tmp").strip()
    client("carol", "stop")
    assert as_person(host, "carol", f'print(hub.run("{look}", name="second"))').stdout == both.stdout
    client("carol", "stop", "second")
    wait_until(lambda: not host.file(f"{TMP}/2003").exists, "the end of carol's /tmp", seconds=10)
    wait_until(lambda: not host.check_output("ls -A /run/jupyterhub-users/2003"), "an empty runtime directory")
    assert host.file(f"{TMP}/2002").exists, "bob's server runs"
    client("bob", "stop")


@pytest.mark.chaos
def test_what_a_server_has_written_is_not_charged_to_the_next(host: Host, client: Client) -> None:
    """Carol has 700 MB; what she has left in memory, as much as she may, takes none of them away."""
    client("carol", "start")
    write = "; ".join(f"dd if=/dev/zero of={place} bs=1M count=200" for place in PLACES.format("big").split())
    client("carol", "shell", f"{write}; ls -l {PLACES.format('big')}")
    host.check_output("pkill -KILL -u carol -f singleuser")
    wait_until(lambda: not processes(host, "carol"), "the end of carol's server", seconds=15)
    wait_until(lambda: not host.file(f"{TMP}/2003").exists, "the end of carol's /tmp", seconds=10)
    client("carol", "start")
    assert client("carol", "run", ALLOCATE.format(megabytes=500)) == f"allocated {500 * 2**20}\n"
    client("carol", "stop")


# Restarts


@pytest.mark.chaos
def test_hub_restart_lets_a_running_cell_finish(host: Host, alice: Client) -> None:
    """A cell that runs while the hub restarts writes its result; the server answers afterwards as before."""
    host.run("rm -f /home/alice/started /home/alice/finished")
    started = [line for line in processes(host, "alice") if "singleuser" in line]
    code = "import time; open('started', 'w').close(); time.sleep(4); open('finished', 'w').close()"
    act = f"/opt/hub_client.py {HUB} alice alice-secret run {shlex.quote(code)}"
    host.check_output(f"systemd-run --quiet /opt/campushub/hub/bin/python {act}")
    wait_until(lambda: host.file("/home/alice/started").exists, "the start of the cell", seconds=20)
    host.check_output("systemctl restart jupyterhub")
    wait_until(lambda: host.file("/home/alice/finished").exists, "the cell's result", seconds=15)
    assert alice("alice", "run", "print('alive')") == "alive\n"
    assert [line for line in processes(host, "alice") if "singleuser" in line] == started


@pytest.mark.chaos
@pytest.mark.parametrize("signal", ["TERM", "KILL"])
@pytest.mark.usefixtures("alice")
def test_proxy_that_ends_comes_back_with_its_routes(host: Host, signal: str) -> None:
    """Within seconds alice's server is reached again, without anybody doing anything."""
    host.check_output(f"systemctl kill --signal={signal} jupyterhub-proxy")
    time.sleep(0.5)

    def reached() -> bool:
        answer = host.run(f"curl -s -o /dev/null -w '%{{http_code}}' {HUB}/user/alice/api").stdout
        return bool(answer == "200")

    wait_until(reached, "a route to alice's server", seconds=10)


@pytest.mark.chaos
def test_killed_hub_comes_back_and_knows_the_servers(host: Host, alice: Client) -> None:
    """A crash is no restart by the book."""
    started = [line for line in processes(host, "alice") if "singleuser" in line]
    host.check_output("systemctl kill --signal=KILL --kill-who=main jupyterhub")
    wait_until(lambda: host.run(f"curl -sf {HUB}/hub/api").rc == 0, "the hub", seconds=60)
    assert not host.file("/run/jupyterhub/failed").exists, "it restarts"
    assert alice("alice", "run", "print('alive')") == "alive\n"
    assert [line for line in processes(host, "alice") if "singleuser" in line] == started


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.one_host
def test_a_hub_that_starts_slowly_is_not_ended_for_it(host: Host) -> None:
    """Longer than the 60 s that were its limit, and than the 90 s that are the service manager's."""
    addition = "/etc/jupyterhub/config.d/99-slow.py"
    host.check_output(f"echo 'import time; time.sleep(95)' >{addition}")
    try:
        host.check_output("systemctl reset-failed jupyterhub; systemctl restart jupyterhub")
        shown = host.check_output("systemctl show --property=ActiveState,NRestarts jupyterhub").splitlines()
        assert sorted(shown) == ["ActiveState=active", "NRestarts=0"]
    finally:
        host.check_output(f"rm {addition}; systemctl restart jupyterhub")


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_hub_that_fails_at_its_start_is_told_at_once(host: Host) -> None:
    addition = "/etc/jupyterhub/config.d/99-fails.py"
    host.check_output(f"echo 'raise SystemExit(3)' >{addition}")
    try:
        begin = time.monotonic()
        assert host.run("systemctl restart jupyterhub").rc != 0
        assert time.monotonic() - begin < 30
        # By this nginx knows that the hub does not just restart.
        assert host.run("runuser -u nobody -- test -f /run/jupyterhub/failed").rc == 0
    finally:
        host.check_output(f"rm {addition}; systemctl reset-failed jupyterhub; systemctl restart jupyterhub")
    assert not host.file("/run/jupyterhub/failed").exists


# The neighbour


@pytest.mark.attack
def test_another_user_is_refused_at_the_server(host: Host, alice: Client) -> None:
    """Through the hub and at the port itself."""
    assert alice("carol", "get", "/user/alice/api/kernels").split()[0] in ("401", "403")
    ports = [
        line.split()[3].rpartition(":")[2]
        for line in host.check_output("ss -Hltnp").splitlines()
        if any(f"pid={pid}," in line for pid in host.check_output("pgrep -u alice -f singleuser").split())
    ]
    assert len(ports) == 1
    for path in ("api/kernels", "api/contents", "api/terminals"):
        _, code = as_user(
            host, "carol", f"curl -s -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{ports[0]}/user/alice/{path}"
        )
        assert code in ("401", "403")


@pytest.mark.attack
@pytest.mark.parametrize(
    "path",
    [
        "/etc/jupyterhub/secrets",
        "/etc/jupyterhub/secrets/proxy.env",
        "/etc/jupyterhub/settings.json",
        "/etc/jupyterhub/config.d",
        "/etc/jupyterhub/config.d/inventory/50-addition.py",
        "/var/lib/jupyterhub",
        "/var/lib/jupyterhub/jupyterhub.sqlite",
        "/home/alice",
        "/run/jupyterhub-users/2001",
        "/var/lib/campushub/tmp",
    ],
)
@pytest.mark.usefixtures("alice")
def test_another_user_cannot_read(host: Host, path: str) -> None:
    """What is alice's or the hub's is there, and closed."""
    assert host.file(path).exists
    status, _ = as_user(host, "carol", f"ls {path}/. || cat {path}")
    assert status != 0


@pytest.mark.attack
@pytest.mark.usefixtures("alice")
def test_another_user_sees_no_token(host: Host) -> None:
    """Neither in environments nor in command lines."""
    pid = host.check_output("pgrep -u alice -f singleuser | head -1")
    token = host.check_output(f"tr '\\0' '\\n' < /proc/{pid}/environ | sed -n 's/^JUPYTERHUB_API_TOKEN=//p'")
    assert token
    status, _ = as_user(host, "carol", f"cat /proc/{pid}/environ")
    assert status != 0
    _, lines = as_user(host, "carol", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "singleuser" in lines
    assert token not in lines
    for name in ("proxy.env", "hub.env"):
        for line in host.file(f"/etc/jupyterhub/secrets/{name}").content_string.splitlines():
            assert line.partition("=")[2] not in lines


@pytest.mark.attack
def test_the_proxys_own_interface_wants_its_token(host: Host) -> None:
    """Who could add routes could read everybody's traffic."""
    _, code = as_user(host, "carol", "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:981/api/routes")
    assert code == "403"


@pytest.mark.attack
def test_nobody_can_listen_in_the_place_of_hub_or_proxy(host: Host) -> None:
    """While the hub is down its port is nobody else's: who took it would be sent passwords."""
    host.check_output("systemctl stop jupyterhub")
    try:
        listen = "/usr/bin/python3 -c 'import socket; socket.create_server((\"127.0.0.1\", 982))'"
        status, answer = as_user(host, "carol", listen)
        assert status != 0
        assert "PermissionError" in answer
    finally:
        host.check_output("systemctl start jupyterhub")


@pytest.mark.attack
@pytest.mark.one_host
def test_an_ordinary_user_cannot_administrate(client: Client) -> None:
    """Alice is an administrator, carol is not."""
    assert client("carol", "get", "/hub/admin").startswith("403")
    assert client("alice", "get", "/hub/admin").startswith("200")


# What the host runs


@pytest.mark.attack
def test_units_are_valid_and_shut_in(host: Host) -> None:
    """As systemd itself sees them."""
    assert (
        host.check_output(
            "systemd-analyze verify jupyterhub.service jupyterhub-proxy.service 2>&1 | grep jupyterhub || true"
        )
        == ""
    )
    proxy = host.check_output(
        "systemctl show jupyterhub-proxy --property=User,NoNewPrivileges,ProtectSystem,CapabilityBoundingSet"
    )
    assert set(proxy.splitlines()) >= {
        "User=jupyterhub-proxy",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "CapabilityBoundingSet=cap_net_bind_service",
    }


@pytest.mark.attack
def test_hub_user_can_do_one_thing_only(host: Host) -> None:
    """SudoSpawner's rule: the mediator, for those who may log in, and the end of servers."""
    if spawner(host) != "sudo":
        assert not host.file("/etc/sudoers.d/jupyterhub").exists
        return
    assert host.check_output("systemctl show --value --property=User jupyterhub") == "jupyterhub"
    # Who breaks into the proxy, which the whole world talks to, has not got the hub's rights.
    assert host.check_output("systemctl show --value --property=User jupyterhub-proxy") == "jupyterhub-proxy"
    mediator = "/opt/campushub/hub/bin/campushub-mediator"
    stop = "/opt/campushub/hub/bin/campushub-stop"
    place = '"home": "/home/alice", "mount_point": "", "timeout": 5, "scratch": "", "env": {}'
    request = f"echo '{{{place}}}' | "
    status, answer = as_user(host, "jupyterhub", f"{request} sudo -n -u alice {mediator} probe")
    assert status == 0
    assert '"home": "ok"' in answer
    for command in (
        f"sudo -n -u root {mediator} probe",
        f"sudo -n -u dave {mediator} probe",
        f"sudo -n -u alice {mediator}",
        f"sudo -n -u alice {mediator} probe probe",
        f"sudo -n -u alice {mediator} stop",
        f"sudo -n -u alice {stop} jupyterhub-user-2001-1.service",
        f"sudo -n {stop}",
        f"sudo -n {stop} jupyterhub.service",
        f"sudo -n {stop} 'jupyterhub-user-2001-*.service'",
        f"sudo -n {stop} jupyterhub-user-2001-1.service jupyterhub.service",
        "sudo -n -u alice id",
        "sudo -n id",
    ):
        status, answer = as_user(host, "jupyterhub", request + command)
        assert status != 0, command
        assert '"home"' not in answer, command
    assert host.service("jupyterhub").is_running
    # What is not there has ended.
    assert as_user(host, "jupyterhub", f"sudo -n {stop} jupyterhub-user-2001-1.service")[0] == 0
    for other in ("jupyterhub-proxy", "www-data"):
        for command in (f"sudo -n -u alice {mediator} probe", f"sudo -n {stop} jupyterhub-user-2001-1.service"):
            assert as_user(host, other, request + command)[0] != 0, other


CAROLS = "systemctl list-units --no-legend 'jupyterhub-user-carol*' 'jupyterhub-user-2003-*'"

# Programs of a user that are in the way of a mediator, as soon as there is one.
IN_THE_WAY = """
import os, signal, sys, time
number, end = getattr(signal, sys.argv[1]), time.monotonic() + 120
while time.monotonic() < end:
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = open(f"/proc/{name}/cmdline").read().split("\\0")
            if os.stat(f"/proc/{name}").st_uid == os.getuid() and any(w.endswith("campushub-mediator") for w in words):
                os.kill(int(name), number)
        except OSError:
            pass
"""


@pytest.mark.attack
@pytest.mark.parametrize("signal", ["SIGKILL", "SIGSTOP"])
def test_nobody_is_in_the_way_of_the_end_of_a_server(host: Host, client: Client, signal: str) -> None:
    """Whatever carol does to programs of the hub that run as her, and in how many servers."""
    client("carol", "start")
    client("carol", "start", "second")
    words = shlex.join(["/usr/bin/python3", "-c", IN_THE_WAY, signal])
    host.check_output(f"systemd-run --quiet --unit=in-the-way --uid=carol {words}")
    try:
        client("carol", "stop")
        client("carol", "stop", "second")
        assert host.check_output(CAROLS) == ""
    finally:
        host.run("systemctl stop in-the-way; pkill -KILL -u carol")


@pytest.mark.attack
def test_who_may_not_log_in_any_more_has_no_server(host: Host, client: Client) -> None:
    """Carol leaves the group, and then the host; what she had running is ended by who revokes her."""
    for leave, back in (
        ("gpasswd --delete carol jupyter-users", "gpasswd --add carol jupyter-users"),
        # Of an account that somebody's programs still run as, userdel wants to know more.
        (
            "cp -a /etc/passwd /etc/shadow /etc/group /run && sed -i /^carol:/d /etc/passwd /etc/shadow",
            "cp -a /run/passwd /run/shadow /run/group /etc",
        ),
    ):
        client("carol", "start")
        client("carol", "start", "second")
        assert len(host.check_output(CAROLS).splitlines()) == 2
        host.check_output(leave)
        try:
            assert host.check_output("campushub-revoke carol") == "carol: out"
            assert host.check_output(CAROLS) == ""
        finally:
            host.check_output(back)


@pytest.mark.attack
def test_a_mediator_that_its_user_stops_is_ended(host: Host) -> None:
    """By the service manager: sudo would wait for it, and the hub cannot end what is root's."""
    if spawner(host) != "sudo":
        pytest.skip("a hub that is root has the service manager run it")
    mediator = "/opt/campushub/hub/bin/campushub-mediator"
    ask = shlex.quote(f"sleep 300 | sudo -n -u carol {mediator} probe")
    host.check_output(f"systemd-run --quiet --unit=asks --uid=jupyterhub sh -c {ask}")
    try:
        wait_until(lambda: host.run(f"pkill -STOP -u carol -f {mediator}").rc == 0, "a mediator")
        wait_until(lambda: host.run(f"pgrep -f '^sudo -n -u carol {mediator}'").rc != 0, "its end", seconds=90)
        assert host.run(f"pgrep -u carol -f {mediator}").rc != 0
    finally:
        host.run("systemctl stop asks")


@pytest.mark.attack
def test_one_user_cannot_fill_the_memory_of_the_host(host: Host, client: Client) -> None:
    """By SSH, so within no limits: not /run, where the service manager writes. All goes with her last server."""
    client("carol", "start")
    place = "/run/jupyterhub-users/2003"
    assert host.check_output("findmnt --noheadings --output TARGET --target " + place) == "/run/jupyterhub-users"
    fill = (
        "import os, sys\nlong, n = 'x' * 230, 0\ntry:\n    while n < 250000:\n"
        f"        os.close(os.open(f'{place}/{{long}}{{n}}', os.O_CREAT | os.O_WRONLY)); n += 1\n"
        "except OSError as error:\n    print(error.strerror)\n"
    )
    before = host.check_output("df --output=iused /run").split()[1]
    status, said = as_user(host, "carol", f"/usr/bin/python3 -c {shlex.quote(fill)}")
    assert (status, said.strip()) in {(0, "No space left on device"), (0, "Disk quota exceeded")}
    assert int(host.check_output("df --output=iused /run").split()[1]) - int(before) < 100
    host.check_output("systemd-run --quiet --wait true")
    client("carol", "stop")
    wait_until(lambda: not host.check_output(f"ls -A {place}"), "an empty runtime directory", seconds=300)


def test_each_user_has_a_part_of_the_memory_where_linux_can(host: Host, client: Client) -> None:
    if "usrquota" not in host.check_output("findmnt --noheadings --output OPTIONS /run/jupyterhub-users"):
        pytest.skip("this kernel has no quotas in memory (Linux 6.6 with CONFIG_TMPFS_QUOTA, not in a user namespace)")
    client("carol", "start")
    assert (
        "Disk quota exceeded"
        in as_user(host, "carol", "dd if=/dev/zero of=/run/jupyterhub-users/2003/big bs=1M count=100")[1]
    )
    client("carol", "stop")


@pytest.mark.attack
@pytest.mark.parametrize("name", ["mediator", "stop", "user-session", "revoke", "restore-routes", "backup-database"])
def test_programs_import_nothing_of_users(host: Host, name: str) -> None:
    """Neither the environment, nor the current directory, nor a user's own packages have a say in them."""
    program = f"/opt/campushub/hub/bin/campushub-{name}"
    # With S it does without the packages of the system's Python, too.
    assert host.check_output(f"head -1 {program}") in {"#!/usr/bin/python3 -I", "#!/usr/bin/python3 -IS"}
    owned = host.check_output(f"stat -c '%U %a' {program} $(readlink -f /opt/campushub/hub)")
    assert owned.splitlines() == ["root 755"] * 2
    trap = "import pathlib, os; pathlib.Path(f'/home/carol/trapped-{os.getpid()}').touch()"
    modules = "for name in json os pwd re subprocess sys"
    write = f"mkdir -p ~/trap && {modules}; do echo {shlex.quote(trap)} >~/trap/$name.py; done"
    as_user(host, "carol", f"{write}; cd ~/trap; PYTHONPATH=$PWD PYTHONSTARTUP=$PWD/os.py {program} none </dev/null")
    assert host.check_output("ls /home/carol/trap/json.py")
    assert host.run("ls /home/carol/trapped-*").rc != 0


@pytest.mark.one_host
def test_settings_are_traits_that_jupyterhub_explains(host: Host) -> None:
    shown = host.check_output("cd / && /opt/campushub/hub/bin/jupyterhub --help-all")
    for trait in (
        *("CampusSpawner.create_homes", "CampusSpawner.user_memory_limit", "CampusSudoSpawner.stop_patience"),
        *("CampusAuthenticator.login_attempts", "CampusLDAPAuthenticator.uris", "CampusOIDCAuthenticator.issuer"),
    ):
        assert f"--{trait}=" in shown, trait
    assert "CPU cores of one user over all their servers. 0 is unlimited." in shown


@pytest.mark.one_host
def test_a_setting_is_a_line_in_config_d(host: Host, client: Client) -> None:
    addition = "/etc/jupyterhub/config.d/70-limits.py"
    client("bob", "stop")
    host.check_output(f"echo 'c.CampusSpawner.user_tasks_limit = 150' >{addition} && systemctl restart jupyterhub")
    try:
        client("bob", "start")
        if spawner(host) == "systemd":
            assert slice_property(host, "bob", "TasksMax") == "150"
        else:
            # Root prepares the session there, and does not take the hub's word.
            assert slice_property(host, "bob", "TasksMax") == "200"
            said = host.check_output("journalctl -u jupyterhub -n 200 --no-pager")
            assert "CampusSpawner.user_tasks_limit has no effect outside settings.json with CampusSudoSpawner" in said
    finally:
        client("bob", "stop")
        host.check_output(f"rm {addition} && systemctl restart jupyterhub")


@pytest.mark.chaos
@pytest.mark.one_host
def test_settings_that_no_class_has_are_refused_by_name(host: Host) -> None:
    change = 's/"create_homes"/"creat_homes"/'
    host.check_output(f"sed '{change}' /etc/jupyterhub/settings.json >/run/settings.json")
    checked = host.run("/opt/campushub/hub/bin/python -I -m campushub_hub.configuration /run/settings.json")
    assert checked.rc == 1
    assert checked.stderr.strip() == "CampusSpawner.creat_homes is no setting. Did you mean create_homes?"


@pytest.mark.chaos
def test_a_user_without_a_process_left_can_still_be_stopped(host: Host, client: Client) -> None:
    """All of carol's tasks are taken; stop and start help, as she would try."""
    client("carol", "start")
    fill = "while True:\n        subprocess.Popen(['sleep', '300'])"
    bomb = f"import subprocess\ntry:\n    {fill}\nexcept OSError:\n    print('full')"
    assert client("carol", "run", bomb) == "full\n"
    client("carol", "stop")
    wait_until(lambda: not processes(host, "carol"), f"no process of carol's: {processes(host, 'carol')}", seconds=15)
    client("carol", "start")
    client("carol", "stop")


@pytest.fixture
def small_disk(host: Host) -> Iterator[str]:
    """The directory of the hub's state, on a file system that users' temporary files are on, too."""
    state = "/var/lib/jupyterhub"
    mount = f"mount -t tmpfs -o size=200m,mode=0700,uid=$(stat -c %u {state}),gid=$(stat -c %g {state}) state"
    host.check_output(f"systemctl stop jupyterhub && mkdir -p /run/state && {mount} /run/state")
    host.check_output(f"cp -a {state}/. /run/state/ && rm -f /run/state/.campushub-reserve")
    host.check_output(f"mount --bind /run/state {state} && systemctl start jupyterhub")
    host.check_output(f"mkdir -p -m 700 /run/state/users {TMP} && mount --bind /run/state/users {TMP}")
    yield state
    host.check_output(f"systemctl stop jupyterhub; umount {state} {TMP} /run/state && systemctl start jupyterhub")


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_hub_whose_disk_a_user_fills_starts_again(host: Host, client: Client, small_disk: str) -> None:
    """The user fills /tmp, which is on the disk that the hub has its database on."""
    client("bob", "stop")
    client("bob", "start")
    assert host.file(f"{small_disk}/.campushub-reserve").size == 64 * 2**20
    fill = "dd if=/dev/zero bs=64k oflag=append conv=notrunc of=/tmp/fill"
    assert "No space left" in client("bob", "shell", f"{fill} 2>&1")
    host.check_output("systemctl restart jupyterhub")
    assert host.run(f"curl -sf {HUB}/hub/login").rc == 0
    assert not host.file(f"{small_disk}/.campushub-reserve").exists
    client("bob", "shell", fill)
    assert host.run("systemctl restart jupyterhub").rc != 0
    journal = host.check_output("journalctl -u jupyterhub -n 50 --no-pager")
    assert "No room on the disk of /var/lib/jupyterhub" in journal
    # When bob's server ends, so does his /tmp.
    host.check_output("pkill -KILL -u bob -f singleuser")
    wait_until(lambda: host.run(f"curl -sf {HUB}/hub/login").rc == 0, "the hub starts by itself")


@pytest.mark.attack
@pytest.mark.usefixtures("alice")
def test_hub_proxy_and_servers_reach_little_of_the_host(host: Host) -> None:
    assert exposure(host, "jupyterhub-proxy.service") <= 3.0
    assert exposure(host, f"jupyterhub-tmp@{UIDS['alice']}.service") <= 3.0
    assert exposure(host, "jupyterhub-runtime.service") <= 5.0
    if spawner(host) == "systemd":
        assert exposure(host, "jupyterhub.service") <= 3.0
        assert exposure(host, "jupyterhub-user-alice.service") <= 6.0


def test_confinement_takes_nothing_from_a_user(host: Host, alice: Client) -> None:
    """What alice may do in a session of her own without more rights, she may do in her server."""
    attempts = [
        *("unshare --user --map-root-user true", "unshare --user --map-root-user --mount mount -t tmpfs none /mnt"),
        *("ping -c 1 127.0.0.1", "setarch -R true", "mkdir -p ~/shared && chmod g+s ~/shared && test -g ~/shared"),
        *("ip address", "chrt --other 0 true", "nice true", "ulimit -n 512", "dd if=/dev/zero of=/dev/null count=1"),
        "/usr/bin/python3 -c 'import multiprocessing; multiprocessing.Pool(2).map(abs, [1])'",
        """/usr/bin/python3 -c 'import ctypes; ctypes.CFUNCTYPE(None)(print)()'""",
        """/usr/bin/python3 -c 'import mmap; mmap.mmap(-1, 4096, prot=7)'""",
    ]
    outside = [
        host.run(f"sudo -u alice -i setpriv --no-new-privs sh -c {shlex.quote(attempt)}").rc for attempt in attempts
    ]
    ended = "subprocess.run(attempt, shell=True, capture_output=True).returncode"
    code = f"import subprocess; print([{ended} for attempt in {attempts!r}])"
    inside = json.loads(alice("alice", "run", code))
    assert dict(zip(attempts, inside, strict=True)) == dict(zip(attempts, outside, strict=True))


@pytest.mark.chaos
def test_a_closed_terminal_is_off_the_list(host: Host, alice: Client) -> None:
    """Also one that a program with a session of its own still holds."""
    alice("alice", "shell", "setsid -f sleep 300")
    done = as_person(host, "alice", 'hub.shell("true"); print(hub.api("/user/alice/api/terminals"))')
    assert done.stdout == "[]\n", done.stderr
    host.run("pkill -u alice -x sleep")


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_server_that_does_not_answer_is_told_and_stopped(host: Host, client: Client) -> None:
    """Within a minute, on its user's home page and in the journal."""
    client("carol", "start")
    host.check_output("pkill -STOP -u carol -f singleuser")
    told = "Your server runs, but it does not answer."
    wait_until(lambda: told in as_person(host, "carol", 'print(hub.request("/hub/home")[2])').stdout, told, seconds=60)
    assert "The server carol runs, but does not answer" in host.check_output("journalctl -u jupyterhub --since -2min")
    client("carol", "stop")
    wait_until(lambda: not processes(host, "carol"), "the end of carol's server", seconds=20)


@pytest.mark.attack
@pytest.mark.usefixtures("alice")
def test_no_mediator_stays(host: Host) -> None:
    """With a server running, there is the server and nothing between it and the hub."""
    assert any("singleuser" in line for line in processes(host, "alice"))
    everything = host.check_output("ps -eo args=")
    assert "mediator" not in everything
    assert "sudo -u" not in everything


@pytest.mark.attack
def test_users_cannot_gain_rights(alice: Client) -> None:
    """jupyterhub_allow_sudo is off: setuid programs have no effect in servers."""
    assert "NoNewPrivs:\t1" in alice("alice", "shell", "grep NoNewPrivs /proc/self/status")


# The server says that it ends, is given more time, and ends after that.
PROLONGED = """
import time
def wait_for(reached):
    end = time.monotonic() + 120
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.5)
# Its age begins later, when it is up.
begin = time.monotonic()
hub.start()
path = hub.server_path() + "api/session/end"
wait_for(lambda: hub.api(path)["reason"])
before = hub.api(path)
after = hub.api(path, "POST", {})
wait_for(lambda: not hub.api("/hub/api/users/bob")["servers"])
print(before["reason"], before["stays"], after["reason"], time.monotonic() - begin >= 30)
"""


@pytest.mark.one_host
def test_a_server_ends_in_time_and_may_be_prolonged(host: Host, client: Client) -> None:
    addition = "/etc/jupyterhub/config.d/70-ends.py"
    client("bob", "stop")
    lines = "c.CampusSpawner.max_age = 20\nc.CampusSpawner.extension_limit = 10\n"
    host.check_output(f"printf '{lines}' >{addition} && systemctl restart jupyterhub")
    try:
        done = as_person(host, "bob", PROLONGED)
        assert done.stdout == "max_age True None True\n", done.stderr
        journal = host.check_output("journalctl -u jupyterhub -n 200 --no-pager")
        assert "runs 10 s longer, as its user wishes" in journal
        assert "ends: max_age" in journal
    finally:
        client("bob", "stop")
        host.check_output(f"rm {addition} && systemctl restart jupyterhub")


# The administrator changes something


def main_pids(host: Host) -> tuple[str, str]:
    """Process numbers of hub and proxy."""
    hub, proxy = (
        host.check_output(f"systemctl show --value --property=MainPID {unit}")
        for unit in ("jupyterhub", "jupyterhub-proxy")
    )
    return hub, proxy


@pytest.mark.one_host
def test_a_changed_setting_restarts_the_hub_alone(host: Host, alice: Client, apply_role: ApplyRole) -> None:
    """The page changes, an addition that is no longer listed goes; proxy and alice's server go on as they were."""
    hub, proxy = main_pids(host)
    server = [line for line in processes(host, "alice") if "singleuser" in line]
    assert apply_role(jupyterhub_site_name="Renamed", jupyterhub_config_files=[]).returncode == 0
    page = host.check_output(f"curl -s {HUB}/hub/login")
    assert "Renamed" in page
    assert "Maintenance on Friday" in page
    assert "from nine" not in page
    assert main_pids(host)[0] != hub
    assert main_pids(host)[1] == proxy
    assert [line for line in processes(host, "alice") if "singleuser" in line] == server
    assert alice("alice", "run", "print('alive')") == "alive\n"


@pytest.mark.chaos
@pytest.mark.one_host
def test_an_addition_that_is_no_python_never_reaches_the_hub(host: Host, apply_role: ApplyRole, tmp_path: Path) -> None:
    """The run fails with the reason; the hub that runs is left as it is."""
    bad = tmp_path / "60-bad.py"
    bad.write_text("c.JupyterHub.port = (\n")
    hub = main_pids(host)
    done = apply_role(jupyterhub_config_files=[str(bad)])
    assert done.returncode != 0
    assert "60-bad.py" in done.stdout
    assert "SyntaxError" in done.stdout
    assert main_pids(host) == hub
    assert not host.file("/etc/jupyterhub/config.d/inventory/60-bad.py").exists


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_run_that_was_cut_off_is_finished_by_the_next(host: Host, apply_role: ApplyRole) -> None:
    """Files were written and no handler has run: the next run sees that the hub is older than its files."""
    hub, proxy = main_pids(host)
    host.check_output("touch /etc/jupyterhub/settings.json")
    assert apply_role().returncode == 0
    assert main_pids(host)[0] != hub
    assert main_pids(host)[1] == proxy


@pytest.mark.chaos
@pytest.mark.one_host
def test_a_database_that_knows_no_server_is_refused(host: Host, alice: Client, apply_role: ApplyRole) -> None:
    """The servers that would be lost are named; another URL of the same database is accepted, and its end noticed."""
    hub = main_pids(host)
    done = apply_role(jupyterhub_database_url="sqlite:////var/lib/jupyterhub/other.sqlite")
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    assert "jupyterhub_database_url is another database than the one that the hub uses" in said
    assert re.search(r"in which these servers are: (.*, )?jupyterhub-user-(alice|2001-\d+)\.service", said)
    assert "-e jupyterhub_lose_servers=yes" in said
    assert main_pids(host) == hub
    assert not host.file("/etc/jupyterhub/database_url").exists
    done = apply_role(jupyterhub_database_url="sqlite:////var/lib/jupyterhub/jupyterhub.sqlite")
    assert done.returncode == 0, done.stdout[-3000:]
    named = main_pids(host)
    assert named[0] != hub[0]
    done = apply_role()
    assert done.returncode == 0, done.stdout[-3000:]
    assert not host.file("/etc/jupyterhub/database_url").exists
    assert main_pids(host)[0] != named[0], "the hub was restarted for a file that was taken away"
    assert alice("alice", "run", "print('alive')") == "alive\n"


@pytest.mark.attack
def test_a_token_in_an_addition_is_seen_by_no_user(
    host: Host, client: Client, apply_role: ApplyRole, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in the file, which a former release left open, nor in what a run prints; servers start all the same."""
    addition = tmp_path / "60-service.py"
    line = 'c.JupyterHub.services.append({"name": "metrics", "api_token": "t0ken-%d"})\n'
    addition.write_text(line % 4711)
    monkeypatch.setenv("ANSIBLE_DIFF_ALWAYS", "true")
    places = "/etc/jupyterhub/config.d /etc/jupyterhub/config.d/inventory"
    file = "/etc/jupyterhub/config.d/inventory/60-service.py"
    host.check_output(f"chown root:root {places}; chmod 0755 {places}; echo '# t0ken-4710' >{file}; chmod 0644 {file}")
    try:
        for check in (True, False):
            done = apply_role(check=check, jupyterhub_config_files=[str(addition)])
            assert done.returncode == 0, done.stdout[-3000:]
            assert "60-service.py" in done.stdout
            assert "t0ken" not in done.stdout + done.stderr
        assert "t0ken-4711" in host.check_output(f"cat {file}")
        for path in (*places.split(), file):
            assert as_user(host, "carol", f"ls {path}/. || cat {path}")[0] != 0
        headers = "-H 'Authorization: token t0ken-4711'"
        assert '"metrics"' in host.check_output(f"curl -s {headers} {HUB}/hub/api/user")
        client("bob", "stop")
        client("bob", "start")
        addition.write_text("x = (t0ken-4712")
        done = apply_role(jupyterhub_config_files=[str(addition)])
        assert done.returncode != 0
        assert "SyntaxError in line 1" in done.stdout
        assert "t0ken" not in done.stdout + done.stderr
    finally:
        client("bob", "stop")
        apply_role()


@pytest.mark.one_host
def test_the_jail_of_failed_logins_comes_and_goes(host: Host, apply_role: ApplyRole) -> None:
    """A jail of the site keeps its log file with it, and runs on without it."""
    site = "[site]\\nenabled = true\\nfilter = sshd\\nlogpath = /var/log/site.log\\n"
    host.check_output(f"mkdir -p /etc/fail2ban/jail.d && printf '{site}' >/etc/fail2ban/jail.d/site.conf")
    host.check_output("touch /var/log/site.log")
    try:
        done = apply_role(jupyterhub_fail2ban=True)
        assert done.returncode == 0, done.stdout[-3000:]
        assert "sshd" in host.check_output("fail2ban-client status")
        assert "campushub" in host.check_output("fail2ban-client status")
        assert "/var/log/site.log" in host.check_output("fail2ban-client get site logpath")
        host.check_output("fail2ban-client set campushub banip 192.0.2.77")
        assert "192.0.2.77" in host.check_output("fail2ban-client get campushub banip")
        done = apply_role()
        assert done.returncode == 0, done.stdout[-3000:]
        jails = host.check_output("fail2ban-client status")
        assert "campushub" not in jails
        assert "site" in jails
        assert not host.check_output("find /etc/fail2ban -name '*campushub*'")
        assert "changed=0" in apply_role().stdout
    finally:
        host.check_output("systemctl disable --now fail2ban; rm /etc/fail2ban/jail.d/site.conf")


def test_removal_takes_all_but_the_database_and_the_homes(host: Host, client: Client, apply_role: ApplyRole) -> None:
    """No unit, rule, service file or environment is left; installed again, the hub knows its users."""
    # What a restore has replaced has the secrets of then.
    host.check_output("cp -a /etc/jupyterhub /etc/jupyterhub.before-restore")
    done = apply_role(jupyterhub_state="absent")
    assert done.returncode == 0, done.stdout[-3000:]
    for path in ("jupyterhub", "jupyterhub.before-restore", "sudoers.d/jupyterhub", "pam.d/jupyterhub"):
        assert not host.file(f"/etc/{path}").exists, path
    assert not host.file("/opt/campushub/hub").exists
    assert "jupyterhub" not in host.check_output("systemctl list-units --all --state=failed --no-legend")
    assert host.run("systemctl cat jupyterhub.service jupyterhub-proxy.service").rc != 0
    assert not [line for line in processes(host, "alice") if "singleuser" in line]
    assert host.file("/var/lib/jupyterhub/jupyterhub.sqlite").exists
    assert host.file("/home/alice/finished").exists
    done = apply_role(jupyterhub_state="absent")
    assert "changed=0" in done.stdout
    assert apply_role().returncode == 0
    assert '"last_activity": "20' in client("alice", "get", "/hub/api/users/alice")
