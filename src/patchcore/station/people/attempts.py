"""Attempts: how often somebody tried to log in, and how long the next try must wait."""

from __future__ import annotations

import ipaddress
import threading
import time
from collections import OrderedDict
from collections.abc import Callable

FREE = 5  # tries of one account without a wait
FREE_ADDRESS = 20  # of one address: many people may be behind it
LONGEST = 300.0  # seconds of a wait: an account that anyone can shut for long is a fault of its own
FORGOTTEN = 3600.0  # seconds after the last try
MOST = 10_000  # accounts and addresses that are remembered


class Attempts:
    """Tries that failed, for each account and address. After the free ones the wait doubles with every try.

    A try counts when it begins, so that many at once cannot all be the last free one.

    Args:
        clock: Seconds, which only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()  # how many, and when the last was

    def begin(self, name: str, address: str) -> float:
        """Seconds that this try must wait, in which nothing is compared; 0.0: it may be made, and is counted."""
        keys = ((f"name {name[:64]}", FREE), (f"address {_network(address)}", FREE_ADDRESS))
        with self._lock:
            wait = max(self._wait(key, free) for key, free in keys)
            if not wait:
                for key, _ in keys:
                    self._count(key, 1)
        return wait

    def succeed(self, name: str, address: str) -> None:
        """That try was right: the account starts afresh; the address does not, or one's own account would free it."""
        with self._lock:
            self._tries.pop(f"name {name[:64]}", None)
            self._count(f"address {_network(address)}", -1)

    def _wait(self, key: str, free: int) -> float:
        count, last = self._tries.get(key, (0, 0.0))
        if count < free:
            return 0.0
        return max(0.0, last + min(LONGEST, 2.0 ** (min(count, free + 20) - free)) - self._clock())

    def _count(self, key: str, step: int) -> None:
        now = self._clock()
        while self._tries and now - next(iter(self._tries.values()))[1] > FORGOTTEN:
            self._tries.popitem(last=False)
        count = max(0, self._tries.get(key, (0, now))[0] + step)
        self._tries[key] = (count, now)
        self._tries.move_to_end(key)
        while len(self._tries) > MOST:
            self._tries.popitem(last=False)


def _network(address: str) -> str:
    """An IPv6 customer has at least 2^64 addresses."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
