"""The test runner on a small checkout: what it counts, says and cleans up."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

def test_good(): pass
def test_bad(): assert 1 == 2, "the sum is wrong"
@pytest.mark.skip(reason="needs the moon")
def test_far(): pass
@pytest.mark.skip(reason="needs the moon")
def test_further(): pass
"""


class Checkout:
    """A checkout with the runner, one file of unit tests, and programs that note that they were called."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "checkout"
        self.calls = directory / "calls"
        self.bin = directory / "bin"
        for path in ("tests/hosts", "tests/unit", "molecule/base"):
            (self.root / path).mkdir(parents=True)
        self.bin.mkdir()
        shutil.copy(ROOT / "tests" / "run", self.root / "tests" / "run")
        (self.root / "tests" / "unit" / "test_small.py").write_text(TESTS)
        (self.root / "molecule" / "base" / "molecule.yml").write_text("---\n")
        # The runner looks for tools beside its Python.
        (self.bin / "python").symlink_to(sys.executable)
        self.program(self.bin / "pytest", f'exec {sys.executable} -m pytest "$@"')
        self.program(self.bin / "molecule", "exit 0")
        self.program(self.root / "tests" / "hosts" / "testhost")

    def program(self, path: Path, script: str = "") -> None:
        """Make a program."""
        path.write_text(f'#!/bin/bash\necho "{path.name} $* run=$CAMPUSHUB_TEST_RUN" >>"{self.calls}"\n{script}\n')
        path.chmod(0o755)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the runner."""
        return subprocess.Popen(
            [str(self.bin / "python"), str(self.root / "tests" / "run"), *arguments],
            env={"PATH": "/usr/bin:/bin"},
            stdin=subprocess.DEVNULL,
            # As when a build machine starts it in the background.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # noqa: PLW1509 - no threads here
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the runner to its end."""
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=60)
        return process.returncode, output


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_counts_single_tests_and_says_why_some_were_skipped(checkout: Checkout) -> None:
    code, output = checkout.run("unit")
    assert code == 1, output
    assert output.splitlines()[-1] == "1 passed, 1 failed, 2 skipped"
    assert "unit: test_small::test_bad" in output
    assert "unit: 2 x needs the moon" in output
    assert "the sum is wrong" in output
    assert f"the whole log: {checkout.root}/.state/test/unit.log" in output


def test_scenario_counts_as_one_beside_its_tests(checkout: Checkout) -> None:
    checkout.program(
        checkout.bin / "molecule",
        f"{sys.executable} -m pytest tests/unit -k 'good or far'",
    )
    code, output = checkout.run("base")
    assert code == 0, output
    assert output.splitlines()[-1] == "2 passed, 0 failed, 1 skipped"


def test_scenario_that_fails_before_its_tests_is_one_failure(checkout: Checkout) -> None:
    checkout.program(checkout.bin / "molecule", "echo converge broke; exit 3")
    code, output = checkout.run("base")
    assert code == 1
    assert "    | converge broke" in output
    assert "base: molecule (exit code 3)" in output
    assert output.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def test_missing_tool_is_a_skip_with_a_reason(checkout: Checkout) -> None:
    (checkout.bin / "molecule").unlink()
    code, output = checkout.run("base")
    assert code == 0
    assert "base: 1 x molecule is not installed" in output


def test_hosts_of_a_part_are_removed_after_it(checkout: Checkout) -> None:
    checkout.run("base")
    calls = checkout.calls.read_text().splitlines()
    run = calls[0].rpartition("run=")[2]
    assert run.endswith("-base")
    assert calls[-1].startswith(f"testhost down --run {run} ")


def test_interrupt_ends_the_part_and_removes_its_hosts(checkout: Checkout) -> None:
    checkout.program(
        checkout.bin / "molecule",
        "[ $1 = test ] || exit 0\ntrap 'echo tidied >>\"$0.tidied\"; exit 1' INT\nsleep 120 & wait",
    )
    process = checkout.start("base", "unit", "--jobs", "1")
    started = time.monotonic()
    # `unit` comes first and is over soon; the scenario would run for two minutes.
    while not (checkout.calls.exists() and "molecule" in checkout.calls.read_text()):
        assert time.monotonic() - started < 30
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (checkout.bin / "molecule.tidied").exists()
    assert "testhost down --run" in checkout.calls.read_text()
    assert "base  did not run to its end" in output
    assert output.splitlines()[-1] == "1 passed, 1 failed, 2 skipped"


def test_a_scenario_that_breaks_off_is_run_again_on_request(checkout: Checkout) -> None:
    checkout.program(
        checkout.bin / "molecule", '[ "$1" != test ] || { [ -e "$0.before" ] || { touch "$0.before"; exit 3; }; }'
    )
    code, output = checkout.run("base", "--retry")
    assert code == 0
    assert "Failed at the first try" in output
    assert "base: molecule (exit code 3)" in output
    checkout.program(checkout.bin / "molecule", "exit 3")
    assert checkout.run("base", "--retry")[0] == 1


def test_only_tests_that_failed_run_again_on_the_same_hosts(checkout: Checkout) -> None:
    tests = """
from pathlib import Path
def note(name):
    with Path("ran").open("a") as file: print(name, file=file)
def test_steady(): note("steady")
def test_unsteady():
    note("unsteady")
    assert Path("ran").read_text().count("unsteady") > 1
"""
    (checkout.root / "molecule" / "base" / "test_base.py").write_text(tests)
    checkout.program(checkout.bin / "molecule", f"[ $1 = destroy ] || exec {checkout.bin}/pytest molecule/base")
    code, output = checkout.run("base", "--retry")
    assert code == 0, output
    assert (checkout.root / "ran").read_text().split() == ["steady", "unsteady", "unsteady"]
    assert [
        line.split(" run=")[0] for line in checkout.calls.read_text().splitlines() if line.startswith("molecule")
    ] == [
        "molecule test -s base --destroy never",
        "molecule verify -s base",
        "molecule destroy -s base",
    ]
    assert "base: test_base::test_unsteady" in output
    assert output.splitlines()[-1] == "3 passed, 0 failed, 0 skipped"


def test_one_distribution_is_enough_for_some_scenarios(checkout: Checkout) -> None:
    checkout.program(checkout.bin / "molecule", 'echo "$1 ${MOLECULE_PLATFORM_NAME:-both}" >>ran')
    checkout.run("base")
    checkout.run("base", "--everything")
    runs = [line for line in (checkout.root / "ran").read_text().splitlines() if line.startswith("test")]
    assert runs == ["test base-debian12", "test both"]


def test_everything_runs_each_spawner_on_each_distribution(checkout: Checkout) -> None:
    (checkout.root / "molecule" / "base").rename(checkout.root / "molecule" / "jupyterhub")
    checkout.program(checkout.bin / "molecule", '[ $1 = destroy ] || echo "${CAMPUSHUB_TEST_SPAWNERS:-usual}" >>ran')
    assert checkout.run("jupyterhub")[0] == 0
    assert (checkout.root / "ran").read_text() == "usual\n"
    assert checkout.run("jupyterhub", "--everything")[0] == 0
    assert (checkout.root / "ran").read_text() == "usual\nusual\nexchanged\n"


def test_parts_can_run_at_the_same_time(checkout: Checkout) -> None:
    # Each of the two waits for the other.
    both = 'touch "here-$3"; for i in {1..99}; do [ -e here-base -a -e here-other ] && exit 0; sleep 0.1; done; exit 1'
    checkout.program(checkout.bin / "molecule", both)
    other = checkout.root / "molecule" / "other" / "molecule.yml"
    other.parent.mkdir()
    other.write_text("---\n")
    code, output = checkout.run("base", "other", "--jobs", "2")
    assert code == 0, output


def test_list_names_parts_and_runs_nothing(checkout: Checkout) -> None:
    code, output = checkout.run("--list")
    assert code == 0
    assert [line.split()[0] for line in output.splitlines()] == ["lint", "unit", "base"]
    assert not checkout.calls.exists()


def test_chaos_runs_tests_that_are_marked_and_tells_them(checkout: Checkout) -> None:
    tests = """
import pytest

@pytest.mark.chaos
@pytest.mark.parametrize("host", ["a", "b"])
def test_a_killed_server_comes_back(host): assert host == "a"
@pytest.mark.chaos
def test_a_full_disk_is_told(): pass
def test_others(): pass
"""
    (checkout.root / "molecule" / "base" / "test_base.py").write_text(tests)
    (checkout.root / "pytest.ini").write_text("[pytest]\nmarkers = chaos: x\n")
    checkout.program(checkout.bin / "molecule", f'[ "$1" != verify ] || exec {checkout.bin}/pytest "molecule/$3"')
    code, output = checkout.run("chaos")
    assert code == 1
    rows = [line.split() for line in output.splitlines() if line.startswith(("base  ", "      all"))]
    assert ["base", "a", "killed", "server", "comes", "back", "2", "1", "1"] in rows
    assert ["base", "a", "full", "disk", "is", "told", "1", "1"] in rows
    assert ["all", "3", "2", "1"] in rows
    assert "There are: base" in checkout.run("chaos", "unit")[1]
    assert "base" not in checkout.run("attack", "--list")[1]
    assert [line.split()[0] for line in checkout.run("--list")[1].splitlines()] == ["lint", "unit", "base", "chaos"]


def test_needs_follow_from_the_parts(checkout: Checkout) -> None:
    assert checkout.run("--needs", "unit")[1].split() == ["environment", "gpg", "visudo"]
    assert checkout.run("--needs", "base")[1].split() == ["environment", "hosts"]
    assert checkout.run("--needs", "--list")[1].split() == []
