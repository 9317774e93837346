"""Wins a lost live source back: opens it again with growing delays, and joins what comes to what was.

Separate from the sources, so that a device, a network feed and a pipe are lost and come back alike, and each of them
need only say that it is lost. The joined series has growing ``pts`` on the machine's clock, and gaps in ``seq`` for
what a silence cost, estimated from its length at the nominal rate. Showing "no signal" meanwhile is not done here:
overlay does that by its own clock. At the start the rule is another: what is wrong with the address (no such device,
no permission, connection refused) is told at once; a source that is there without a signal is waited for.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from types import TracebackType
from typing import Self

from endostream.configs.errors import EndostreamError, SourceLost, SourceMissing

from ..clock import Clock, MonotonicClock
from ..frame import SizeHW, SourcePicture
from ..source import Source, SourceInfo, SourceOptions
from .live_address import redacted
from .live_options import LiveOptions
from .live_timeline import TIME_BASE, LiveTimeline

STALL_NS = 500_000_000
"""A silence from here on is logged and counted even if the source comes back by itself."""
_STEP_NS = 50_000_000
_ASSUMED_FPS = Fraction(25)
_ASSUMED_SIZE_HW: SizeHW = (576, 720)
"""Of the picture that stands for a source nothing has come from yet."""

Opener = Callable[[str, SourceOptions], Source]


class ReconnectingSource:
    """Wraps a live source; iterates until the run is to stop, ``duration_s`` is over, or it is given up.

    ``duration_s`` counts from the first picture; as long as there is none, from the start, but not less than
    ``live.open_timeout_s``.

    Args:
        address: of the source.
        options: ``extra`` as in ``LiveOptions``.
        opener: opens the source; raises SourceMissing where its address is wrong, SourceLost where nothing comes.
        clock: for waiting.

    Raises:
        SourceMissing: it is not there, and ``live.wait_at_start`` is off.
        ConfigError: it does not offer what the settings ask for.
    """

    def __init__(
        self, address: str, options: SourceOptions, opener: Opener, clock: Clock | None = None
    ) -> None:
        self._clock = clock or MonotonicClock()
        self._address = address
        self._live = LiveOptions.from_extra(options.extra)
        self._options = replace(options, extra={**options.extra, "stopping": self._over})
        self._opener = opener
        self._inner: Source | None = None
        self._faults: Counter[str] = Counter()
        self._duration_ns = None if options.duration_s is None else int(options.duration_s * 1e9)
        self._started_ns = self._clock.now_ns()
        self._first_ns: int | None = None
        self._last_ns = self._live.last_arrival_ns
        self._lost_ns: int | None = None if self._last_ns is None else self._started_ns
        self._reason = ""
        self._next_seq = self._live.first_seq
        self._session_seq: int | None = None  # of the session's picture 0 in the whole series
        self._timeline = LiveTimeline(self._live.origin_ns)
        self.info = SourceInfo(
            address, "live", _ASSUMED_SIZE_HW, None, TIME_BASE, assumed=("size", "fps"), live=True
        )
        self._open_first()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def faults(self) -> dict[str, int]:
        """The sources' own, and ``signal_lost``, ``reconnects``, ``stalls``, ``size_change``, ``clock_jumps``."""
        counts = self._faults + Counter({"clock_jumps": self._timeline.jumps})
        return dict(counts + Counter(self._inner.faults if self._inner is not None else {}))

    def close(self) -> None:
        """Close the source."""
        if self._inner is not None:
            self._faults.update(self._inner.faults)
            self._inner.close()
            self._inner = None

    def _over(self) -> bool:
        return self._live.stopping() or self._left_ns() <= 0

    def _left_ns(self) -> int:
        """Time to the end of ``duration_s``; more than any wait where there is none."""
        if self._duration_ns is None:
            return 1 << 62
        if self._first_ns is not None:
            return self._first_ns + self._duration_ns - self._clock.now_ns()
        patience_ns = max(self._duration_ns, int(self._live.settings.open_timeout_s * 1e9))
        return self._started_ns + patience_ns - self._clock.now_ns()

    def _open_first(self) -> None:
        waits = self._live.settings.wait_at_start or self._live.first_seq > 0
        try:
            self._inner = self._opener(self._address, self._options)
            self._take_info(self._inner.info)
        except SourceLost as error:
            self._lose(error)
        except SourceMissing as error:
            if not waits:
                raise
            self._lose(error)

    def _take_info(self, info: SourceInfo) -> None:
        if self.info.kind != "live" and info.size_hw != self.info.size_hw:
            self._faults["size_change"] += 1
            self._live.log(
                f"{self._name}: the picture is now {info.size_hw[1]} × {info.size_hw[0]}", "warning"
            )
        self.info = replace(info, time_base=TIME_BASE, live=True)

    @property
    def _name(self) -> str:
        return f"source: {redacted(self._address)}"

    def __iter__(self) -> Iterator[SourcePicture]:
        """Pictures, whatever happens in between.

        Raises:
            SourceLost: it is given up (``live.give_up_s``), or ``duration_s`` is over without a single picture.
        """
        backoff_ns = 0
        while not self._over():
            if self._inner is None:
                backoff_ns = self._wait_to_try(backoff_ns)
                if self._over() or not self._open_again():
                    continue
            assert self._inner is not None
            try:
                for picture in self._inner:
                    if self._over():
                        break
                    backoff_ns = 0
                    yield self._joined(picture)
            except SourceLost as error:
                self.close()
                self._lose(error)
        if self._last_ns is None and not self._live.stopping():
            waited_s = (self._clock.now_ns() - self._started_ns) / 1e9
            raise SourceLost(f"{self._name}; not one picture came in {waited_s:.1f} s{self._because}")

    @property
    def _because(self) -> str:
        return f" ({self._reason})" if self._reason else ""

    # Losing it and coming back

    def _lose(self, error: EndostreamError) -> None:
        """Note a loss; a reason is logged once, not with each attempt. That the run ends is none."""
        if self._live.stopping():
            return
        said = redacted(str(error))
        named = said.startswith(f"{self._name}; ")
        reason = said.removeprefix(f"{self._name}; ") if named else said.partition("; ")[2] or said
        reason = reason.partition(". Try:")[0]
        now_ns = self._clock.now_ns()
        if self._lost_ns is None:
            self._lost_ns = now_ns
            self._faults["signal_lost"] += 1
            self._live.log(f"{self._name}; lost: {reason}. It is tried again until it is back", "warning")
        elif reason != self._reason:
            self._live.log(f"{self._name}; still lost: {reason}", "warning")
        self._reason = reason

    def _wait_to_try(self, backoff_ns: int) -> int:
        """Wait before the next attempt; returns the wait before the one after it. Raises SourceLost to give up."""
        settings = self._live.settings
        wait_ns = backoff_ns or int(settings.backoff_min_s * 1e9)
        due_ns = self._clock.now_ns() + wait_ns
        while not self._over() and (now_ns := self._clock.now_ns()) < due_ns:
            lost_s = (now_ns - (self._lost_ns or now_ns)) / 1e9
            if settings.give_up_s and lost_s > settings.give_up_s:
                raise SourceLost(f"{self._name}; given up after {lost_s:.1f} s{self._because}")
            self._clock.sleep_until_ns(min(due_ns, now_ns + _STEP_NS))
        return min(2 * wait_ns, int(settings.backoff_max_s * 1e9))

    def _open_again(self) -> bool:
        try:
            self._inner = self._opener(self._address, self._options)
        except EndostreamError as error:  # the signal may fit the settings again
            self._lose(error)
            return False
        self._timeline.restart()
        self._take_info(self._inner.info)
        self._session_seq = None
        return True

    # Joining

    def _joined(self, picture: SourcePicture) -> SourcePicture:
        arrival_ns = self._clock.now_ns() if picture.arrival_ns is None else picture.arrival_ns
        if picture.size_hw != self.info.size_hw:
            self._take_info(replace(self.info, size_hw=picture.size_hw))
        if self._session_seq is None:
            lost = 0 if self._last_ns is None else self._frames_in(arrival_ns - self._last_ns) - 1
            self._session_seq = self._next_seq + max(0, lost) - picture.seq
        self._note_return(arrival_ns)
        if self._first_ns is None:
            self._first_ns = self._clock.now_ns()
        seq = self._session_seq + picture.seq
        self._next_seq, self._last_ns = seq + 1, arrival_ns
        sent_ns = picture.pts * picture.time_base.numerator * 1_000_000_000 // picture.time_base.denominator
        pts = self._timeline.pts(sent_ns, arrival_ns)
        return replace(picture, seq=seq, pts=pts, time_base=TIME_BASE, arrival_ns=arrival_ns)

    def _frames_in(self, silent_ns: int) -> int:
        return round(silent_ns * (self.info.fps or _ASSUMED_FPS) / 1_000_000_000)

    def _note_return(self, arrival_ns: int) -> None:
        """Log the end of a loss, or of a silence that the source got over by itself."""
        silent_ns = 0 if self._last_ns is None else arrival_ns - self._last_ns
        if self._lost_ns is not None and self._last_ns is None:
            waited_s = (arrival_ns - self._started_ns) / 1e9
            self._live.log(f"{self._name}; its first picture came after {waited_s:.2f} s", "warning")
            self._lost_ns, self._reason = None, ""
        elif self._lost_ns is not None:
            self._faults["reconnects"] += 1
            self._live.log(
                f"{self._name}; is back after {silent_ns / 1e9:.2f} s without a picture", "warning"
            )
            self._lost_ns, self._reason = None, ""
        elif silent_ns > STALL_NS:
            self._faults["stalls"] += 1
            self._live.log(f"{self._name}; no picture came for {silent_ns / 1e9:.2f} s", "warning")
