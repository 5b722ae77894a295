#!/usr/bin/python3 -I
"""
Ask the hub to tell a proxy that has just started which servers there are.

The proxy keeps its routes in memory. The hub compares them every five minutes only; until then nobody would
reach a server that runs. Called by jupyterhub-proxy.service after its start; if the hub is not up (as at boot)
there is nothing to do, for the hub does the same when it starts.
"""

from __future__ import annotations

import os
import sys
import time
import urllib.request
from http.client import HTTPException


def main() -> int:
    """Wait for the proxy to listen, then post to the hub."""
    proxy = urllib.request.Request(
        f"http://127.0.0.1:{os.environ['PROXY_API_PORT']}/api/routes",
        headers={"Authorization": f"token {os.environ['CONFIGPROXY_AUTH_TOKEN']}"},
    )
    hub = urllib.request.Request(
        f"http://127.0.0.1:{os.environ['HUB_PORT']}/hub/api/proxy",
        method="POST",
        data=b"",
        headers={
            "Authorization": f"token {os.environ['CAMPUSHUB_ROUTES_TOKEN']}",
            "Content-Type": "application/json",
        },
    )
    # Neither request may wander off to a proxy of the environment.
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + 10
    while True:
        try:
            direct.open(proxy, timeout=5).close()
            break
        except (OSError, HTTPException):
            if time.monotonic() > end:
                print("The proxy does not answer", file=sys.stderr)
                return 1
            time.sleep(0.05)
    try:
        direct.open(hub, timeout=10).close()
    except (OSError, HTTPException) as error:
        # A hub that is slow or says no is no reason to stop a proxy that works.
        print(f"The hub did not do it ({error}); it will when it starts, or within five minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
