"""Time for everything that waits or measures: one protocol, the machine's monotonic clock, and a virtual one.

Tests use the virtual clock and never sleep.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """A monotonic clock in nanoseconds that can also wait."""

    def now_ns(self) -> int:
        """Monotonic time in nanoseconds."""

    def sleep_until_ns(self, due_ns: int) -> None:
        """Return at ``due_ns`` or at once if that has passed."""


class MonotonicClock:
    """The machine's own; comparable between processes of one machine."""

    def now_ns(self) -> int:
        """CLOCK_MONOTONIC in nanoseconds."""
        return time.monotonic_ns()

    def sleep_until_ns(self, due_ns: int) -> None:
        """Sleep; the kernel may wake us some 60 µs late, which callers report rather than hide."""
        left_ns = due_ns - time.monotonic_ns()
        if left_ns > 0:
            time.sleep(left_ns / 1e9)


class VirtualClock:
    """A clock that stands still until told; waiting moves it."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """Virtual time in nanoseconds."""
        return self._now_ns

    def advance_ns(self, step_ns: int) -> None:
        """Let ``step_ns`` pass."""
        self._now_ns += step_ns

    def sleep_until_ns(self, due_ns: int) -> None:
        """Move to ``due_ns``."""
        self._now_ns = max(self._now_ns, due_ns)
