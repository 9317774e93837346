"""The infer stage: what is no mask is a failure with a cause, and nothing outside the view is ever found."""

import zlib
from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import ConfigError, ModelError
from endostream.models import segmenter as registry
from endostream.models.segmenter import ImageRgb, Segmentation, SegmenterInfo, SegmenterLost
from endostream.pipeline.infer import BadSegmentation, InferStage, check_segmentation
from endostream.pipeline.link import Received
from endostream.pipeline.stage import Drop, StageBroken
from endostream.pipeline.wire import Kind, MaskHeader, TensorHeader

from .core_fixtures import header

SIZE = (4, 6)
TRANSFORM = (4, 6, 0, 0, 4, 6, 4, 6)
VIEW = (0, 0, 4, 6, 0, 0)


class FakeSegmenter:
    """Answers with what it is told; keeps what it was given."""

    def __init__(self, answer: Any = None, input_hw: tuple[int, int] = SIZE) -> None:
        self.info = SegmenterInfo("fake", (input_hw[0], input_hw[1]), "numpy")
        self.answer = answer
        self.seen: list[ImageRgb] = []
        self.warm = self.closed = 0

    def warm_up(self) -> None:
        self.warm += 1

    def segment(self, image_rgb: ImageRgb, output: str = "mask") -> Any:
        self.seen.append(image_rgb)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def close(self) -> None:
        self.closed += 1


def everything() -> Segmentation:
    return Segmentation(np.ones(SIZE, np.bool_))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSegmenter:
    made = FakeSegmenter(everything())
    monkeypatch.setattr("endostream.pipeline.infer.load_segmenter", lambda name, options, **_: made)
    return made


def opened() -> InferStage:
    stage = InferStage("fake", {})
    stage.open()
    return stage


def tensor(view: np.ndarray | None = None) -> tuple[Received, TensorHeader]:
    view = np.ones(SIZE, np.bool_) if view is None else view
    pixels = np.arange(72, dtype=np.uint8).tobytes()
    made = TensorHeader(header(3), TRANSFORM, SIZE, VIEW)
    return Received(Kind.TENSOR, b"", pixels + np.packbits(view).tobytes(), 0, 1, 1, b""), made


def test_a_tensor_reaches_the_segmenter_as_it_was_sent(fake: FakeSegmenter) -> None:
    opened().process(*tensor())
    (image,) = fake.seen
    assert (image.shape, image.dtype) == ((4, 6, 3), np.uint8)
    assert image.ravel().tolist() == list(range(72))


def test_the_mask_goes_on_with_frame_transform_view_and_sum(fake: FakeSegmenter) -> None:
    output = opened().process(*tensor())
    packed = np.packbits(np.ones(SIZE, np.bool_)).tobytes()
    assert (output.kind, output.payload) == (Kind.MASK, packed)
    assert output.header == MaskHeader(header(3), TRANSFORM, SIZE, zlib.crc32(packed), VIEW)


def test_findings_outside_the_field_of_view_are_cut_off(fake: FakeSegmenter) -> None:
    view = np.zeros(SIZE, np.bool_)
    view[1:3, 2:4] = True
    output = opened().process(*tensor(view))
    assert output.payload == np.packbits(view).tobytes()
    assert output.header.crc32 == zlib.crc32(output.payload)


def test_equal_masks_have_equal_sums_whatever_was_found_outside_the_view(fake: FakeSegmenter) -> None:
    view = np.zeros(SIZE, np.bool_)
    view[0, 0] = True
    stage = opened()
    first = stage.process(*tensor(view)).header.crc32
    only = np.zeros(SIZE, np.bool_)
    only[0, 0] = True
    fake.answer = Segmentation(only)
    assert stage.process(*tensor(view)).header.crc32 == first


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Segmentation(np.ones((4, 5), np.bool_)), r"mask: bool \(4, 5\); expected bool \(4, 6\)"),
        (Segmentation(np.ones((6, 4), np.bool_)), r"mask: bool \(6, 4\)"),
        (Segmentation(np.ones((1, 4, 6), np.bool_)), r"mask: bool \(1, 4, 6\)"),
        (Segmentation(np.ones(SIZE, np.uint8)), r"mask: uint8 \(4, 6\); expected bool"),  # type: ignore[arg-type]
        (Segmentation(np.ones(SIZE, np.float32)), r"mask: float32"),  # type: ignore[arg-type]
        (Segmentation(np.full(SIZE, np.nan)), r"mask: float64"),  # type: ignore[arg-type]
        (Segmentation(np.ones(SIZE, np.bool_), np.full(SIZE, np.nan, np.float32)), "prob: not finite"),
        (Segmentation(np.ones(SIZE, np.bool_), np.full(SIZE, np.inf, np.float32)), "prob: not finite"),
    ],
)
def test_an_answer_that_is_no_mask_is_a_failure(
    fake: FakeSegmenter, answer: Segmentation, message: str
) -> None:
    fake.answer = answer
    with pytest.raises(BadSegmentation, match=message):
        opened().process(*tensor())


@pytest.mark.parametrize("answer", [None, np.ones(SIZE, np.bool_), "mask"])
def test_an_answer_that_is_no_segmentation_is_an_error(fake: FakeSegmenter, answer: Any) -> None:
    fake.answer = answer
    with pytest.raises(AttributeError):
        opened().process(*tensor())


def test_what_the_segmenter_raises_is_not_swallowed(fake: FakeSegmenter) -> None:
    fake.answer = MemoryError("none left")
    with pytest.raises(MemoryError, match="none left"):
        opened().process(*tensor())


def test_a_segmenter_that_cannot_go_on_ends_the_stage_at_once(fake: FakeSegmenter) -> None:
    fake.answer = SegmenterLost("cudaGraphLaunch: cudaErrorIllegalAddress")
    with pytest.raises(StageBroken, match="infer: cudaGraphLaunch: cudaErrorIllegalAddress"):
        opened().process(*tensor())


def test_runtime_and_progress_reach_a_segmenter_that_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int]] = []

    def make(runtime: str = "auto", *, progress: Any = None) -> FakeSegmenter:
        progress(f"building for {runtime}", 40)
        return FakeSegmenter(input_hw=(320, 320))

    monkeypatch.setattr(registry, "_segmenter_class", lambda name: make)
    InferStage("own.module:make", {}, "rtx", lambda what, percent: told.append((what, percent))).open()
    assert told == [("building for rtx", 40)]


def test_a_segmenter_that_takes_no_progress_is_opened_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_segmenter_class", lambda name: lambda: FakeSegmenter(input_hw=(320, 320)))
    stage = InferStage("own.module:make", {}, "auto", lambda what, percent: None)
    stage.open()
    assert stage.segmenter.info.input_hw == (320, 320)


def test_a_good_mask_passes_the_check_as_it_is() -> None:
    mask = np.eye(4, 6, dtype=np.bool_)
    assert check_segmentation(Segmentation(mask, np.zeros(SIZE, np.float32)), SIZE) is mask


@pytest.mark.parametrize("payload", [None, b"", bytes(72), bytes(74), bytes(76)])
def test_a_payload_of_another_length_is_dropped_as_invalid(
    fake: FakeSegmenter, payload: bytes | None
) -> None:
    message, made = tensor()
    message.payload = payload
    with pytest.raises(Drop, match="invalid"):
        opened().process(message, made)
    assert fake.seen == []


def test_a_crafted_size_costs_no_memory(fake: FakeSegmenter) -> None:
    message, _ = tensor()
    with pytest.raises(Drop, match="invalid"):
        opened().process(message, TensorHeader(header(3), TRANSFORM, (2**32 - 1, 2**32 - 1)))


def test_a_mask_of_odd_memory_layout_is_packed_row_by_row(fake: FakeSegmenter) -> None:
    mask = np.zeros((8, 12), np.bool_)
    mask[0, ::2] = True
    fake.answer = Segmentation(mask[::2, ::2])
    output = opened().process(*tensor())
    expected = np.zeros(SIZE, np.bool_)
    expected[0] = True
    assert output.payload == np.packbits(expected).tobytes()


def test_opening_warms_the_segmenter_up_and_closing_closes_it(fake: FakeSegmenter) -> None:
    stage = opened()
    assert (fake.warm, stage.segmenter) == (1, fake)
    stage.close()
    assert fake.closed == 1


def test_closing_what_was_never_opened_is_no_error() -> None:
    InferStage("fake", {}).close()


def test_an_unopened_stage_says_so() -> None:
    with pytest.raises(RuntimeError, match="infer: not open"):
        _ = InferStage("fake", {}).segmenter


def test_an_unknown_segmenter_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"segmenter: 'fmc'; expected one of .*fcm"):
        InferStage("fmc", {}).open()


def test_a_segmenter_that_cannot_be_imported_is_a_model_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.SEGMENTERS, "gone", "endostream.models.there_is_no_such:Thing")
    with pytest.raises(ModelError, match="segmenter gone: cannot be loaded here"):
        InferStage("gone", {}).open()
