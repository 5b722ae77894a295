"""What one user does is nobody else's business and nobody else's burden."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import expect

from tests.hub_client import Hub, HubError
from tests.site.browser_user import outputs
from tests.site.centre import MEMORY_MB, Host
from tests.site.conftest import BrowserSession

# What bob tries in a cell: each file, and each address, with what came of it.
PROBE = """
import http.client, json
from urllib.parse import urlsplit
found = {{}}
for path in {paths!r}:
    try:
        open(path, "rb").read(1)
        found[path] = "read"
    except OSError as error:
        found[path] = type(error).__name__
for address in {addresses!r}:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    connection.request("GET", urlsplit(address).path)
    found[address] = connection.getresponse().status
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def alice(host: Host) -> Hub:
    """Alice with a server that runs and a file of her own."""
    hub = host.hub_with_server("alice")
    hub.run("open('diary.txt', 'w').write('private')")
    return hub


@pytest.fixture(scope="module")
def bob(host: Host) -> Hub:
    """Bob with a server that runs."""
    return host.hub_with_server("bob")


@pytest.mark.attack
def test_others_server_is_refused_in_the_browser(browse: BrowserSession, host: Host, alice: Hub) -> None:
    bob = browse("bob")
    bob.start_lab()
    answer = bob.page.goto(f"{host.origin('alice')}/user/alice/lab")
    assert answer
    assert answer.status == 403
    bob.picture("forbidden")
    for path in ("api/contents", "api/kernels", "files/diary.txt", "api/terminals"):
        answer = bob.page.goto(f"{host.origin('alice')}/user/alice/{path}")
        assert answer
        assert answer.status == 403, path
    assert alice.request("/user/alice/files/diary.txt")[2] == "private"


@pytest.mark.attack
def test_terminal_finds_nothing_of_others(host: Host, alice: Hub, bob: Hub) -> None:
    assert alice.shell("cat ~/diary.txt") == "private"
    assert "Permission denied" in bob.shell("LC_ALL=C cat ~alice/diary.txt")
    port = host.server_port("alice")
    status = bob.shell(
        f"curl --silent --output /dev/null --write-out '%{{http_code}}' http://127.0.0.1:{port}/user/alice/api/kernels"
    )
    assert status == "403"


@pytest.mark.attack
def test_code_of_a_user_reads_no_secrets_and_opens_no_doors(host: Host, alice: Hub, bob: Hub) -> None:
    server = host.server_pid("alice")
    uid = host.run("id --user alice").strip()
    hub_pid = host.main_pid("jupyterhub")
    files = host.run("find /etc/jupyterhub/secrets /var/lib/jupyterhub -type f").split()
    assert any("secrets/" in file for file in files)
    assert any(file.endswith(".sqlite") for file in files)
    runtime = host.run(f"find /run/jupyterhub-users/{uid} -type f").split()
    assert runtime, "alice's server has no file with its address"
    processes = [server, hub_pid, host.main_pid("jupyterhub-proxy")]
    paths = [*files, *runtime, *(f"/proc/{pid}/environ" for pid in processes), "/home/alice/diary.txt"]
    port = host.server_port("alice")
    refused = [
        f"http://127.0.0.1:{port}/user/alice/{path}" for path in ("api/contents", "api/kernels", "api/terminals")
    ]
    refused += ["http://127.0.0.1:981/api/routes", "http://127.0.0.1:982/hub/api/users"]
    sent_to_login = [f"http://127.0.0.1:{port}/user/alice/{path}" for path in ("files/diary.txt", "lab")]

    found = json.loads(bob.run(PROBE.format(paths=paths, addresses=refused + sent_to_login)))

    assert {path: found[path] for path in paths} == dict.fromkeys(paths, "PermissionError")
    assert {address: found[address] for address in refused} == dict.fromkeys(refused, 403)
    assert {address: found[address] for address in sent_to_login} == dict.fromkeys(sent_to_login, 302)
    assert alice.run(PROBE.format(paths=["diary.txt"], addresses=[])).strip() == '{"diary.txt": "read"}'


# A login past the reverse proxy, with another's address.
FORGE = """
import http.cookiejar, urllib.error, urllib.parse, urllib.request
jar = http.cookiejar.CookieJar()
opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
opener.addheaders = [("X-Forwarded-For", "203.0.113.9"), ("X-Campushub-Proxy-Secret", "{proof}")]
opener.open("{url}/hub/login").read()
token = next(cookie.value for cookie in jar if cookie.name == "_xsrf")
form = urllib.parse.urlencode(dict(username="alice", password="wrong", _xsrf=token))
try:
    opener.open("{url}/hub/login", form.encode())
except urllib.error.HTTPError as error:
    print(error.code)
"""


@pytest.mark.attack
def test_nobody_fails_to_log_in_in_the_name_of_another_address(host: Host, bob: Hub) -> None:
    begin = int(host.run("date +%s"))
    for url in ("http://127.0.0.1:980", "http://127.0.0.1:982"):
        assert bob.run(FORGE.format(url=url, proof="x" * 64)) == "403\n"
    with pytest.raises(HubError, match="Invalid username or password"):
        host.visit("alice").login("wrong")
    log = host.run(f"journalctl --unit=jupyterhub --since=@{begin} --output=cat")
    addresses = re.findall(r"Failed login of alice from (\S+)", log)
    assert addresses[:2] == ["127.0.0.1", "127.0.0.1"]
    # Through the reverse proxy it is the address of who asks.
    assert [address for address in addresses[2:] if address != "127.0.0.1"] == addresses[2:] != []


@pytest.mark.chaos
def test_kernel_beyond_the_memory_limit_ends_alone(browse: BrowserSession, host: Host, alice: Hub, bob: Hub) -> None:
    carol = browse("carol")
    carol.start_lab()
    carol.open_notebook()
    servers = {user: host.server_pid(user) for user in ("alice", "bob", "carol")}

    carol.execute(f"x = b'x' * ({MEMORY_MB} * 2**20)")
    dialog = carol.page.locator(".jp-Dialog")
    expect(dialog).to_contain_text("was ended because your memory was used up")
    expect(dialog).not_to_contain_text("appears to have died")
    carol.picture("out-of-memory")
    dialog.get_by_role("button", name="Ok").click()
    carol.wait_idle()
    # The kernel that took its place works, and nobody's server has noticed.
    expect(outputs(carol.execute("print('new kernel')"))).to_contain_text("new kernel")
    assert {user: host.server_pid(user) for user in servers} == servers
    assert alice.run("print('fine')").strip() == "fine"
    # Bob's group may have as much.
    assert bob.run(f"x = b'x' * ({MEMORY_MB} * 2**20); print(len(x) >> 20, 'MB')").strip() == f"{MEMORY_MB} MB"
    carol.save()
