"""Environments in versions: built by the real uv, from wheels made here, without a network."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.module_utils import result_cache

from plugins.action.python_environment import built
from plugins.modules.python_environment import BuildError, run

UV = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
pytestmark = pytest.mark.skipif(UV is None, reason="uv is not installed")


class Site:
    """A folder of wheels, and an environment made from them."""

    def __init__(self, directory: Path) -> None:
        self.wheels = directory / "wheels"
        self.wheels.mkdir()
        self.link = directory / "opt" / "user"
        self.wheel("alpha", "1.0")
        self.wheel("alpha", "2.0")
        self.wheel("beta", "1.0", requires=["alpha>=1"], script=True, data={"share/jupyter/x.json": "{}"})
        self.wheel("gamma", "1.0", requires=["alpha<2"])
        self.wheel("delta", "1.0", requires=["heavy"])
        self.wheel("heavy", "1.0")

    def wheel(
        self,
        name: str,
        version: str,
        requires: list[str] | None = None,
        data: dict[str, str] | None = None,
        *,
        modules: tuple[str, ...] = (),
        script: bool = False,
    ) -> None:
        """Make a package of one module, or of those given."""
        info = f"{name}-{version}.dist-info"
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        files = {
            **dict.fromkeys(
                modules or (f"{name}.py",), f"VERSION = {version!r}\ndef main():\n    print('{name}', VERSION)\n"
            ),
            f"{info}/METADATA": metadata + "".join(f"Requires-Dist: {line}\n" for line in requires or []),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            **{f"{name}-{version}.data/data/{path}": text for path, text in (data or {}).items()},
        }
        if script:
            files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {name}:main\n"
        record = ""
        for path, text in files.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(text.encode())}\n"
        with zipfile.ZipFile(self.wheels / f"{name}-{version}-py3-none-any.whl", "w") as archive:
            for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
                archive.writestr(path, text)

    def lock(self, *pins: str) -> str:
        """Return locked requirements such as alpha==1.0."""
        lines = []
        for pin in pins:
            name, version = pin.split("==")
            content = (self.wheels / f"{name}-{version}-py3-none-any.whl").read_bytes()
            lines.append(f"{pin} --hash=sha256:{hashlib.sha256(content).hexdigest()}")
        return "\n".join(lines) + "\n"

    def encoded(self, name: str, version: str) -> dict[str, str]:
        """Return a wheel as the module is given packages of our own."""
        wheel = self.wheels / f"{name}-{version}-py3-none-any.whl"
        return {wheel.name: base64.b64encode(wheel.read_bytes()).decode()}

    def apply(self, requirements: str = "", *, check: bool = False, **settings: Any) -> dict[str, Any]:
        """Run the module."""
        defaults: dict[str, Any] = {
            "overrides": "",
            "extra_packages": [],
            "wheels": {},
            "completed_by": {},
            "python": sys.executable,
            "user_site": False,
            "programs": {},
            "isolated_programs": [],
            "files": {},
            "uv": UV,
            "keep": 1,
            "state": "present",
            "cache_key": None,
        }
        params = {**defaults, **settings, "path": str(self.link), "requirements": requirements}
        return run(SimpleNamespace(params=params, check_mode=check))

    def python(self, code: str, **environment: str) -> str:
        """Run code with the environment's interpreter."""
        command = [str(self.link / "bin/python"), "-c", code]
        return subprocess.check_output(command, text=True, env={"PATH": "/usr/bin:/bin", **environment}).strip()

    def names(self) -> set[str]:
        """Return what lies beside the link."""
        return {path.name for path in self.link.parent.iterdir() if path.suffix != ".lock"}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    made = Site(tmp_path)
    (tmp_path / "uv.toml").write_text(f"no-index = true\nfind-links = ['{made.wheels}']\n")
    monkeypatch.setenv("UV_CONFIG_FILE", str(tmp_path / "uv.toml"))
    old = os.umask(0o022)
    yield made
    os.umask(old)


def test_first_run_builds_and_second_changes_nothing(site: Site) -> None:
    lock = site.lock("alpha==1.0")
    first = site.apply(lock)
    assert (first["changed"], first["built"]) == (True, True)
    assert site.python("import alpha; print(alpha.VERSION)") == "1.0"
    second = site.apply(lock)
    assert (second["changed"], second["built"], second["removed"]) == (False, False, [])
    assert site.names() == {"user", f"user-{first['version']}"}


def test_everybody_can_read_and_nobody_else_can_write(site: Site) -> None:
    directory = Path(site.apply(site.lock("alpha==1.0"))["directory"])
    for path in directory.rglob("*"):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            assert mode & 0o444 == 0o444, path
            assert mode & 0o022 == 0, path
    assert list(directory.glob("lib/*/site-packages/__pycache__/alpha.*.pyc"))


def test_bytecode_is_there_for_all_but_tests(site: Site) -> None:
    site.wheel("epsilon", "1.0", modules=("epsilon/core.py", "epsilon/tests/test_core.py"))
    site.apply(site.lock("alpha==1.0", "epsilon==1.0"), extra_packages=["beta"])
    compiled = {path.name.partition(".")[0] for path in site.link.resolve().rglob("*.pyc")}
    assert {"alpha", "beta", "core"} <= compiled
    assert "test_core" not in compiled


def test_check_mode_tells_what_would_be_built_and_builds_nothing(site: Site) -> None:
    told = site.apply(site.lock("alpha==1.0"), check=True, uv="/nowhere/uv")
    assert (told["changed"], told["built"]) == (True, True)
    assert told["diff"]["before"] == "(none)\n"
    assert not site.link.parent.exists()
    fresh = site.apply(site.lock("alpha==1.0"), check=True, python="/nowhere/python3")
    assert fresh["changed"]
    site.apply(site.lock("alpha==1.0"))
    assert not site.apply(site.lock("alpha==1.0"), check=True)["changed"]


def test_way_back_is_a_switch(site: Site) -> None:
    old, new = site.lock("alpha==1.0"), site.lock("alpha==2.0")
    site.apply(old)
    site.apply(new)
    assert site.python("import alpha; print(alpha.VERSION)") == "2.0"
    back = site.apply(old, uv="/nowhere/uv")
    assert (back["changed"], back["built"]) == (True, False)
    assert site.python("import alpha; print(alpha.VERSION)") == "1.0"


def test_old_versions_go_unless_something_runs_from_them(site: Site) -> None:
    first = site.apply(site.lock("alpha==1.0"))
    process = subprocess.Popen([f"{first['directory']}/bin/python", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        second = site.apply(site.lock("alpha==2.0"), keep=0)
        assert second["removed"] == []
        assert Path(first["directory"]).is_dir()
    finally:
        process.communicate(b"\n")
    would = site.apply(site.lock("alpha==2.0"), keep=0, check=True)
    assert (would["changed"], would["removed"]) == (True, [first["directory"]])
    later = site.apply(site.lock("alpha==2.0"), keep=0)
    assert (later["changed"], later["removed"]) == (True, [first["directory"]])
    assert site.names() == {"user", f"user-{second['version']}"}


def test_an_environment_is_remembered_once_nothing_is_left_to_do(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(result_cache, "DIRECTORY", str(tmp_path / "store"))
    asked: dict[str, Any] = {"requirements": site.lock("alpha==1.0"), "keep": 0, "cache_key": "asked"}

    def remembered(**settings: Any) -> dict[str, Any] | None:
        site.apply(**{**asked, **settings})
        answer: dict[str, Any] | None = result_cache.valid_results().get("asked")
        return answer

    assert remembered() is None  # It has just been built.
    known = remembered(check=True)
    assert known
    assert known["directory"] == str(site.link.resolve())
    # The link, the marker of a whole version and the interpreter make the environment what it is.
    (site.link / "bin/python").rename(site.link / "bin/python.old")
    assert result_cache.valid_results() == {}
    (site.link / "bin/python.old").rename(site.link / "bin/python")
    assert remembered()
    process = subprocess.Popen([f"{known['directory']}/bin/python", "-c", "input()"], stdin=subprocess.PIPE)
    try:
        second = {"requirements": site.lock("alpha==2.0")}
        assert remembered(**second) is None
        # The old version goes when the program that runs from it has ended, which no file tells.
        assert remembered(**second) is None
    finally:
        process.communicate(b"\n")
    assert remembered(**second) is None
    assert remembered(**second)


def test_programs_of_a_removed_version_use_the_new_one(site: Site) -> None:
    first = site.apply(site.lock("alpha==1.0"), user_site=True)
    site.apply(site.lock("alpha==2.0"), user_site=True, keep=0)
    command = [f"{first['directory']}/bin/python", "-c", "import alpha; print(alpha.VERSION)"]
    assert subprocess.check_output(command, text=True) == "2.0\n"
    again = site.apply(site.lock("alpha==1.0"), user_site=True, keep=0)
    assert again["built"]
    assert site.python("import alpha; print(alpha.VERSION)") == "1.0"


def test_failed_build_leaves_the_old_version_in_use_and_says_why(site: Site) -> None:
    first = site.apply(site.lock("alpha==1.0"))
    wrong = f"alpha==2.0 --hash=sha256:{'0' * 64}\n"
    with pytest.raises(BuildError, match=r"uv pip install failed:\n(.*\n)*.*(?i:hash)"):
        site.apply(wrong)
    assert site.names() == {"user", f"user-{first['version']}"}
    assert site.python("import alpha; print(alpha.VERSION)") == "1.0"


def test_requirement_without_a_hash_is_refused(site: Site) -> None:
    with pytest.raises(BuildError, match=r"(?i)hash"):
        site.apply("alpha==1.0\n")


def test_build_that_was_cut_off_is_done_again(site: Site) -> None:
    lock = site.lock("alpha==1.0")
    version = site.apply(lock, check=True)["directory"]
    (Path(version) / "lib").mkdir(parents=True)
    (Path(version) / "lib/half").write_text("")
    assert site.apply(lock)["built"]
    assert not (Path(version) / "lib/half").exists()
    assert site.python("import alpha; print(alpha.VERSION)") == "1.0"


def test_missing_uv_and_python_are_named(site: Site) -> None:
    with pytest.raises(BuildError, match="/nowhere/uv is missing; role base installs it"):
        site.apply(site.lock("alpha==1.0"), uv="/nowhere/uv")
    with pytest.raises(BuildError, match="the interpreter /nowhere/python3 does not run"):
        site.apply(site.lock("alpha==1.0"), python="/nowhere/python3")


def test_directory_in_place_of_the_link_is_left_alone(site: Site) -> None:
    site.link.mkdir(parents=True)
    with pytest.raises(BuildError, match="is no symbolic link; move it away"):
        site.apply(site.lock("alpha==1.0"))


def test_site_packages_are_a_layer_that_is_found(site: Site) -> None:
    result = site.apply(site.lock("alpha==1.0"), extra_packages=["beta"])
    assert site.python("import alpha, beta; print(alpha.VERSION, beta.VERSION)") == "1.0 1.0"
    assert subprocess.check_output([str(site.link / "bin/beta")], text=True) == "beta 1.0\n"
    assert (site.link / "share/jupyter/x.json").read_text() == "{}"
    layer = Path(result["directory"]) / "layer"
    assert (layer / "beta.py").is_file()
    assert not (layer / "alpha.py").exists()
    assert list((layer / "__pycache__").glob("beta.*.pyc"))
    code = "from importlib.metadata import entry_points as e; print(*[p.name for p in e(group='console_scripts')])"
    assert "beta" in site.python(code).split()


def test_a_site_package_that_conflicts_with_the_lock_is_refused(site: Site) -> None:
    first = site.apply(site.lock("alpha==2.0"))
    with pytest.raises(BuildError) as failure:
        site.apply(site.lock("alpha==2.0"), extra_packages=["gamma"])
    message = str(failure.value)
    assert "the extra packages (gamma) do not go with the locked ones" in message
    assert "gamma" in message.split("failed:")[1]
    assert "alpha" in message.split("failed:")[1]
    assert site.names() == {"user", f"user-{first['version']}"}


def test_overrides_hold_for_requirements_of_site_packages_only(site: Site) -> None:
    overrides = "# too heavy\nheavy ; sys_platform == 'never'\n"
    site.apply(site.lock("alpha==1.0"), extra_packages=["delta"], overrides=overrides)
    probe = "import importlib.util as u; print(bool(u.find_spec('delta')), bool(u.find_spec('heavy')))"
    assert site.python(probe) == "True False"
    site.apply(site.lock("alpha==1.0"), extra_packages=["delta", "heavy"], overrides=overrides)
    assert site.python(probe) == "True True"


def test_packages_of_users_come_after_those_of_the_environment(site: Site, tmp_path: Path) -> None:
    programs = {"who": "import importlib.util as u, alpha\nprint(alpha.VERSION, bool(u.find_spec('mine')))\n"}
    site.apply(site.lock("alpha==1.0"), user_site=True, programs=programs)
    own = tmp_path / "own"
    folder = Path(site.python("import site; print(site.getusersitepackages())", PYTHONUSERBASE=str(own)))
    folder.mkdir(parents=True)
    (folder / "alpha.py").write_text("VERSION = 'mine'\n")
    (folder / "mine.py").write_text("VERSION = 'mine'\n")
    both = "import alpha, mine; print(alpha.VERSION, mine.VERSION)"
    assert site.python(both, PYTHONUSERBASE=str(own)) == "1.0 mine"
    outside = "import sys; print([p for p in sys.path if 'dist-packages' in p])"
    assert site.python(outside) == "[]"
    answer = subprocess.check_output([str(site.link / "bin/who")], env={"PYTHONUSERBASE": str(own)}, text=True)
    assert answer == "1.0 False\n"


def test_absent_removes_link_and_versions(site: Site) -> None:
    site.apply(site.lock("alpha==1.0"), user_site=True)
    site.apply(site.lock("alpha==2.0"), user_site=True, keep=0)
    neighbour = site.link.with_name("user-guide")
    neighbour.mkdir()
    assert site.apply(state="absent", check=True)["changed"]
    assert site.link.exists()
    assert site.apply(state="absent")["changed"]
    assert site.names() == {"user-guide"}
    assert not site.apply(state="absent")["changed"]


def test_a_wheel_of_our_own_is_installed_beside_the_lock(site: Site) -> None:
    site.apply(site.lock("alpha==1.0"))
    first = site.apply(site.lock("alpha==1.0"), wheels=site.encoded("beta", "1.0"))
    assert first["changed"]
    assert subprocess.check_output([site.link / "bin/beta"], text=True) == "beta 1.0\n"
    assert (site.link / "share/jupyter/x.json").read_text() == "{}"
    assert not site.apply(site.lock("alpha==1.0"), wheels=site.encoded("beta", "1.0"))["changed"]
    # The same name with something else in it is another version.
    site.wheel("beta", "1.0")
    assert site.apply(site.lock("alpha==1.0"), wheels=site.encoded("beta", "1.0"))["version"] != first["version"]


def test_an_interpreter_yet_to_come_is_no_error_in_check_mode(site: Site, tmp_path: Path) -> None:
    assert site.apply(site.lock("alpha==1.0"), python=str(tmp_path / "missing"), check=True)["changed"]


def test_a_program_completes_a_version_before_it_is_used(site: Site) -> None:
    program = f'#!/bin/sh\ncp "$(dirname "$0")/list" "$1/bin/list"\nreadlink {site.link} >"$1/before" || true\n'
    by = {"complete": program, "list": "1"}
    first = site.apply(site.lock("alpha==1.0"), completed_by=by)
    assert ((site.link / "bin/list").read_text(), (site.link / "before").read_text()) == ("1", "")
    assert not site.apply(site.lock("alpha==1.0"), completed_by=by)["changed"]
    # What it reads is part of the version, which is not the one in use while it is made.
    second = site.apply(site.lock("alpha==1.0"), completed_by={**by, "list": "2"})
    assert second["version"] != first["version"]
    assert (site.link / "bin/list").read_text() == "2"
    assert (site.link / "before").read_text() == f"user-{first['version']}\n"


def test_isolated_programs_look_for_no_package(site: Site) -> None:
    programs = {
        "plain": "import alpha, sys\nprint(sys.flags.isolated)\n",
        "isolated": "import sys\nprint(sys.flags.no_site)\n",
    }
    site.apply(site.lock("alpha==1.0"), programs=programs, isolated_programs=["isolated"])
    answers = [subprocess.check_output([str(site.link / "bin" / name)], text=True) for name in programs]
    assert answers == ["0\n", "1\n"]


def test_files_take_the_place_of_those_of_packages(site: Site) -> None:
    site.wheel("beta", "1.0", data={"share/kernel.json": "theirs"})
    before = site.apply(site.lock("beta==1.0"))
    after = site.apply(site.lock("beta==1.0"), files={"share/kernel.json": "ours", "share/new/x": ""})
    assert before["version"] != after["version"]
    assert (site.link / "share/kernel.json").read_text() == "ours"
    assert (site.link / "share/new/x").exists()
    assert (site.link.with_name(f"user-{before['version']}") / "share/kernel.json").read_text() == "theirs"


def test_programs_of_a_build_keep_temporary_files_to_themselves(site: Site) -> None:
    program = '#!/bin/sh\nstat -c "%n %a" "$TMPDIR" >"$1/where"\nprintenv NODE_DISABLE_COMPILE_CACHE >>"$1/where"\n'
    site.apply(site.lock("alpha==1.0"), completed_by={"complete": program})
    where, mode, no_cache = (site.link / "where").read_text().split()
    assert (Path(where).parent, mode, no_cache) == (site.link.parent, "700", "1")
    assert not Path(where).exists()


def test_a_failing_completion_leaves_the_old_version_in_use(site: Site) -> None:
    first = site.apply(site.lock("alpha==1.0"))
    program = "#!/bin/sh\necho no such registry >&2\nexit 1\n"
    with pytest.raises(BuildError, match="complete failed:\nno such registry"):
        site.apply(site.lock("alpha==1.0"), completed_by={"complete": program})
    assert site.names() == {"user", f"user-{first['version']}"}
    assert site.python("import alpha; print(alpha.VERSION)") == "1.0"


def make_project(project: Path) -> None:
    """Write the sources of a package."""
    for name, text in {
        "pyproject.toml": """
            [build-system]
            requires = ["hatchling"]
            build-backend = "hatchling.build"
            [project]
            name = "gamma"
            version = "1.0"
            """,
        "gamma/__init__.py": "",
        "tests/test_gamma.py": "",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(dedent(text))


def test_a_package_of_our_own_is_built_once_for_the_same_sources(tmp_path: Path) -> None:
    project = tmp_path / "gamma"
    make_project(project)
    first = built(project)
    assert zipfile.ZipFile(first).read("gamma/__init__.py") == b""
    (project / "tests/test_gamma.py").write_text("changed")
    when = first.stat().st_mtime_ns
    assert (built(project), first.stat().st_mtime_ns) == (first, when)
    (project / "gamma/__init__.py").write_text("changed = True")
    second = built(project)
    assert zipfile.ZipFile(second).read("gamma/__init__.py") == b"changed = True"
    assert not first.exists()
    (project / "pyproject.toml").write_text("")
    with pytest.raises(AnsibleActionFail, match="gamma cannot be built"):
        built(project)


@contextmanager
def another_user() -> Iterator[None]:
    """Root works as nobody meanwhile."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_checkout_of_another_user_has_its_packages() -> None:
    with TemporaryDirectory() as directory:
        project = Path(directory, "gamma")
        project.parent.chmod(0o755)
        make_project(project)
        wheel = built(project)
        for path in (*project.glob("dist/*"), project / "dist", project):
            path.chmod(path.stat().st_mode & 0o555)
        with another_user():
            assert built(project) == wheel
        (project / "gamma/__init__.py").write_text("changed = True")
        with (
            another_user(),
            pytest.raises(AnsibleActionFail, match=r"cannot make the package of .*/gamma in it .*\. Run"),
        ):
            built(project)
        project.chmod(0o755)
        (project / "dist").chmod(0o755)
