"""Control groups as hosts have them, as files: both versions, in a container, without limits, and out of reach."""

from __future__ import annotations

import pytest

from campushub_session.cgroups import KillCounter, Slice

UNIT = "jupyterhub.slice/jupyterhub-1000.slice/jupyterhub-user-u.service"
NAME = "jupyterhub-1000.slice"


def write(directory, **files):
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name.replace("__", ".")).write_text(f"{content}\n")


def process(tmp_path, groups, mounts):
    lines = [f"1 1 0:1 {root} {point} rw - {kind} {kind} rw,{options}" for root, point, kind, options in mounts]
    write(tmp_path / "proc", cgroup="\n".join(groups), mountinfo="\n".join(lines))
    return tmp_path / "proc"


@pytest.fixture
def unified(tmp_path):
    """Version 2, alone."""
    top = tmp_path / "sys"
    write(top / UNIT / "..", memory__current=3000, memory__stat="anon 1\ninactive_file 1000", memory__max=5000)
    write(top / UNIT / "..", memory__peak=4000, memory__events="oom 1\noom_kill 5\noom_group_kill 0", cgroup__procs="")
    write(top / UNIT, memory__events="oom 1\noom_kill 2\noom_group_kill 0")
    write(top / UNIT / "..", cpu__stat="usage_usec 1500000\nuser_usec 1", cpu__max="150000 100000")
    write(top / UNIT, cgroup__procs="7\n8", memory__current=1, memory__max="max", cpu__stat="usage_usec 1")
    mounts = [("/", top, "cgroup2", "nsdelegate")]
    return Slice(NAME, process(tmp_path, [f"0::/{UNIT}"], mounts)), top / UNIT / ".."


@pytest.fixture
def version_1(tmp_path):
    """Version 1, with a unified hierarchy that has no controllers, in a container, whose mounts hide others."""
    container = "libpod/1"
    top = tmp_path / "sys"
    for controller in ("memory", "cpu"):
        write(top / controller / container / UNIT / "..", cgroup__procs="")
        write(top / controller / container / UNIT, cgroup__procs="7\n8")
    group = top / "memory" / container / UNIT / ".."
    write(group, memory__usage_in_bytes=3000, memory__stat="inactive_file 5\ntotal_inactive_file 1000")
    write(group, memory__limit_in_bytes=5000, memory__max_usage_in_bytes=4000, memory__oom_control="oom_kill 0")
    write(top / "memory" / container / UNIT, memory__oom_control="oom_kill_disable 0\noom_kill 2")
    # Another server of the user's.
    write(group / "jupyterhub-user-v.service", cgroup__procs="", memory__oom_control="oom_kill 3")
    write(top / "cpu" / container / UNIT / "..", cpu__cfs_quota_us=150000, cpu__cfs_period_us=100000)
    write(top / "cpuacct" / container, cpuacct__usage=99)
    (top / "unified" / container / UNIT).mkdir(parents=True)
    mounts = [(f"/{container}", "/hidden", "cgroup", "memory")]
    mounts += [("/", top / controller, "cgroup", controller) for controller in ("memory", "cpu", "cpuacct")]
    mounts += [("/", top / "unified", "cgroup2", "nsdelegate")]
    unit = f"/{container}/{UNIT}"
    groups = [f"4:memory:{unit}", f"1:cpu:{unit}", f"2:cpuacct:/{container}", f"0::{unit}"]
    return Slice(NAME, process(tmp_path, groups, mounts)), group


@pytest.mark.parametrize("version", ["unified", "version_1"])
def test_usage_is_that_of_the_slice(request, version):
    groups, _ = request.getfixturevalue(version)
    assert groups.memory() == (2000, 5000, 4000)
    assert groups.cpu_limit() == 1.5
    assert sorted(groups.processes()) == [7, 8]
    assert sum(groups.out_of_memory_kills().values()) == 2


def test_the_limit_of_the_server_counts_where_it_is_nearest(unified, version_1):
    """As with a profile; unless the user's other servers have taken more of the user's own."""
    groups, top = unified
    unit = top / "jupyterhub-user-u.service"
    write(unit, memory__current=900, memory__stat="inactive_file 100", memory__max=1000, memory__peak=950)
    write(unit, cpu__stat="usage_usec 500000", cpu__max="50000 100000")
    assert groups.memory() == (800, 1000, 950)
    assert (groups.cpu_seconds(), groups.cpu_limit()) == (0.5, 0.5)
    write(top, memory__current=5990)
    assert groups.memory() == (4990, 5000, 4000)
    groups, top = version_1
    write(top / "jupyterhub-user-u.service", memory__usage_in_bytes=700, memory__limit_in_bytes=1000)
    assert groups.memory() == (700, 1000, None)


@pytest.mark.parametrize("version", [1, 2])
def test_a_job_of_slurm_has_its_limit_above_the_server(tmp_path, version):
    """In the group of the job; what the host has above all jobs is another's."""
    job, task = "slurm/uid_1000/job_7", "step_batch/task_0"
    top = tmp_path / "sys"
    names = {"memory__current": "memory__usage_in_bytes", "memory__max": "memory__limit_in_bytes"}
    names = {"memory__peak": "memory__max_usage_in_bytes", **names}
    unlimited = "max" if version == 2 else 2**63 - 4096

    def group(place, used, limit):
        numbers = {"memory__current": used, "memory__max": limit, "memory__peak": used}
        files = {name if version == 2 else names[name]: number for name, number in numbers.items()}
        write(place, memory__stat="inactive_file 0\ntotal_inactive_file 0", cgroup__procs="", **files)

    group(top, 9000, 9001)
    group(top / job / task, 3000, unlimited)
    group(top / job, 3500, 5000)
    mounts = [("/", top, "cgroup2", "nsdelegate") if version == 2 else ("/", top, "cgroup", "memory")]
    lines = [f"0::/{job}/{task}" if version == 2 else f"4:memory:/{job}/{task}"]
    assert Slice(NAME, process(tmp_path, lines, mounts)).memory() == (3500, 5000, 3500)


def test_cpu_time_of_others_is_not_counted(unified, version_1):
    assert unified[0].cpu_seconds() == 1.5
    # There the slice has no group of its own for it, and the one above counts everybody.
    assert version_1[0].cpu_seconds() is None


def test_kernel_without_the_peak_is_no_fault(unified):
    groups, directory = unified
    (directory / "memory.peak").unlink()
    assert groups.memory() == (2000, 5000, None)


def test_no_limit_is_none(unified, version_1):
    for groups, directory in (unified, version_1):
        for name in ("memory.max", "cpu.max"):
            (directory / name).write_text("max 100000\n" if name == "cpu.max" else "max\n")
        (directory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
        assert groups.memory().limit is None
    assert unified[0].cpu_limit() is None


@pytest.mark.parametrize("name", [b"a\x0bb", b"a\rb", b"a\xc2\x85b", b"\xff"], ids=repr)
def test_a_name_of_another_users_mount_hides_no_limit(unified, tmp_path, name):
    _, _ = unified
    with (tmp_path / "proc" / "mountinfo").open("ab") as table:
        table.write(b"35 1 0:45 / /home/eve/" + name + b" rw - fuse x rw\n")
    assert Slice(NAME, tmp_path / "proc").memory() == (2000, 5000, 4000)


@pytest.mark.parametrize("damage", ["", "nonsense", "0::/\n", "4:memory:/gone\n"])
def test_what_cannot_be_read_is_unknown(tmp_path, damage):
    write(tmp_path / "proc", cgroup=damage, mountinfo="1 1 0:1 / /nonexistent rw - cgroup cgroup rw,memory")
    groups = Slice(NAME, tmp_path / "proc")
    values = (groups.memory(), groups.cpu_seconds(), groups.cpu_limit())
    assert values == (None,) * 3
    assert (groups.processes(), groups.out_of_memory_kills()) == ([], {})


def test_a_kill_is_claimed_once_and_not_too_early(version_1):
    groups, directory = version_1
    kills = KillCounter(groups)
    kills.update(10)
    assert not kills.claim(10)
    (directory / "jupyterhub-user-u.service" / "memory.oom_control").write_text("oom_kill 3\n")
    kills.update(11)
    assert not kills.claim(10)
    assert kills.claim(11)
    assert not kills.claim(12)


def test_a_group_that_goes_takes_no_kill_back(version_1):
    groups, directory = version_1
    kills = KillCounter(groups)
    path = directory / "jupyterhub-user-u.service" / "memory.oom_control"
    path.unlink()
    kills.update(10)
    path.write_text("oom_kill 1\n")
    kills.update(11)
    assert kills.claim(11)
    assert not kills.claim(11)
