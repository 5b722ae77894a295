"""What benchmarks of a hub's load share: accounts by the hundred, its API, and what it takes of CPU and memory."""

from __future__ import annotations

# Runs on the host, as root. Before it stand WORK, a directory there, TOKEN, of the API, and GROUP, who may log in.
ON_HOST = r'''
import http.client, json, os, pathlib, re, shutil, subprocess, time

FILES = pathlib.Path("/etc/passwd"), pathlib.Path("/etc/shadow")
PASSWORD = "campushub"
UNITS = {"hub": "jupyterhub", "proxy": "jupyterhub-proxy"}

def run(*command, **options):
    return subprocess.run(command, check=True, capture_output=True, text=True, **options).stdout

def api(path, method="GET", body=None, port=980):
    """Call the hub's API as an administrator."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    headers = {"Authorization": "token " + TOKEN, "Content-Type": "application/json"}
    connection.request(method, "/hub/api" + path, json.dumps(body) if body is not None else None, headers)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status >= 400:
        raise SystemExit(f"{method} {path}: {answer.status} {text[:300]}")
    return answer.status, text

def make_known(names, port=980):
    for first in range(0, len(names), 200):
        api("/users", "POST", {"usernames": names[first:first + 200]}, port=port)

def accounts(names):
    """Give each of them an account, all at once: useradd would take minutes."""
    for path in FILES:
        shutil.copy2(path, WORK)
    password = run("openssl", "passwd", "-6", PASSWORD).strip()
    group = run("getent", "group", GROUP).split(":")[2]
    with FILES[0].open("a") as passwd, FILES[1].open("a") as shadow:
        for number, name in enumerate(names):
            passwd.write(f"{name}:x:{30000 + number}:{group}::/home/{name}:/bin/bash\n")
            shadow.write(f"{name}:{password}:20000:0:99999:7:::\n")

def remove_accounts():
    for path in FILES:
        if os.path.exists(WORK + "/" + path.name):
            shutil.copy2(WORK + "/" + path.name, path)

def pid(unit):
    return int(run("systemctl", "show", "--value", "-p", "MainPID", unit))

class Window:
    """CPU time, in per cent of a core, and memory in MB of units, with the programs that they have run."""

    def __init__(self, units=UNITS):
        self.units, self.begin, self.used = units, time.monotonic(), self.look(units)

    @staticmethod
    def look(units):
        used = {}
        for name, unit in units.items():
            columns = pathlib.Path(f"/proc/{pid(unit)}/stat").read_text().rpartition(")")[2].split()
            # With children that have ended.
            used[name] = sum(map(int, columns[11:15])) / os.sysconf("SC_CLK_TCK")
        return used

    def percent(self):
        seconds = time.monotonic() - self.begin
        return {name: 100 * (used - self.used[name]) / seconds for name, used in self.look(self.units).items()}

    def print(self, what):
        words = []
        for name, percent in self.percent().items():
            status = pathlib.Path(f"/proc/{pid(self.units[name])}/status").read_text()
            memory = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024
            words.append(f"{name} {percent:.2f} % {memory} MB")
        print(f"{what:<28} " + "   ".join(words), flush=True)
'''
