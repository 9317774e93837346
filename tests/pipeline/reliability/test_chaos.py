"""Stages that go wrong on command: how, for how long, and that they are sound otherwise."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from endostream.configs.schema import OverlaySettings
from endostream.models.segmenter import Segmentation, SegmenterInfo
from endostream.pipeline.clock import VirtualClock
from endostream.pipeline.frame import Annotation, Presented, SourcePicture
from endostream.pipeline.reliability import chaos
from endostream.pipeline.reliability.chaos import (
    ChaosError,
    ChaosOverlay,
    ChaosSegmenter,
    ChaosSink,
    ChaosSource,
    ChaosStage,
    Switch,
)
from endostream.pipeline.stage import Output
from endostream.pipeline.wire import Kind, TensorHeader, WireError, unpack_tensor

from ..core_fixtures import header, solid

SECOND_NS = 1_000_000_000


@dataclass
class FakeHost:
    """As much of a host as a switch needs."""

    clock: VirtualClock = field(default_factory=lambda: VirtualClock(SECOND_NS))
    on_chaos: Any = None

    def order(self, kind: str, for_s: float = 1.0) -> None:
        self.on_chaos({"t": "chaos", "kind": kind, "for_s": for_s})


@pytest.fixture
def host() -> FakeHost:
    return FakeHost()


@pytest.fixture
def switch(host: FakeHost) -> Switch:
    return Switch(host)  # type: ignore[arg-type]


class Tensors:
    """A stage that gives the same tensor each time."""

    name, takes, sends_again = "preprocess", Kind.FRAME, False

    def open(self) -> None: ...

    def process(self, message: Any, header: Any) -> Output:
        return Output(Kind.TENSOR, TensorHeader(header, (1, 2), (2, 2)), bytes(12))

    def close(self) -> None: ...


class Everywhere:
    """A segmenter that finds nothing."""

    info = SegmenterInfo("everywhere", (4, 6), "numpy")

    def warm_up(self) -> None: ...

    def segment(self, image_rgb: Any, output: Any = "mask") -> Segmentation:
        return Segmentation(np.zeros(image_rgb.shape[:2], np.bool_))

    def close(self) -> None: ...


def test_a_fault_lasts_as_long_as_it_was_ordered_for(host: FakeHost, switch: Switch) -> None:
    assert switch.kind == ""
    host.order("slow", 2.0)
    host.clock.advance_ns(2 * SECOND_NS - 1)
    assert switch.kind == "slow"
    host.clock.advance_ns(1)
    assert switch.kind == ""


def test_without_an_order_a_stage_is_as_it_was(switch: Switch) -> None:
    stage = ChaosStage(Tensors(), switch)
    output = stage.process(None, header())  # type: ignore[arg-type]
    assert (output.kind, output.payload) == (Kind.TENSOR, bytes(12))
    assert unpack_tensor(output.header.pack()).size_hw == (2, 2)


def test_a_stage_raises_on_command(host: FakeHost, switch: Switch) -> None:
    host.order("exception")
    with pytest.raises(ChaosError):
        ChaosStage(Tensors(), switch).process(None, header())  # type: ignore[arg-type]


def test_random_bytes_have_the_right_length_and_are_others_each_time(host: FakeHost, switch: Switch) -> None:
    host.order("random-bytes")
    stage = ChaosStage(Tensors(), switch)
    payloads = {stage.process(None, header()).payload for _ in range(3)}  # type: ignore[arg-type]
    assert {len(payload) for payload in payloads} == {12}
    assert len(payloads) == 3


def test_a_bad_header_is_none_that_a_reader_takes(host: FakeHost, switch: Switch) -> None:
    host.order("bad-header")
    output = ChaosStage(Tensors(), switch).process(None, header())  # type: ignore[arg-type]
    with pytest.raises(WireError):
        unpack_tensor(output.header.pack())


def test_ten_times_slower_sleeps_nine_times_what_the_work_took(
    host: FakeHost, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(chaos.time, "sleep", slept.append)
    host.order("slow")
    with switch.around():
        host.clock.advance_ns(20_000_000)
    assert slept == [pytest.approx(0.18)]


def test_a_leak_keeps_what_it_took_until_its_time_is_over(
    host: FakeHost, switch: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chaos, "LEAK_BYTES", 1000)
    host.order("leak")
    for _ in range(3):
        with switch.around():
            pass
    assert [block.nbytes for block in switch._hoard] == [1000, 1000, 1000]
    host.clock.advance_ns(2 * SECOND_NS)
    with switch.around():
        assert switch._hoard == []


@pytest.mark.parametrize(
    ("kind", "shape", "marked"), [("wrong-shape", (7, 5), 35), ("all-ones", (4, 6), 24), ("", (4, 6), 0)]
)
def test_a_segmenter_answers_with_garbage_on_command(
    host: FakeHost, switch: Switch, kind: str, shape: tuple[int, int], marked: int
) -> None:
    host.order(kind)
    mask = ChaosSegmenter(Everywhere(), switch).segment(solid(0)).mask
    assert (mask.shape, int(mask.sum())) == (shape, marked)


def test_a_segmenter_answers_with_no_numbers_on_command(host: FakeHost, switch: Switch) -> None:
    host.order("not-a-number")
    prob = ChaosSegmenter(Everywhere(), switch).segment(solid(0)).prob
    assert prob is not None
    assert np.isnan(prob).all()


def test_drawing_breaks_off_with_the_picture_spoilt(host: FakeHost, switch: Switch) -> None:
    overlay = ChaosOverlay(OverlaySettings(hud=False), "quick", switch)
    image_bgr = solid(7)
    overlay.draw(image_bgr, Annotation(), None, 0.0)
    assert (image_bgr == 7).all()
    host.order("scribble")
    with pytest.raises(ChaosError):
        overlay.draw(image_bgr, Annotation(), None, 0.0)
    assert not (image_bgr == 7).all()


class Pictures:
    """A source of three grey pictures."""

    info: Any = "info"

    def __init__(self) -> None:
        self.faults: dict[str, int] = {}
        self.closed = 0

    def __iter__(self) -> Any:
        for seq in range(3):
            yield SourcePicture(seq, seq, Fraction(1, 25), (4, 6), lambda out_bgr: out_bgr.fill(50))

    def close(self) -> None:
        self.closed += 1


def pictures_of(source: ChaosSource) -> list[Any]:
    found = []
    for picture in source:
        out_bgr = np.zeros((*picture.size_hw, 3), np.uint8)
        picture.fill(out_bgr)
        found.append(out_bgr)
    return found


def test_a_source_is_wrapped_unseen_and_closed(switch: Switch) -> None:
    inner = Pictures()
    with ChaosSource(inner, switch) as source:  # type: ignore[arg-type]
        assert source.info == "info"
        assert [(image_bgr == 50).all() for image_bgr in pictures_of(source)] == [True, True, True]
    assert inner.closed == 1


def test_a_source_gives_noise_half_sizes_or_nothing_but_an_error_on_command(
    host: FakeHost, switch: Switch
) -> None:
    source = ChaosSource(Pictures(), switch)  # type: ignore[arg-type]
    host.order("noise")
    assert all(len(np.unique(image_bgr)) > 10 for image_bgr in pictures_of(source))
    host.order("wrong-size")
    assert [image_bgr.shape for image_bgr in pictures_of(source)] == [(2, 3, 3)] * 3
    host.order("exception")
    with pytest.raises(ChaosError):
        pictures_of(source)


def test_a_sink_raises_on_command_and_is_closed(host: FakeHost, switch: Switch) -> None:
    written: list[Presented] = []

    class Keeps:
        def write(self, presented: Presented) -> None:
            written.append(presented)

        def close(self) -> None:
            written.clear()

    presented = Presented(frame=None)  # type: ignore[arg-type]
    sink = ChaosSink(Keeps(), switch)  # type: ignore[arg-type]
    sink.write(presented)
    host.order("exception")
    with pytest.raises(ChaosError):
        sink.write(presented)
    assert written == [presented]
    sink.close()
    assert written == []
