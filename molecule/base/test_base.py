from testinfra.host import Host
def test_x(host: Host) -> None:
    assert host.check_output("id -u") == "0"
