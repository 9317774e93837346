"""Winning a live source back, with sources made up for it and a clock that stands still."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

import pytest

from endostream.configs.errors import ConfigError, SourceLost, SourceMissing
from endostream.pipeline.clock import VirtualClock
from endostream.pipeline.frame import ImageBgr, SizeHW, SourcePicture
from endostream.pipeline.source import Source, SourceInfo, SourceOptions
from endostream.pipeline.sources.live_timeline import TIME_BASE
from endostream.pipeline.sources.reconnect import ReconnectingSource

PERIOD_NS = 40_000_000
NAME = "source: rtsp://***@tower/1"
ADDRESS = "rtsp://user:secret@tower/1"


def fill(out: ImageBgr) -> None:
    out[:] = 1


@dataclass
class Session:
    """One connection: so many pictures, seqs as given, then ``error``."""

    seqs: tuple[int, ...]
    error: Exception | None = field(default_factory=lambda: SourceLost(f"{NAME}; the sender has ended"))
    size_hw: SizeHW = (4, 6)
    faults: dict[str, int] = field(default_factory=dict)


class FakeSource:
    """Plays a session, 25 pictures a second on the virtual clock."""

    def __init__(self, session: Session, clock: VirtualClock, closed: list[Session]) -> None:
        self._session, self._clock, self._closed = session, clock, closed
        self.faults = session.faults
        self.info = SourceInfo(
            ADDRESS, "stream", session.size_hw, Fraction(25), Fraction(1, 1000), codec="h264", live=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        for seq in self._session.seqs:
            now_ns = self._clock.now_ns()
            yield SourcePicture(seq, 40 * seq, Fraction(1, 1000), self._session.size_hw, fill, now_ns)
            self._clock.advance_ns(PERIOD_NS)
        if self._session.error is not None:
            raise self._session.error

    def close(self) -> None:
        self._closed.append(self._session)


class Tower:
    """Opens one thing of ``plan`` after the other: sessions, and errors that opening ends in."""

    def __init__(self, *plan: Session | Exception) -> None:
        self.plan = list(plan)
        self.clock = VirtualClock(1_000_000_000)
        self.log: list[str] = []
        self.opened_ns: list[int] = []
        self.closed: list[Session] = []
        self.stop = False

    def open(self, address: str, options: SourceOptions) -> Source:
        assert address == ADDRESS
        self.opened_ns.append(self.clock.now_ns())
        if not self.plan:
            self.stop = True
            raise SourceLost(f"{NAME}; no more")
        planned = self.plan.pop(0)
        if isinstance(planned, Exception):
            raise planned
        return FakeSource(planned, self.clock, self.closed)

    def source(
        self, duration_s: float | None = None, extra: dict[str, Any] | None = None, **live: Any
    ) -> Source:
        told: dict[str, Any] = {
            "live": live,
            "stopping": lambda: self.stop,
            "log": lambda text, level: self.log.append(text.removeprefix(f"{NAME}; ")),
            **(extra or {}),
        }
        options = SourceOptions(duration_s=duration_s, extra=told)
        return ReconnectingSource(ADDRESS, options, self.open, self.clock)


LOST = SourceLost(f"{NAME}; no picture in 10 s")
MISSING = SourceMissing(f"{NAME}; connection refused. Try: something")


def test_a_lost_source_is_opened_again_and_its_pictures_go_on_with_a_gap_for_the_time_away() -> None:
    tower = Tower(Session((0, 1, 2)), LOST, Session((0, 1)))
    source = tower.source(backoff_min_s=0.2)
    with source:
        found = [(picture.seq, picture.pts) for picture in source]
    # Lost at 0.12 s, tried at 0.32 and, twice as long after that, at 0.72 s: 0.64 s after the last picture.
    assert found == [(0, 0), (1, 3600), (2, 7200), (18, 64800), (19, 68400)]
    assert source.faults == {"signal_lost": 2, "reconnects": 1}
    assert tower.log == [
        "lost: the sender has ended. It is tried again until it is back",
        "still lost: no picture in 10 s",
        "is back after 0.64 s without a picture",
        "lost: the sender has ended. It is tried again until it is back",
    ]
    assert len(tower.closed) == 2


def test_waits_double_up_to_the_longest_and_begin_small_after_each_return() -> None:
    tower = Tower(Session((0,)), LOST, LOST, LOST, Session((0,)), Session((0,)))
    with tower.source(backoff_min_s=0.1, backoff_max_s=0.3) as source:
        list(source)
    waits_ms = [(later - earlier) // 1_000_000 for earlier, later in pairwise(tower.opened_ns)]
    assert waits_ms == [140, 200, 300, 300, 140, 140]


def test_a_reason_is_logged_once_and_never_with_a_credential() -> None:
    secret = SourceLost("source: rtsp://user:secret@tower/1; refused rtsp://user:secret@tower/1")
    tower = Tower(Session((0,)), secret, secret, secret)
    with tower.source() as source:
        list(source)
    assert tower.log == [
        "lost: the sender has ended. It is tried again until it is back",
        "still lost: refused rtsp://***@tower/1",
    ]


def test_what_is_wrong_with_the_address_is_told_at_the_start() -> None:
    with pytest.raises(SourceMissing, match="connection refused"):
        Tower(MISSING).source()
    with pytest.raises(ConfigError, match="a size"):
        Tower(ConfigError("a size")).source(wait_at_start=True)


def test_it_is_waited_for_where_that_was_asked_for_or_capture_was_restarted() -> None:
    for extra, live in (
        ({}, {"wait_at_start": True}),
        ({"first_seq": 7, "last_arrival_ns": 990_000_000}, {}),
    ):
        tower = Tower(MISSING, Session((0,)))
        with tower.source(extra=extra, **live) as source:
            assert len(list(source)) == 1


def test_a_source_without_a_signal_is_waited_for_and_says_little_of_itself_until_then() -> None:
    tower = Tower(LOST, Session((0, 1), size_hw=(8, 8)))
    with tower.source() as source:
        assert (source.info.kind, source.info.fps) == ("live", None)
        assert [picture.seq for picture in source] == [0, 1]
    assert (source.info.kind, source.info.size_hw, source.info.time_base) == ("stream", (8, 8), TIME_BASE)
    assert "its first picture came after 0.10 s" in tower.log
    assert "size_change" not in source.faults


def test_a_restarted_capture_goes_on_counting_and_keeps_the_time() -> None:
    tower = Tower(Session((0, 1)))
    extra = {"first_seq": 50, "origin_ns": 0, "last_arrival_ns": 920_000_000}
    with tower.source(extra=extra) as source:
        found = [(picture.seq, picture.pts) for picture in source]
    assert found == [(51, 90_000), (52, 93_600)]  # 80 ms after the last picture: one was lost


def test_gaps_that_the_source_knows_of_stay_and_its_faults_add_up() -> None:
    tower = Tower(Session((0, 2), faults={"superseded": 1}), Session((1, 4), faults={"superseded": 2}))
    with tower.source() as source:
        seqs = [picture.seq for picture in source]
    assert [later - earlier for earlier, later in pairwise(seqs)] == [2, 4, 3]
    assert source.faults["superseded"] == 3


def test_another_size_after_the_return_is_counted_and_told() -> None:
    tower = Tower(Session((0,)), Session((0,), size_hw=(8, 8)))
    with tower.source() as source:
        sizes = [(picture.size_hw, source.info.size_hw) for picture in source]
    assert sizes == [((4, 6), (4, 6)), ((8, 8), (8, 8))]
    assert source.faults["size_change"] == 1


def test_a_silence_that_the_source_gets_over_by_itself_is_a_stall() -> None:
    tower = Tower(Session((0, 1)))
    with tower.source() as source:
        pictures = iter(source)
        next(pictures)
        tower.clock.advance_ns(900_000_000)
        next(pictures)
    assert source.faults == {"stalls": 1, "clock_jumps": 1}  # its own clock stood still
    assert tower.log == ["no picture came for 0.94 s"]


def test_it_is_given_up_after_the_time_that_was_set() -> None:
    tower = Tower(Session((0,)), *[LOST] * 100)
    with tower.source(give_up_s=3.0) as source, pytest.raises(SourceLost) as caught:
        list(source)
    assert str(caught.value).startswith(f"{NAME}; given up after 3.0")
    assert str(caught.value).endswith("s (no picture in 10 s)")


def test_duration_counts_from_the_first_picture() -> None:
    tower = Tower(LOST, Session(tuple(range(100))))
    with tower.source(duration_s=0.2) as source:
        assert [picture.seq for picture in source] == [0, 1, 2, 3, 4]


def test_a_duration_over_without_a_single_picture_is_a_lost_source() -> None:
    tower = Tower(*[LOST] * 100)
    with tower.source(duration_s=1.0, open_timeout_s=2.0) as source, pytest.raises(SourceLost) as caught:
        list(source)
    assert str(caught.value) == f"{NAME}; not one picture came in 2.0 s (no picture in 10 s)"


def test_it_ends_without_a_word_when_the_run_does() -> None:
    tower = Tower(LOST)
    source = tower.source()
    tower.stop = True
    with source:
        assert list(source) == []


def test_a_run_that_ends_while_the_first_picture_is_waited_for_has_lost_nothing() -> None:
    tower = Tower()  # stops the run while it opens
    with tower.source() as source:
        assert list(source) == []
    assert (tower.log, source.faults) == ([], {})
