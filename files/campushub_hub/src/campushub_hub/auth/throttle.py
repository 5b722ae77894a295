"""Failed logins, counted per user and per address: after some of them further attempts are refused for a while."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable

WINDOW_SECONDS = 300.0
# Many people may come from the address of one classroom.
ADDRESS_FACTOR = 10


class LoginThrottle:
    """
    Counts attempts that have failed, and for a user those under way, so that concurrent attempts count as well.

    A user is refused for one address only: nobody can lock another user out from elsewhere. Guessing one user's
    password from many addresses is slowed down, because a failed login is answered late.
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
        """Record an attempt; return whether it is allowed."""
        if len(self._times) > 10_000:
            for key in list(self._times):
                self._recent(key)
        if self._recent((user, address)) >= self.limit or self._recent(("", address)) >= self.limit * ADDRESS_FACTOR:
            return False
        for key in self._keys(user, address):
            self._times[key].append(self._clock())
        return True

    def failed(self, address: str) -> None:
        """Record that the password of the last attempt was wrong."""
        self._times["", address].append(self._clock())

    def reset(self, user: str, address: str, success: bool) -> None:
        """Discard the last attempt, which does not count as a failure; with success also those before it."""
        for key in self._keys(user, address):
            times = self._times.get(key)
            if times:
                times.pop()
        if success:
            self._times.pop((user, address), None)
            self._times.pop((user, ""), None)

    def delay(self, user: str, address: str) -> float:
        """Return by how many seconds the answer to a failed attempt is delayed: the more failures, the longer."""
        failed = max(self._recent((user, "")), self._recent((user, address)))
        return float(min(2 ** max(0, failed - 1), 16)) / 2

    @staticmethod
    def _keys(user: str, address: str) -> tuple[tuple[str, str], tuple[str, str]]:
        return (user, address), (user, "")
