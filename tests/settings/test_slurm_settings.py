"""Every message of role slurm about its settings, good ones, and the configuration of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from plugins.module_utils.files import MARKER
from tests.settings.validation import answered_otherwise, facts, messages, rendered, wired

TRIXIE = facts("Debian", "13", "trixie")
NODES = "is no file on the controller. Give the path of the cluster's {} there; it is in {} on its nodes."
PARTITION = "cannot be the name of a partition. Use letters, digits, hyphens and underscores, and begin with a letter."
LINE = "has something that is no line of slurm.conf. Write a name and a value, such as {SlurmdTimeout: 600}."
QOS = (
    "is of a cluster with accounting that is made here. "
    "Set slurm_accounting: true, or leave it out; a QOS of a cluster that exists is made there."
)
ACCOUNT = "cannot be the name of an account. Use lower-case letters, digits, hyphens, dots and underscores."

BAD: dict[str, tuple[dict[str, Any], list[str]]] = {
    "ubuntu": (
        {"facts": facts("Ubuntu", "24.04", "noble")},
        ['distribution = "Ubuntu 24.04" is not supported. Use Debian 12 or 13.'],
    ),
    "join": (
        {"slurm_join": True, "slurm_accounting": True},
        [
            f'slurm_conf_file = "" {NODES.format("slurm.conf", "/etc/slurm")}',
            f'slurm_munge_key_file = "" {NODES.format("munge.key", "/etc/munge")}',
            (
                "slurm_accounting = true is of a cluster that is made here. "
                "Leave it out. The cluster that exists keeps accounts itself, or does not."
            ),
        ],
    ),
    "join-gpus": (
        {
            "slurm_join": True,
            "slurm_conf_file": str(Path(__file__)),
            "slurm_munge_key_file": str(Path(__file__)),
            "slurm_gpus": 2,
            "slurm_qos": ["high"],
        },
        [
            (
                "slurm_gpus = 2 is of a cluster that is made here. "
                "Leave it out. The configuration of the cluster says which nodes have GPUs."
            ),
            f'slurm_qos = ["high"] {QOS}',
        ],
    ),
    "gpus": (
        {"slurm_gpus": -1, "slurm_gpu_type": "NVIDIA A100", "slurm_gpu_files": ["/dev/../etc/shadow", "nvidia0"]},
        [
            "slurm_gpus = -1 is no number of GPUs. Give how many this node has; 0 is none.",
            (
                'slurm_gpu_type = "NVIDIA A100" cannot be a kind of GPUs. '
                "Use letters, digits, hyphens, dots and underscores, and begin with a letter, as in a100."
            ),
            'slurm_gpu_files[0] = "/dev/../etc/shadow" is no file of a device. Write it like /dev/nvidia0.',
            'slurm_gpu_files[1] = "nvidia0" is no file of a device. Write it like /dev/nvidia0.',
            (
                'slurm_gpu_files = ["/dev/../etc/shadow", "nvidia0"] names 2, and slurm_gpus is -1. '
                "Name one file for each GPU, or none for /dev/nvidia0 and so on."
            ),
        ],
    ),
    "gpu-files": (
        {"slurm_gpus": 2, "slurm_gpu_files": ["/dev/nvidia0", "/dev/nvidia0"]},
        ['slurm_gpu_files = ["/dev/nvidia0", "/dev/nvidia0"] names a file twice. Name one file for each GPU.'],
    ),
    "gpus-of-no-node": (
        {"slurm_gpus": 2, "slurm_nodes": ["node1"]},
        [
            (
                "slurm_gpus = 2 is of a node, and this host is none. "
                "Put the host into the group compute, or leave it out here."
            )
        ],
    ),
    "qos": (
        {"slurm_accounting": True, "slurm_qos": ["high", "Two words"]},
        [
            (
                'slurm_qos[1] = "Two words" cannot be the name of a QOS. '
                "Use lower-case letters, digits, hyphens, dots and underscores."
            )
        ],
    ),
    "qos-without-accounting": ({"slurm_qos": ["high"]}, [f'slurm_qos = ["high"] {QOS}']),
    "name": (
        {"slurm_cluster_name": "Our Cluster"},
        [
            (
                'slurm_cluster_name = "Our Cluster" cannot be the name of a cluster. '
                "Use lower-case letters, digits, hyphens and underscores."
            )
        ],
    ),
    "nodes": (
        {"slurm_nodes": []},
        ["slurm_nodes = [] is empty. Put the hosts on which servers run into the group compute."],
    ),
    "same-names": (
        {"slurm_nodes": ["node1.a.example.org", "node1.b.example.org"]},
        [
            (
                'slurm_nodes = ["node1.a.example.org", "node1.b.example.org"] has two hosts with the same name before '
                "the first dot, which is that of the node. Give them different names."
            )
        ],
    ),
    "partitions": (
        {"slurm_partitions": [{"name": "two words"}, {"name": "all"}, {"name": "gpu", "nodes": ["elsewhere"]}]},
        [
            f'slurm_partitions[0].name = "two words" {PARTITION}',
            f'slurm_partitions[1].name = "all" {PARTITION}',
            (
                'slurm_partitions[2].nodes = ["elsewhere"] (gpu) has hosts that are no nodes. '
                "Put them into the group compute, or write the names as in the inventory."
            ),
        ],
    ),
    "lines": (
        {"slurm_settings": {"Mail Prog": "/bin/true", "SlurmdTimeout": "600\nPrivateData=jobs"}},
        [
            f'slurm_settings["Mail Prog"] = "/bin/true" {LINE}',
            f'slurm_settings["SlurmdTimeout"] = "600\\nPrivateData=jobs" {LINE}',
        ],
    ),
    "accounts": (
        {"slurm_accounting": True, "slurm_accounts": ["physics", "Two words", "root"]},
        [f'slurm_accounts[{place}] = "{name}" {ACCOUNT}' for place, name in ((1, "Two words"), (2, "root"))],
    ),
    "no-account": (
        {"slurm_accounting": True, "slurm_accounts": []},
        ["slurm_accounts = [] is empty. Name one, such as campushub."],
    ),
}

GOOD: dict[str, dict[str, Any]] = {
    "plain": {},
    "trixie": {"facts": TRIXIE},
    "accounting": {"slurm_accounting": True, "slurm_accounts": ["campushub", "physics"], "slurm_qos": ["high"]},
    "gpus": {"slurm_gpus": 2, "slurm_gpu_type": "a100", "slurm_gpu_files": ["/dev/nvidia0", "/dev/nvidia2"]},
    "absent": {"slurm_state": "absent", "slurm_nodes": []},
}


def test_bad_settings_are_named_with_a_remedy_and_good_ones_pass() -> None:
    good: dict[str, tuple[dict[str, Any], list[str]]] = {name: (settings, []) for name, settings in GOOD.items()}
    assert answered_otherwise("slurm", BAD | good) == {}


def test_hosts_of_different_releases_are_refused() -> None:
    shared = {"slurm_controller": "hub1", "slurm_nodes": ["node1", "node2"]}
    hosts: dict[str, dict[str, Any]] = {
        "hub1": {**shared, "facts": TRIXIE},
        "node1": {**shared, "facts": TRIXIE},
        "node2": shared,
    }
    found = messages("slurm", hosts)
    refusal = (
        'slurm_nodes = "trixie, bookworm" are different releases, whose packages of Slurm do not understand each '
        "other. Use one release of the distribution on the controller, the hub and all nodes."
    )
    assert found["hub1"] == [refusal]


def found(**others: Any) -> dict[str, Any]:
    """Return facts of a host of a cluster on which nothing is wrong."""
    well = {"version": "24.11", "name": "", "key": "a1", "foreign": False, "clock": 0}
    return facts("Debian", "13", "trixie", campushub={"cluster": {**well, **others}})


def test_hosts_that_do_not_fit_together_are_refused() -> None:
    """By what preflight has found on them."""
    shared = {"slurm_controller": "hub1", "slurm_nodes": ["node1", "node2", "node3"]}
    said = messages(
        "slurm",
        {
            "hub1": {**shared, "facts": found(name="centre")},
            "node1": {**shared, "facts": found(version="22.05", clock=-45)},
            "node2": {**shared, "facts": found(key="b2", foreign=True, clock=70)},
            # One whose key was not replaced before a run was interrupted.
            "node3": {**shared, "facts": found(key="b3")},
        },
    )
    refusals = [
        (
            'slurm_nodes = "hub1 24.11, node1 22.05, node2 24.11, node3 24.11" are different releases of Slurm, which '
            "do not understand each other. Install that of the distribution on all of them."
        ),
        (
            'slurm_nodes = "hub1 +0 s, node1 -45 s, node2 +70 s, node3 +0 s" are clocks that differ by 115 seconds; '
            "from 300 on munge refuses whatever another host says. Switch on time synchronisation on all of them "
            "(timedatectl set-ntp true)."
        ),
        (
            'slurm_nodes = "node2" have another munge.key than hub1, and a slurm.conf that is not CampusHub\'s, as '
            "hosts of another cluster have. Take them out of the group compute. If there is no other cluster, remove "
            "/etc/slurm/slurm.conf on them; they get the key then."
        ),
        (
            'slurm_cluster_name = "campushub" is not centre, the name under which the controller has run, so that it '
            "would not start. Write that name, or remove /var/lib/slurm/slurmctld on hub1 while no job runs."
        ),
    ]
    assert list(said.values()) == [refusals] * 4


def test_hosts_that_fit_together_pass() -> None:
    shared = {"slurm_controller": "hub1", "slurm_nodes": ["node1", "node2"], "slurm_cluster_name": "centre"}
    said = messages(
        "slurm",
        {
            "hub1": {**shared, "facts": found(name="centre")},
            # Slow to answer, and nothing is installed there yet.
            "node1": {**shared, "facts": found(version="", key="", clock=-20)},
            "node2": {**shared, "facts": found(key="b3")},
        },
    )
    assert not any(said.values())


def test_there_is_a_cluster_where_the_hub_wants_one(tmp_path: Path) -> None:
    def roles(**hub: Any) -> Any:
        inventory = {
            "all": {"children": {"hub": {"hosts": {"hub1": hub}}, "compute": {"hosts": {"node1": {}, "node2": {}}}}}
        }
        return wired(tmp_path, inventory, ("slurm_controller", "slurm_nodes"))

    found = roles(jupyterhub_spawner="slurm")
    assert {host: names["slurm_controller"] for host, names in found.items()} == dict.fromkeys(found, "hub1")
    assert found["node1"]["slurm_nodes"] == ["node1", "node2"]


def test_profiles_alone_can_want_a_cluster(tmp_path: Path) -> None:
    there = {"name": "there", "title": "There", "run_on": "slurm"}

    def hub(name: str, nodes: list[str], **settings: Any) -> dict[str, Any]:
        inventory = {
            "all": {
                "children": {
                    "hub": {"hosts": {"hub1": settings}},
                    "compute": {"hosts": {node: {} for node in nodes}},
                }
            }
        }
        scratch = tmp_path / name
        scratch.mkdir()
        names = ("site_has", "jupyterhub_slurm_available", "jupyterhub_slurm_partitions")
        return wired(scratch, inventory, names)["hub1"]

    found = hub("mixed", ["node1"], jupyterhub_profiles=[{"name": "here", "title": "Here"}, there])
    assert found["site_has"] == {"slurm": True}
    assert found["jupyterhub_slurm_available"] is True
    assert found["jupyterhub_slurm_partitions"] == [{"name": "main", "hours": 0, "gpus": 0}]
    found = hub("partitions", ["node1"], slurm_partitions=[{"name": "a", "hours": 8}, "b"], jupyterhub_profiles="x")
    assert found["jupyterhub_slurm_partitions"] == [{"name": "a", "hours": 8, "gpus": 0}]
    assert found["site_has"] == {"slurm": False}
    found = hub("none", [], jupyterhub_profiles=[there])
    assert found["jupyterhub_slurm_available"] is False
    found = hub("joined", [], jupyterhub_profiles=[there], slurm_join=True)
    assert (found["jupyterhub_slurm_available"], found["jupyterhub_slurm_partitions"]) == (True, [])


def test_the_hub_adds_people_to_accounts_where_there_are_some(tmp_path: Path) -> None:
    kept: dict[str, dict[str, Any]] = {
        "hub1": {"slurm_accounting": True, "slurm_accounts": ["physics", "chemistry"]},
        "hub2": {"slurm_accounting": True},
        "hub3": {"slurm_accounting": True, "slurm_join": True},
        "hub4": {},
    }
    said = wired(tmp_path, {"all": {"children": {"hub": {"hosts": kept}}}}, ("jupyterhub_slurm_account",))
    accounts = {host: names["jupyterhub_slurm_account"] for host, names in said.items()}
    assert accounts == {"hub1": "physics", "hub2": "campushub", "hub3": "", "hub4": ""}


def test_the_hub_knows_gpus_and_qos_of_the_cluster(tmp_path: Path) -> None:
    """So that profiles can be compared with them."""
    settings: dict[str, Any] = {
        "slurm_accounting": True,
        "slurm_qos": ["high"],
        "slurm_partitions": [{"name": "main"}, {"name": "plain", "nodes": ["node1", "nowhere"]}],
    }
    nodes = {"node1": {}, "node2": {"slurm_gpus": 2}, "node3": {"slurm_gpus": "4"}}
    groups = {"hub": {"hosts": {"hub1": {}}}, "compute": {"hosts": nodes}}
    names = ("jupyterhub_slurm_partitions", "jupyterhub_slurm_qos")
    found = wired(tmp_path, {"all": {"children": groups, "vars": settings}}, names)["hub1"]
    assert [partition["gpus"] for partition in found["jupyterhub_slurm_partitions"]] == [4, 0]
    assert found["jupyterhub_slurm_qos"] == ["normal", "high"]


def test_jobs_on_hosts_that_are_taken_out_are_named() -> None:
    lines = [f"node {name}" for name in ("node1", "node11", "node2")]
    lines += ["job node1 alice 12", "job node11 bob 13", "job node2 carol 14", "job node[1-3] dave 15"]
    settings = {
        "slurm_nodes": ["node1.example.org", "node2"],
        "__slurm_jobs": {"stdout_lines": lines},
        "__slurm_leaving": "{{ __slurm_known_nodes | difference(__slurm_short_names) }}",
    }
    expression = "[{'path': 'jobs', 'content': __slurm_lost_jobs | join(', ')}]"
    assert rendered("slurm", {"hub1": settings}, expression)["hub1"]["jobs"] == "node11 bob 13"


def test_the_configuration_names_all_hosts_and_partitions() -> None:
    host = {"__slurm_host": {"stdout_lines": ["node1.example.org", "8", "16000"]}}
    given = {
        "node1": {
            **host,
            "slurm_partitions": [{"name": "main"}, {"name": "short", "hours": 2, "memory_per_cpu_mb": 500}],
            "slurm_settings": {"KillWait": 30, "TmpFS": "/scratch"},
        }
    }
    expression = "[{'path': 'conf', 'content': lookup('ansible.builtin.template', 'slurm.conf.j2')}]"
    lines = rendered("slurm", given, expression)["node1"]["conf"].splitlines()
    assert "SlurmctldHost=node1(127.0.0.1)" in lines
    assert "NodeName=node1 NodeHostname=node1 NodeAddr=127.0.0.1 CPUs=8 RealMemory=14976" in lines
    assert "PartitionName=main Nodes=node1 Default=YES MaxTime=INFINITE DefMemPerCPU=1024" in lines
    assert "PartitionName=short Nodes=node1 Default=NO MaxTime=120 DefMemPerCPU=500" in lines
    assert [line for line in lines if line.startswith(("KillWait", "TmpFS"))] == ["KillWait=30", "TmpFS=/scratch"]
    assert "JobRequeue=0" in lines
    assert not [line for line in lines if line.startswith(("Accounting", "Priority", "JobAcct"))]


def test_the_configuration_of_another_cluster_is_known_as_ours(tmp_path: Path) -> None:
    """By its words what the host had is kept beside it, and put back by removal."""
    theirs, key = tmp_path / "slurm.conf", tmp_path / "munge.key"
    key.write_bytes(bytes(1024))
    key.chmod(0o600)
    joined = {"slurm_join": True, "slurm_conf_file": str(theirs), "slurm_munge_key_file": str(key)}
    for text, expected in (("A=1\nB=2\n", f"# {MARKER}\nA=1\nB=2\n"), (f"A=1\n# {MARKER}\n", f"A=1\n# {MARKER}\n")):
        theirs.write_text(text)
        found = rendered("slurm", {"hub1": joined}, "[{'path': 'conf', 'content': __slurm_joined_conf}]")
        assert found["hub1"]["conf"] == expected


def test_accounting_is_told_to_all_hosts() -> None:
    host = {"__slurm_host": {"stdout_lines": ["node1", "8", "16000"]}}
    given = {"node1": {**host, "slurm_accounting": True, "slurm_settings": {"AccountingStorageEnforce": "limits"}}}
    expression = "[{'path': 'conf', 'content': lookup('ansible.builtin.template', 'slurm.conf.j2')}]"
    lines = rendered("slurm", given, expression)["node1"]["conf"].splitlines()
    assert {"AccountingStorageHost=127.0.0.1", "AccountingStorageEnforce=limits"} <= set(lines)
    assert {"AccountingStorageType=accounting_storage/slurmdbd", "PriorityType=priority/multifactor"} <= set(lines)
    # It must not change while jobs run.
    assert not [line for line in lines if line.startswith("JobAcctGather")]


def test_nodes_with_gpus_are_named_with_their_devices() -> None:
    """On all hosts alike, and with accounting their use is recorded; a cluster without any is as it was."""
    host = {"__slurm_host": {"stdout_lines": ["node1.example.org", "8", "16000"]}}
    shared = {**host, "slurm_controller": "node1.example.org"}
    nodes = {"slurm_nodes": ["node1.example.org", "node2", "node3"]}
    given: dict[str, dict[str, Any]] = {
        "node1.example.org": {**shared, **nodes, "slurm_gpus": 2, "slurm_gpu_type": "a100"},
        "node2": {**shared, **nodes, "slurm_gpus": "1", "slurm_gpu_files": ["/dev/nvidia7"]},
        "node3": {**shared, **nodes, "slurm_gpus": 0},
        "accounting": {**shared, **nodes, "slurm_accounting": True},
        "alone": {**shared, "slurm_nodes": ["node3"]},
    }
    expression = (
        "[{'path': 'slurm', 'content': lookup('ansible.builtin.template', 'slurm.conf.j2')}, "
        "{'path': 'gres', 'content': lookup('ansible.builtin.template', 'gres.conf.j2')}]"
    )
    found = rendered("slurm", given, expression)
    for name in ("node1.example.org", "node2", "node3"):
        lines = found[name]["slurm"].splitlines()
        assert "GresTypes=gpu" in lines
        # A controller without slurmdbd does not start with it.
        assert "AccountingStorageTRES=gres/gpu" not in lines
        endings = [line.rpartition(" ")[2] for line in lines if line.startswith("NodeName")]
        assert endings == ["Gres=gpu:a100:2", "Gres=gpu:1", "RealMemory=14976"]
        assert found[name]["gres"].splitlines()[1:] == [
            "NodeName=node1 Name=gpu Type=a100 File=/dev/nvidia0",
            "NodeName=node1 Name=gpu Type=a100 File=/dev/nvidia1",
            "NodeName=node2 Name=gpu File=/dev/nvidia7",
        ]
    assert "AccountingStorageTRES=gres/gpu" in found["accounting"]["slurm"].splitlines()
    assert "gpu" not in found["alone"]["slurm"]
