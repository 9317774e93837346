"""Faults of a live set-up, put into any source on purpose: to rehearse from a recording what a theatre will
bring.

Separate from the sources, so that it wraps each of them alike, and from capture, which cannot tell these from
real ones. What is done, and with which seed, is counted, logged and reported, so that a rehearsal is never
taken for a recording.

A source is disturbed as a grabber would be: a frozen grabber repeats its last picture at new times, a torn
one gives new lines above old ones, and while a cable is off the endoscope goes on, so that time passes and
pictures are lost.
"""

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import NamedTuple, Self

import numpy as np

from endostream.configs.schema import FaultSettings
from endostream.pipeline.frame import ImageBgr, SourcePicture
from endostream.pipeline.source import Source

LOG_LENGTH = 1000
"""Events kept; the counts go on."""
_KINDS = ("disconnect", "lose", "freeze", "black", "tear")
_JITTER_LIMIT = 3.0
"""In deviations: a normal deviate has no end, a frame queue has."""


class FaultEvent(NamedTuple):
    """What was done to which picture: ``seq`` at the source, and the kind as the settings name it."""

    seq: int
    kind: str


class _Fault(NamedTuple):
    """What is to be done to one picture.

    ``kind`` is "" for nothing and "away" for a picture that passes while the source is disconnected; ``cut``
    in [0, 1) is where a torn picture is cut.
    """

    kind: str
    late_ns: int
    cut: float


class FaultySource:
    """Wraps ``source``; the same settings and source give the same faults, other ones in each loop.

    At most one fault a picture, the graver first: disconnect, lose, freeze, black, tear. Jitter comes on top:
    a picture is released late by the absolute value of a normal deviate of ``jitter_ms``, at most three of
    it. A live source is as late as it is: jitter leaves pictures with an ``arrival_ns`` alone.

    Args:
        source: opened; it is closed with this one.
        settings: the ``replay.faults`` section: probabilities per picture, and how long faults last.
        seed: instead of the settings' own.

    Attributes:
        info: of the source, with the faults' seed where it has none of its own.
        log: the last 1000 faults, jitter and pictures lost while disconnected left out.
    """

    def __init__(self, source: Source, settings: FaultSettings, seed: int | None = None) -> None:
        self._source = source
        self._settings = settings
        self._seed = settings.seed if seed is None else seed
        self._loop = 0
        self._counts: Counter[str] = Counter()
        self._shown: ImageBgr | None = None
        self.info = source.info
        if source.info.seed is None:
            self.info = replace(source.info, seed=self._seed)
        self.log: deque[FaultEvent] = deque(maxlen=LOG_LENGTH)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[SourcePicture]:
        """The source's pictures with faults; a lost one is a gap in ``seq``, a disconnect one in time too."""
        plan = _FaultPlan(self._settings, np.random.default_rng((self._seed, self._loop)))
        self._loop += 1
        self._shown = None
        for picture in self._source:
            fault = plan.next(picture.time_s)
            self._note(picture, fault)
            if fault.kind in ("lose", "disconnect", "away"):
                continue
            late_ns = fault.late_ns if picture.arrival_ns is None else 0
            yield replace(picture, fill=partial(self._fill, picture, fault), release_offset_ns=late_ns)

    @property
    def faults(self) -> dict[str, int]:
        """The source's own, and those made here as ``simulated_…``; ``simulated_away`` counts pictures lost
        while disconnected."""
        return {**self._source.faults, **self._counts}

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _note(self, picture: SourcePicture, fault: _Fault) -> None:
        if fault.kind:
            self._counts[f"simulated_{fault.kind}"] += 1
        if fault.kind and fault.kind != "away":
            self.log.append(FaultEvent(picture.seq, fault.kind))
        if fault.late_ns and picture.arrival_ns is None:
            self._counts["simulated_jitter"] += 1

    def _fill(self, picture: SourcePicture, fault: _Fault, out_bgr: ImageBgr) -> None:
        before = self._shown if self._shown is not None and self._shown.shape == out_bgr.shape else None
        if fault.kind == "freeze" and before is not None:
            np.copyto(out_bgr, before)
            return
        if fault.kind == "black":
            out_bgr[...] = 0
        else:
            picture.fill(out_bgr)
        if fault.kind == "tear" and before is not None:
            first_old_row = 1 + int(fault.cut * (len(out_bgr) - 1))
            out_bgr[first_old_row:] = before[first_old_row:]
        self._keep(out_bgr)

    def _keep(self, shown_bgr: ImageBgr) -> None:
        """Remember what was shown, where a later fault may need it: a copy of 1080p takes over a
        millisecond."""
        if not (self._settings.freeze or self._settings.tear):
            return
        if self._shown is None or self._shown.shape != shown_bgr.shape:
            self._shown = np.empty_like(shown_bgr)
        np.copyto(self._shown, shown_bgr)


class _FaultPlan:
    """Draws as many numbers for each picture, whatever the settings, so that one setting does not shift
    another."""

    def __init__(self, settings: FaultSettings, random: np.random.Generator) -> None:
        self._settings = settings
        self._random = random
        self._probability = {kind: getattr(settings, kind) for kind in _KINDS}
        self._frozen_left = 0
        self._any_shown = False
        self._away_until_s = -math.inf

    def next(self, time_s: float) -> _Fault:
        """What happens to the picture at stream time ``time_s``."""
        draws, cut = self._random.random(len(_KINDS)), float(self._random.random())
        deviate = min(abs(float(self._random.standard_normal())), _JITTER_LIMIT)
        kind = next(
            (kind for kind, draw in zip(_KINDS, draws, strict=True) if draw < self._probability[kind]), ""
        )
        return _Fault(self._lasting(kind, time_s), round(deviate * self._settings.jitter_ms * 1e6), cut)

    def _lasting(self, kind: str, time_s: float) -> str:
        """``kind``, unless an earlier disconnect or freeze goes on, or there is no picture yet to repeat."""
        if time_s < self._away_until_s:
            return "away"
        if kind == "disconnect":
            self._away_until_s = time_s + self._settings.disconnect_s
        if kind in ("disconnect", "lose"):
            return kind
        if self._frozen_left:
            self._frozen_left -= 1
            return "freeze"
        if kind in ("freeze", "tear") and not self._any_shown:
            kind = ""
        self._any_shown = True
        if kind == "freeze":
            self._frozen_left = self._settings.freeze_frames - 1
        return kind
