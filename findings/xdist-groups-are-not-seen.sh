#!/bin/sh
# pytest-xdist 3.8.0 with pytest 9.2.0: --dist loadgroup distributes the tests of one xdist_group to several processes.
#
# The plugin writes a test's group into the attribute in which pytest kept its name before 9.2, which keeps it in another. So
# tests that must not run at the same time do, without a warning. With pytest 8.4.2 they run in one process.
#
# Seen with pytest-xdist 3.8.0: "pytest 9.2.0: 2 processes ran one group; pytest 8.4.2: 1".
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/test_group.py" <<'PYTHON'
import os
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.xdist_group("one")


@pytest.mark.parametrize("number", range(8))
def test_writes_down_its_process(number: int) -> None:
    time.sleep(0.2)
    with Path("processes").open("a") as file:
        print(os.environ["PYTEST_XDIST_WORKER"], file=file)
PYTHON
cd "$folder"
for version in 9.2.0 8.4.2; do
    python3 -m venv "$version"
    "$version/bin/pip" install --quiet --disable-pip-version-check "pytest==$version" pytest-xdist==3.8.0
    rm -f processes
    "$version/bin/pytest" --quiet --numprocesses 2 --dist loadgroup >/dev/null
    count=$(sort -u processes | wc -l)
    printf 'pytest %s: %s processes ran one group\n' "$version" "$count"
    printf '%s' "$count" >>counts
done
[ "$(cat counts)" = 21 ]
