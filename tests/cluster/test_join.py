"""A second hub, which joins the cluster that the first one has made, as that of another site would."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import pytest
import yaml

from tests.cluster.conftest import DOMAIN, FIRST_PORT, HOMES, KEEP, SUITE, Cluster, campushub, settings
from tests.site.centre import Host, wait_until


@pytest.fixture(scope="module")
def guest(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with a hub whose servers are jobs of the cluster."""
    host = Host(f"cluster-hub2.{DOMAIN}", SUITE, "slurm", FIRST_PORT + 20, volumes=HOMES)
    directory = tmp_path_factory.mktemp("guest")
    try:
        host.up()
        # What the administrator of the cluster hands over.
        conf, key = directory / "slurm.conf", directory / "munge.key"
        conf.write_text(cluster.hub.run("cat /etc/slurm/slurm.conf"))
        key.touch(mode=0o600)
        key.write_bytes(base64.b64decode(cluster.hub.run("base64 /etc/munge/munge.key")))
        described = {
            "ansible_host": host.state["address"],
            "ansible_user": host.state["user"],
            "ansible_ssh_private_key_file": host.state["key"],
            "jupyterhub_spawner": host.spawner,
            "jupyterhub_memory_limit": "600M",
            "jupyterhub_cpu_limit": 1,
            "slurm_join": True,
            "slurm_conf_file": str(conf),
            "slurm_munge_key_file": str(key),
        }
        own = {name: value for name, value in settings().items() if name != "slurm_settings"}
        hosts = {"all": {"vars": own, "children": {"hub": {"hosts": {host.name: described}}}}}
        inventory = directory / "hosts.yml"
        inventory.write_text(yaml.safe_dump(hosts, sort_keys=False))
        campushub(inventory, "install")
        yield host
    finally:
        if not KEEP:
            host.down()


def test_a_second_hub_starts_servers_in_the_same_cluster(cluster: Cluster, guest: Host) -> None:
    """Neither hub touches the jobs of the other."""
    there, here = cluster.hub.hub("bob"), guest.hub("alice")
    there.api("/hub/api/users/bob/server", "POST", {"profile": "large", "cpu": "1"})
    wait_until(lambda: there.api("/hub/api/users/bob")["servers"].get("", {}).get("ready"), "bob's server", 90)
    try:
        here.start()
        nodes = [node.name for node in cluster.nodes]
        printed = here.run("import os, socket; print(socket.gethostname(), os.getcwd())").split()
        assert printed[0] in nodes
        assert printed[1] == "/home/alice"
        names = "squeue --noheader --all --format='%u %j %T'"
        assert sorted(guest.run(names).splitlines()) == [
            "alice campushub-cluster-hub2 RUNNING",
            "bob campushub-cluster-hub1 RUNNING",
        ]
        here.stop()
        wait_until(lambda: not cluster.jobs("alice"), "alice's job has ended", 60)
        assert there.run("print('still here')") == "still here\n"
    finally:
        there.stop()
    # It has nothing of a node or a controller.
    assert "active" not in guest.run("systemctl is-active slurmd slurmctld", check=False).split()
