"""Put the key of munge, in base64 on the standard input, in its place; "changed" is printed if it is another."""

import base64
import hashlib
import os
import pathlib
import shutil
import sys

key, path = base64.b64decode(sys.stdin.read()), pathlib.Path("/etc/munge/munge.key")
if not path.exists() or path.read_bytes() != key:
    new = path.with_name("munge.key.new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400), "wb") as file:
        file.write(key)
    shutil.chown(new, "munge", "munge")
    # By which removal knows a key that came from here. A short key could be guessed from it.
    record = pathlib.Path("/var/lib/campushub/munge.key.sha256")
    record.parent.mkdir(mode=0o755, exist_ok=True)
    record.touch(mode=0o600)
    record.write_text(f"{hashlib.sha256(key).hexdigest()}  {path}\n")
    new.replace(path)
    print("changed")
