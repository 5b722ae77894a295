"""Failed logins, counted per user and per address: after some of them nobody is asked for a while."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable

WINDOW_SECONDS = 300.0
# Many people may come from the address of one classroom.
ADDRESS_FACTOR = 10


class Failures:
    """
    Counts attempts that have failed, and for a user those under way: asking many times at once is no way around it.

    A user is refused for one address only: nobody can lock somebody else out from elsewhere. Guessing one user's
    password from many addresses is slowed down, for a failed login is answered late.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `limit` failures for a user from one address within the window, or ten times as many for an address."""
        self.limit = limit
        self._clock = clock
        self._times: defaultdict[tuple[str, str], deque[float]] = defaultdict(deque)

    def _recent(self, key: tuple[str, str]) -> int:
        times = self._times.get(key)
        if times is None:
            return 0
        while times and times[0] < self._clock() - WINDOW_SECONDS:
            times.popleft()
        if not times:
            del self._times[key]
            return 0
        return len(times)

    def begin(self, user: str, address: str) -> bool:
        """Note an attempt; return whether it may go on."""
        if len(self._times) > 10_000:
            for key in list(self._times):
                self._recent(key)
        if self._recent((user, address)) >= self.limit or self._recent(("", address)) >= self.limit * ADDRESS_FACTOR:
            return False
        for key in self._keys(user, address):
            self._times[key].append(self._clock())
        return True

    def failed(self, address: str) -> None:
        """Note that the password of the last attempt was wrong."""
        self._times["", address].append(self._clock())

    def forgive(self, user: str, address: str, success: bool) -> None:
        """Take the last attempt back, for it says nothing about passwords; with success those before it, too."""
        for key in self._keys(user, address):
            times = self._times.get(key)
            if times:
                times.pop()
        if success:
            self._times.pop((user, address), None)
            self._times.pop((user, ""), None)

    def delay(self, user: str, address: str) -> float:
        """Return how many seconds the answer to a failed attempt waits: the longer, the more there were."""
        failed = max(self._recent((user, "")), self._recent((user, address)))
        return float(min(2 ** max(0, failed - 1), 16)) / 2

    @staticmethod
    def _keys(user: str, address: str) -> tuple[tuple[str, str], tuple[str, str]]:
        return (user, address), (user, "")
