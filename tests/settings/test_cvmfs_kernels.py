"""
Environments and kernels from CVMFS: messages about their settings, their files, and the programs that enter them.

A directory stands in for the repository: a tree like a view, a script that fails, and a pipe that nobody writes to,
which keeps whoever reads it waiting as a dead repository does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from tests.settings.answers import ROOT, messages, rendered

LCG = {
    "name": "lcg",
    "display_name": "LCG 107: «Python»",
    "environment": "lcg",
    "view": "LCG_107/x86_64-el9-gcc13-opt",
}
EESSI = {"name": "eessi", "display_name": "EESSI", "environment": "eessi", "version": "2023.06", "modules": ["R/4.3.2"]}
ALICE = {"name": "alice", "display_name": "ALICE", "environment": "alienv", "packages": ["VO_ALICE@O2::a-1", "ROOT/v6"]}
SCRIPT = {"name": "own", "display_name": "Own", "environment": "script", "script": "/opt/it's/$x/setup.sh"}


def one(base: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {"jupyter_cvmfs_kernels": [{**base, **others}]}


BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "name": (
        one(LCG, name="LCG 107"),
        [
            (
                'jupyter_cvmfs_kernels[0].name = "LCG 107" cannot be the name of a kernel. '
                "Use small letters, digits, dots, underscores and hyphens."
            )
        ],
    ),
    "twice": (
        {"jupyter_cvmfs_kernels": [LCG, {**EESSI, "name": "python3"}, {**ALICE, "name": "lcg"}]},
        [
            f'jupyter_cvmfs_kernels[{number}].name = "{name}" is taken already. '
            "Give each environment a name of its own; python3 is the one of the host."
            for number, name in ((1, "python3"), (2, "lcg"))
        ],
    ),
    "display-name": (
        one(LCG, display_name="two\nlines"),
        [
            (
                'jupyter_cvmfs_kernels[0].display_name = "two\\nlines" (lcg) is no name that people could read. '
                "Write one line of at most 80 characters."
            )
        ],
    ),
    "unknown": (
        one(LCG, environment="lgc"),
        [('jupyter_cvmfs_kernels[0].environment = "lgc" is none of lcg, eessi, alienv, script. Did you mean lcg?')],
    ),
    "view": (
        one(LCG, view="LCG_107"),
        [
            (
                'jupyter_cvmfs_kernels[0].view = "LCG_107" (lcg) is no view of LCG. Write release and platform, '
                "such as LCG_107/x86_64-el9-gcc13-opt; they are in /cvmfs/sft.cern.ch/lcg/views."
            )
        ],
    ),
    "version": (
        {"jupyter_cvmfs_kernels": [{key: value for key, value in EESSI.items() if key != "version"}]},
        [
            (
                'jupyter_cvmfs_kernels[0].version = "" (eessi) is no version of EESSI. '
                "Write it such as 2023.06; they are in /cvmfs/software.eessi.io/versions."
            )
        ],
    ),
    "modules": (
        one(EESSI, modules=["R/4.3.2; reboot"]),
        [
            (
                'jupyter_cvmfs_kernels[0].modules = ["R/4.3.2; reboot"] (eessi) has something that is no name of a '
                "module. Write them as module avail does, such as SciPy-bundle/2023.07-gfbf-2023a."
            )
        ],
    ),
    "packages": (
        one(ALICE, packages=[]),
        [
            (
                "jupyter_cvmfs_kernels[0].packages = [] (alice) names no packages of ALICE. "
                "Write them as alienv q does, such as VO_ALICE@O2Physics::daily-20250101-0000-1."
            )
        ],
    ),
    "script": (
        one(SCRIPT, script="setup.sh"),
        [
            (
                'jupyter_cvmfs_kernels[0].script = "setup.sh" (own) is no absolute path. '
                "Write the whole path of the script, such as /cvmfs/software.example.org/setup.sh."
            )
        ],
    ),
    "command": (
        one(LCG, command=["python3"]),
        [
            (
                'jupyter_cvmfs_kernels[0].command = ["python3"] (lcg) starts no kernel. Write program and arguments '
                "as a list with {connection_file} among them, such as "
                "[python3, -m, ipykernel_launcher, -f, '{connection_file}']."
            )
        ],
    ),
    "logo": (
        one(LCG, logo="/nonexistent/logo.svg"),
        [
            (
                'jupyter_cvmfs_kernels[0].logo = "/nonexistent/logo.svg" (lcg) is no SVG picture on the controller. '
                "Give its absolute path, such as {{ inventory_dir }}/logo.svg, or nothing."
            )
        ],
    ),
    "repository": (
        {**one(LCG), "jupyter_cvmfs_repositories": ["software.eessi.io"]},
        [
            (
                'jupyter_cvmfs_kernels[0] = "sft.cern.ch" (lcg) is in a repository that the host does not mount. '
                "Add it to cvmfs_repositories."
            )
        ],
    ),
    "timeout": (
        {"jupyter_cvmfs_timeout": 0},
        [
            (
                "jupyter_cvmfs_timeout = 0 is no sensible time to wait. Give 5 to 300 seconds. "
                "With more than 28 people wait longer than half a minute for the message that something is down."
            )
        ],
    ),
    "warm-up": (
        {"jupyter_cvmfs_warm_up": "hourly\nUser=root"},
        [
            (
                'jupyter_cvmfs_warm_up = "hourly\\nUser=root" is no time of systemd. '
                "Write it as systemd-analyze calendar takes it, such as '*:0/30', or leave it empty."
            )
        ],
    ),
}
EVERYTHING: dict[str, Any] = {
    "jupyter_cvmfs_kernels": [
        {**LCG, "warm_up": ["python3", "-c", 'print("100%", $HOME)']},
        EESSI,
        ALICE,
        SCRIPT,
        {
            "name": "root",
            "display_name": "ROOT C++",
            "language": "c++",
            "environment": "lcg",
            "view": "LCG_107/x86_64-el9-gcc13-opt",
            "command": ["python3", "-m", "JupyROOT.kernel.rootkernel", "-f", "{connection_file}"],
            "logo": str(ROOT / "roles/jupyter/files/kernels/lcg.svg"),
        },
    ],
    "jupyter_cvmfs_repositories": ["sft.cern.ch", "software.eessi.io", "alice.cern.ch"],
    "jupyter_cvmfs_timeout": 20,
    "jupyter_cvmfs_warm_up": "*:0/30",
}


@pytest.fixture(scope="module")
def found() -> dict[str, list[str]]:
    return messages("jupyter", {name: given for name, (given, _) in BAD.items()} | {"good": EVERYTHING})


@pytest.mark.parametrize("name", BAD)
def test_bad_settings_are_named_with_a_remedy(found: dict[str, list[str]], name: str) -> None:
    assert found[name] == BAD[name][1]


def test_good_settings_pass(found: dict[str, list[str]]) -> None:
    assert found["good"] == []


@pytest.fixture(scope="module")
def files() -> dict[str, dict[str, str]]:
    hosts = {"full": EVERYTHING, "none": {}}
    return rendered("jupyter", hosts, "__jupyter_kernel_files | rejectattr('link', 'defined') | list")


def test_a_host_without_environments_has_no_files(files: dict[str, dict[str, str]]) -> None:
    assert files["none"] == {}


def test_descriptions_of_kernels_name_one_program(files: dict[str, dict[str, str]]) -> None:
    for item in EVERYTHING["jupyter_cvmfs_kernels"]:
        directory = f"/usr/local/share/jupyter/kernels/{item['name']}"
        description = json.loads(files["full"][f"{directory}/kernel.json"])
        program = "/usr/local/lib/campushub/kernels/campushub-env"
        assert description["argv"] == [program, "--kernel", item["name"], "{connection_file}"]
        assert description["display_name"] == item["display_name"]
        assert description["language"] == item.get("language", "python")
        assert "cvmfs" not in json.dumps(description)
        assert ET.fromstring(files["full"][f"{directory}/logo-svg.svg"]).tag.endswith("svg")  # noqa: S314  # our own


def test_environments_are_entered_as_their_makers_say(files: dict[str, dict[str, str]]) -> None:
    found = json.loads(files["full"]["/etc/campushub/environments.json"])
    assert found["lcg"]["setup"] == ". /cvmfs/sft.cern.ch/lcg/views/LCG_107/x86_64-el9-gcc13-opt/setup.sh"
    assert found["lcg"]["repository"] == "sft.cern.ch"
    assert found["eessi"]["setup"].splitlines() == [
        "export EESSI_SILENT=1",
        ". /cvmfs/software.eessi.io/versions/2023.06/init/bash",
        "module load R/4.3.2 || exit 1",
    ]
    assert found["alice"]["setup"] == 'eval "$(/cvmfs/alice.cern.ch/bin/alienv printenv VO_ALICE@O2::a-1,ROOT/v6)"'
    assert found["own"]["setup"] == ". '/opt/it'\"'\"'s/$x/setup.sh'"
    assert found["own"]["repository"] == ""
    assert {entry["timeout"] for entry in found.values()} == {20}


def test_the_timer_runs_what_is_to_be_warm(files: dict[str, dict[str, str]]) -> None:
    service = files["full"]["/etc/systemd/system/campushub-warm-up.service"]
    starts = [line for line in service.splitlines() if line.startswith("ExecStart=")]
    assert starts == [
        ('ExecStart=-/usr/local/lib/campushub/kernels/campushub-env lcg "python3" "-c" "print(\\"100%%\\", $$HOME)"')
    ]
    assert "OnCalendar=*:0/30\n" in files["full"]["/etc/systemd/system/campushub-warm-up.timer"]


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    """A stand-in for a repository, and a host that has environments from it."""
    library = tmp_path / "library"
    library.mkdir()
    for source, name in (("campushub_env.py", "campushub-env"), ("message_kernel.py", "message_kernel.py")):
        (library / name).write_text((ROOT / "roles/jupyter/files" / source).read_text())
        (library / name).chmod(0o755)
    repository = tmp_path / "stand-in-repository"
    view = repository / "view"
    (view / "bin").mkdir(parents=True)
    (view / "setup.sh").write_text(
        f'echo "noise of the script"\nexport VIEW="{view}" GIVEN="$#" PYTHONPATH="{view}/lib"\n'
        f'PATH="{view}/bin:$PATH"\n'
        "greet() { echo hello; }\nexport -f greet\nfalse\n"
    )
    (repository / "ends.sh").write_text("exit 3\n")
    (repository / "hangs.sh").write_text("sleep 60\n")
    os.mkfifo(repository / "dead.sh")
    environments = {
        name: {
            "display_name": f"The {name} one",
            "repository": "software.example.org",
            "probe": str(repository / script),
            "setup": f". '{repository / script}'",
            "command": ["python3", "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "timeout": 2,
        }
        for name, script in (
            ("good", "view/setup.sh"),
            ("ends", "ends.sh"),
            ("hangs", "hangs.sh"),
            ("dead", "dead.sh"),
            ("missing", "missing.sh"),
        )
    }
    (tmp_path / "environments.json").write_text(json.dumps(environments))
    return tmp_path


def enter(stand_in: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CAMPUSHUB_ENVIRONMENTS": str(stand_in / "environments.json"), **variables}
    command = ["/usr/bin/python3", "-I", str(stand_in / "library/campushub-env"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=30)


def test_environments_are_listed_without_their_repository(stand_in: Path) -> None:
    (stand_in / "stand-in-repository").rename(stand_in / "gone")
    listed = enter(stand_in)
    assert listed.returncode == 0
    assert [line.split()[0] for line in listed.stdout.splitlines()] == ["good", "ends", "hangs", "dead", "missing"]
    assert "The good one" in listed.stdout


def test_an_environment_has_its_own_variables_alone(stand_in: Path) -> None:
    leaked = {"PYTHONPATH": "/leak", "PYTHONHOME": "/leak", "VIRTUAL_ENV": "/leak", "LD_LIBRARY_PATH": "/leak"}
    run = enter(
        stand_in, "good", "env", **leaked, PATH=f"/leak/bin:{os.environ['PATH']}", EOS_MGM_URL="root://eos.example.org"
    )
    assert run.returncode == 0, run.stderr
    assert "leak" not in run.stdout
    found = dict(line.split("=", 1) for line in run.stdout.splitlines() if re.match(r"[A-Za-z_]+=", line))
    view = f"{stand_in}/stand-in-repository/view"
    assert found["VIEW"] == view
    assert found["PATH"].startswith(f"{view}/bin:/usr/local/bin:")
    assert (found["GIVEN"], found["PYTHONPATH"], found["PYTHONNOUSERSITE"]) == ("0", f"{view}/lib", "1")
    assert found["EOS_MGM_URL"] == "root://eos.example.org"
    assert "noise" in run.stderr


def test_arguments_status_and_functions_arrive(stand_in: Path) -> None:
    run = enter(stand_in, "good", "bash", "-c", 'greet; printf "%s|" "$@"; exit 7', "x", "a b", "$c", "'")
    assert run.stdout == "hello\na b|$c|'|"
    assert run.returncode == 7


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dead", "the CVMFS repository software.example.org does not answer."),
        ("hangs", "the CVMFS repository software.example.org answers too slowly for its environment."),
        ("ends", "the CVMFS repository software.example.org has an environment that ends while it is set up."),
        ("missing", "the CVMFS repository software.example.org has no "),
    ],
)
def test_an_environment_that_cannot_be_entered_says_why_in_time(stand_in: Path, name: str, reason: str) -> None:
    begin = time.monotonic()
    run = enter(stand_in, name, "true")
    assert run.returncode == 1
    assert f"The {name} one ({name}) cannot start: {reason}" in run.stderr
    assert time.monotonic() - begin < 10


def test_wrong_names_and_programs(stand_in: Path) -> None:
    unknown = enter(stand_in, "nope")
    assert unknown.returncode == 2
    assert unknown.stderr == "campushub-env: there is no environment nope. campushub-env alone lists them.\n"
    lacking = enter(stand_in, "good", "no-such-program")
    assert (lacking.returncode, "no-such-program: No such file or directory" in lacking.stderr) == (127, True)
    nothing = enter(stand_in, CAMPUSHUB_ENVIRONMENTS="/nonexistent/environments.json")
    assert nothing.stderr == "This host has no environments.\n"


KERNEL = """
import json, sys, time
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
manager = KernelManager(kernel_name=sys.argv[2])
manager.kernel_spec_manager = KernelSpecManager(kernel_dirs=[sys.argv[1]])
begin = time.monotonic()
manager.start_kernel()
client = manager.client()
client.start_channels()
client.wait_for_ready(timeout=60)
said = []
client.execute_interactive(sys.argv[3], timeout=30, output_hook=lambda message: said.append(message["content"]))
manager.shutdown_kernel(now=True)
print(json.dumps({"said": said, "seconds": time.monotonic() - begin}))
"""


def cell(stand_in: Path, name: str, code: str) -> dict[str, Any]:
    """Run a cell in a kernel through Jupyter's own interface; return all that it said."""
    # The tests' own environment has the Jupyter that users get, and ipykernel with it.
    python = sys.executable
    (stand_in / "stand-in-repository/view/bin/python3").write_text(f'#!/bin/sh\nexec {python} "$@"\n')
    (stand_in / "stand-in-repository/view/bin/python3").chmod(0o755)
    kernels = stand_in / "kernels" / name
    kernels.mkdir(parents=True)
    argv = ["/usr/bin/python3", "-I", str(stand_in / "library/campushub-env"), "--kernel", name, "{connection_file}"]
    (kernels / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": name, "language": "python"}))
    run = subprocess.run(
        [python, "-c", KERNEL, stand_in / "kernels", name, code],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={
            **os.environ,
            "CAMPUSHUB_ENVIRONMENTS": str(stand_in / "environments.json"),
            "CAMPUSHUB_PYTHON": python,
            "JUPYTER_RUNTIME_DIR": str(stand_in / "runtime"),
            "PYTHONPATH": "/leak",
        },
    )
    assert run.returncode == 0, run.stderr
    answer: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return answer


def test_a_kernel_runs_in_its_environment(stand_in: Path) -> None:
    answer = cell(stand_in, "good", "import os; print(os.environ['VIEW'], os.environ['PYTHONPATH'])")
    view = f"{stand_in}/stand-in-repository/view"
    assert f"{view} {view}/lib\n" in [content.get("text") for content in answer["said"]]


def test_a_kernel_whose_repository_is_dead_says_so(stand_in: Path) -> None:
    answer = cell(stand_in, "dead", "print(1)")
    errors = [content for content in answer["said"] if "ename" in content]
    assert len(errors) == 1
    assert (
        errors[0]["evalue"]
        == "The dead one (dead) cannot start: the CVMFS repository software.example.org does not answer."
    )
    assert answer["seconds"] < 30
