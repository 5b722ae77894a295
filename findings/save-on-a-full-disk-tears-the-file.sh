#!/bin/sh
# jupyter_server 2.21.1: a save that does not fit can leave a torn file, in spite of "atomic writing".
#
# It copies the old file, opens that for writing, and puts the copy back if writing fails. What is written is buffered, and
# the buffer of a small file is written only by flush() and fsync(), which stand behind the part that puts the copy back:
# the file keeps as much of the new content as fits, and the old content is in a hidden file beside it.
#
# Seen with jupyter_server 2.21.1: "Unexpected error while saving file: a.txt [Errno 28] No space left on device", then
# "a.txt: 4096 bytes, begins with new" and ".~a.txt: 300 bytes, begins with old". Needs user namespaces, or root.
set -eu

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check jupyter_server==2.21.1
mkdir "$folder/disk"
cat >"$folder/save.py" <<'PYTHON'
import asyncio
import logging
import os

from jupyter_server.services.contents.largefilemanager import AsyncLargeFileManager

with open("a.txt", "w") as file:
    file.write("old" * 100)
# One page is left: enough for a copy of the old content, and not for the new one.
with open("fill", "wb", 0) as file:
    try:
        while True:
            file.write(bytes(4096))
    except OSError:
        file.truncate(file.tell() - 4096)
logging.disable()
manager = AsyncLargeFileManager(root_dir=os.getcwd())
try:
    asyncio.run(manager.save({"type": "file", "format": "text", "content": "new" * 2000}, "a.txt"))
except Exception as error:
    print(error.log_message)
for name in ("a.txt", ".~a.txt"):
    print(f"{name}: {os.path.getsize(name)} bytes, begins with {open(name).read(3)}")
PYTHON
# The inner shell expands them.
# shellcheck disable=SC2016
HOME=$folder unshare --map-root-user --mount sh -eu -c '
  mount -t tmpfs -o size=32k disk "$1/disk"
  cd "$1/disk"
  "$1/venv/bin/python" "$1/save.py"
' sh "$folder"
