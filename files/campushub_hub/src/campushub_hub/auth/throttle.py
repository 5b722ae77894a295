"""
Failed logins, counted per user and per address.

After some failures a user is refused at that address for a while. Nobody is refused because of others at the same
address, for behind one there may be a whole campus (NAT, eduroam, a VPN): there attempts only become slow.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

WINDOW_SECONDS = 300.0
# Many people may come from one address: so many more failures than those of one user slow it down as much.
ADDRESS_FACTOR = 10
SLOWEST_SECONDS = 8.0


class LoginThrottle:
    """
    Counts attempts that have failed, and for a user those under way, so that concurrent attempts count as well.

    A user is refused for one address only: nobody can lock another user out from elsewhere. Guessing one user's
    password from many addresses, or many users' from one, is slowed down, because a failed login is answered late.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Allow `limit` failures for a user from one address within the window."""
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

    def allows(self, user: str, address: str) -> bool:
        """Return whether another attempt is allowed."""
        return self._recent((user, address)) < self.limit

    def begin(self, user: str, address: str) -> None:
        """Record an attempt."""
        if len(self._times) > 10_000:
            for key in list(self._times):
                self._recent(key)
        for key in self._keys(user, address):
            self._times[key].append(self._clock())

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
        of_user = max(self._recent((user, "")), self._recent((user, address)))
        of_address = self._recent(("", address)) // (self.limit * ADDRESS_FACTOR)
        seconds = max(2.0 ** min(of_user - 1, 4) / 2 if of_user else 0.5, float(of_address))
        return min(seconds, SLOWEST_SECONDS)

    @staticmethod
    def _keys(user: str, address: str) -> tuple[tuple[str, str], tuple[str, str]]:
        return (user, address), (user, "")


class AddressSlots:
    """
    Lets so many attempts of one address be checked at a time, and of those that wait the newest first.

    Whoever tries a thousand passwords waits for themselves. Somebody else behind the same address is not told from them
    before the password is checked, but comes later than most of them, and so is next.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._taken: Counter[str] = Counter()
        self._waiting: defaultdict[str, list[asyncio.Future[None]]] = defaultdict(list)

    @asynccontextmanager
    async def slot(self, address: str) -> AsyncIterator[None]:
        """Wait for a slot and hold it."""
        if self._taken[address] < self.slots:
            self._taken[address] += 1
        else:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[address].append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if not turn.cancelled():
                    self._hand_over(address)
                raise
        try:
            yield
        finally:
            self._hand_over(address)

    def _hand_over(self, address: str) -> None:
        waiting = self._waiting[address]
        while waiting:
            turn = waiting.pop()
            if not turn.done():
                turn.set_result(None)
                return
        del self._waiting[address]
        self._taken[address] -= 1
        if not self._taken[address]:
            del self._taken[address]
