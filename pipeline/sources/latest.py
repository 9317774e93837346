"""Hands the newest of a series from one thread to another: what is not taken in time is replaced, and counted.

Separate because every live source that reads in a thread of its own needs it: the reader always keeps up with the
sender, so that latency cannot pile up in a socket or pipe, and the one who takes always gets the newest.
"""

import threading
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """One place for one item. ``put`` and ``end`` from the writing thread, ``take`` from the reading one."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._error: BaseException | None = None

    def put(self, item: T) -> T | None:
        """Offer ``item``; returns the one that it replaces, None if that was taken."""
        with self._changed:
            replaced, self._item = self._item, item
            self._changed.notify()
        return replaced

    def end(self, error: BaseException) -> None:
        """Say that nothing follows, and why; what was put before can still be taken."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify()

    def take(self, timeout_s: float, held: T | None = None) -> T | None:
        """The newest item, None if none came in time; raises what ``end`` was given once nothing is left.

        ``held`` is one that was taken before and not used: it is given back, at once, unless a newer one is there.
        """
        with self._changed:
            if held is None and self._item is None and self._error is None:
                self._changed.wait(timeout_s)
            item, self._item = held if self._item is None else self._item, None
            if item is None and self._error is not None:
                raise self._error
            return item
