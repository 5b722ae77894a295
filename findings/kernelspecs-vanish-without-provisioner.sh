#!/bin/sh
# jupyter_server 2.21.1: one provisioner name that is not installed, and every kernel is gone from the list, with status 200.
#
# KernelProvisionerFactory.default_provisioner_name is meant for kernels that name no provisioner. If the package behind the
# name is missing (removed, or in another environment), /api/kernelspecs answers 200 with no kernel at all, so the launcher
# is empty and looks like an installation without kernels.
#
# Seen with jupyter_server 2.21.1, jupyter_client 8.10.0, ipykernel 7.4.0: "local-provisioner: 200 ['python3']",
# "not-installed: 200 []".
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyter_server==2.21.1 jupyter_client==8.10.0 ipykernel==7.4.0
cd "$folder"
HOME=$folder "$folder/venv/bin/python" - <<'PYTHON'
import json
import subprocess
import sys
import time
import urllib.error
import urllib.request


def kernels(provisioner: str, port: int) -> tuple[int, list[str]]:
    """What a server with this default provisioner answers."""
    options = [f"--port={port}", "--no-browser", "--allow-root", "--IdentityProvider.token=t", "--ServerApp.port_retries=0"]
    options.append(f"--KernelProvisionerFactory.default_provisioner_name={provisioner}")
    with open(f"{provisioner}.log", "w") as log:
        server = subprocess.Popen([sys.executable, "-m", "jupyter_server", *options], stderr=log)
    try:
        for _ in range(60):
            time.sleep(0.5)
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/kernelspecs?token=t") as answer:
                    return answer.status, sorted(json.load(answer)["kernelspecs"])
            except urllib.error.URLError:
                continue
        sys.exit("the server did not come up")
    finally:
        server.terminate()
        server.wait()


seen = [kernels("local-provisioner", 28871), kernels("not-installed", 28872)]
for name, (status, names) in zip(("local-provisioner", "not-installed"), seen):
    print(f"{name}: {status} {names}")
with open("not-installed.log") as log:
    print(*[line.strip() for line in log if "'not-installed'" in line], sep="\n")
sys.exit(seen != [(200, ["python3"]), (200, [])])
PYTHON
