"""Preprocess: what the network eats is made from whole pictures only, by the one transform, in RGB."""

import numpy as np
import pytest

from endostream.models.field_of_view import FieldOfView
from endostream.models.transform import Transform
from endostream.pipeline.frame import FrameKey, ImageBgr
from endostream.pipeline.link import Received
from endostream.pipeline.preprocess import PreprocessStage
from endostream.pipeline.ring import FrameRing
from endostream.pipeline.stage import Drop, Output
from endostream.pipeline.wire import FrameHeader, Kind

from .core_fixtures import header, ring_of

SIZE, INPUT = (96, 128), (32, 32)
NO_MESSAGE = Received(Kind.FRAME, b"", None, 0, 1, 1, b"")


def tissue(size_hw: tuple[int, int] = SIZE) -> ImageBgr:
    image = np.random.default_rng(2).integers(60, 200, (*size_hw, 3), dtype=np.uint8)
    image[..., 0] = 20  # blue, so that a channel in the wrong place shows
    return image


def put(ring: FrameRing, image_bgr: ImageBgr, seq: int = 0, source: int = 0) -> FrameHeader:
    ring.begin(0)[:] = image_bgr
    generation = ring.commit(0)
    return header(seq, key=FrameKey(source, 0, seq), size_hw=image_bgr.shape[:2], generation=generation)


def process(stage: PreprocessStage, made: FrameHeader) -> Output:
    return stage.process(NO_MESSAGE, made)


def tensor_of(output: Output) -> np.ndarray:
    height, width = output.header.size_hw
    return np.frombuffer(output.payload, np.uint8, height * width * 3).reshape(height, width, 3)


def view_of(output: Output) -> np.ndarray:
    height, width = output.header.size_hw
    bits = np.frombuffer(output.payload, np.uint8, offset=height * width * 3)
    return np.unpackbits(bits, count=height * width).reshape(height, width).astype(np.bool_)


def test_the_tensor_is_the_picture_through_the_one_transform_in_rgb() -> None:
    with ring_of(4, SIZE) as ring:
        image = tissue()
        output = process(PreprocessStage(INPUT, {0: ring}.get, find_view=False), put(ring, image))
        transform = Transform.of_picture(SIZE, INPUT)
        assert (tensor_of(output) == transform.forward(image)[..., ::-1]).all()
        assert output.header.transform == transform.to_ints()
        assert (output.kind, output.header.size_hw) == (Kind.TENSOR, INPUT)


def test_the_view_travels_as_a_mask_that_leaves_the_padding_out() -> None:
    with ring_of(4, SIZE) as ring:
        stage = PreprocessStage(INPUT, {0: ring}.get, find_view=False)
        output = process(stage, put(ring, tissue()))
        view = FieldOfView.whole(SIZE).mask_at_input(Transform.of_picture(SIZE, INPUT))
        assert (view_of(output) == view).all()
        assert len(output.payload) == 32 * 32 * 3 + 32 * 32 // 8


def test_the_black_border_is_cropped_where_the_view_is_looked_for() -> None:
    with ring_of(4, (192, 256)) as ring:
        image = np.zeros((192, 256, 3), np.uint8)
        image[16:176, 48:208] = tissue((160, 160))
        output = process(PreprocessStage(INPUT, {0: ring}.get), put(ring, image))
        transform = Transform.from_ints(output.header.transform)
        assert abs(transform.roi.left - 48) <= 4
        assert abs(transform.roi.width - 160) <= 8
        assert tensor_of(output).min() > 0


def test_a_picture_overwritten_before_it_was_read_is_dropped() -> None:
    with ring_of(4, SIZE) as ring:
        old = put(ring, tissue())
        put(ring, tissue())
        with pytest.raises(Drop, match="overwritten"):
            process(PreprocessStage(INPUT, {0: ring}.get), old)


def test_a_picture_overwritten_while_it_was_read_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    with ring_of(4, SIZE) as ring:
        made = put(ring, tissue())
        forward = Transform.forward

        def slow(self: Transform, image: ImageBgr) -> ImageBgr:
            result = forward(self, image)
            ring.begin(0)
            return result

        monkeypatch.setattr(Transform, "forward", slow)
        with pytest.raises(Drop, match="overwritten"):
            process(PreprocessStage(INPUT, {0: ring}.get), made)


def test_a_picture_of_a_ring_that_is_gone_is_dropped() -> None:
    with pytest.raises(Drop, match="overwritten"):
        process(PreprocessStage(INPUT, lambda ring_id: None), header(size_hw=SIZE))


def test_a_picture_of_another_size_gets_a_transform_of_its_own() -> None:
    with ring_of(4, SIZE) as ring, ring_of(4, (64, 64)) as other:
        stage = PreprocessStage(INPUT, {0: ring, 1: other}.get, find_view=False)
        first = process(stage, put(ring, tissue()))
        made = put(other, tissue((64, 64)))
        second = process(stage, header(1, size_hw=(64, 64), ring=1, generation=made.generation))
        assert Transform.from_ints(first.header.transform).source_hw == SIZE
        assert Transform.from_ints(second.header.transform).source_hw == (64, 64)
        again = process(stage, put(ring, tissue(), 2))
        assert again.header.transform == first.header.transform


def test_another_source_starts_with_a_view_of_its_own() -> None:
    with ring_of(4, (192, 256)) as ring:
        stage = PreprocessStage(INPUT, {0: ring}.get)
        bordered = np.zeros((192, 256, 3), np.uint8)
        bordered[16:176, 48:208] = tissue((160, 160))
        first = process(stage, put(ring, bordered, 0, source=0))
        second = process(stage, put(ring, tissue((192, 256)), 0, source=1))
        assert Transform.from_ints(first.header.transform).roi.width < 256
        assert Transform.from_ints(second.header.transform).roi.width == 256


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 3), (16, 16), (7, 300)])
def test_pictures_of_any_size_become_tensors(size_hw: tuple[int, int]) -> None:
    with ring_of(2, size_hw) as ring:
        stage = PreprocessStage(INPUT, {0: ring}.get)
        stage.open()
        output = process(stage, put(ring, tissue(size_hw)))
        assert tensor_of(output).shape == (*INPUT, 3)
        stage.close()


def test_the_captured_picture_is_never_written_to() -> None:
    with ring_of(4, SIZE) as ring:
        image = tissue()
        process(PreprocessStage(INPUT, {0: ring}.get), put(ring, image))
        assert (ring.view(0) == image).all()
