"""Raw pictures to BGR: the same colours as files have, whatever the layout."""

from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from endostream.configs.errors import ConfigError
from endostream.pipeline.frame import ImageBgr, SizeHW
from endostream.pipeline.sources.convert import Bytes, RawConverter, RawFormat
from endostream.replay.colour import BgrConverter

NUMBERS = {"bt709": 1, "bt601": 6, "bt2020": 9}


def scene(size_hw: SizeHW) -> ImageBgr:
    """A smooth picture of many colours."""
    small = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(cv2.resize(small, size_hw[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def raw_of(image: ImageBgr, pixel_format: str) -> Bytes:
    """The picture in a raw format, planes one behind the other without padding."""
    frame = av.VideoFrame.from_ndarray(image, format="bgr24").reformat(format=pixel_format)
    parts = []
    for plane, (rows, line) in zip(frame.planes, _shapes(frame), strict=True):
        lines = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        parts.append(lines[:rows, :line].ravel())
    return np.concatenate(parts)


def _shapes(frame: av.VideoFrame) -> list[tuple[int, int]]:
    height, width = frame.height, frame.width
    half_h, half_w = (height + 1) // 2, (width + 1) // 2
    deep = 2 if frame.format.components[0].bits > 8 else 1
    return {
        "yuv420p": [(height, width), (half_h, half_w), (half_h, half_w)],
        "yuv422p": [(height, width), (height, half_w), (height, half_w)],
        "yuv420p10le": [(height, deep * width), (half_h, deep * half_w), (half_h, deep * half_w)],
        "yuv444p": [(height, width)] * 3,
        "nv12": [(height, width), (half_h, 2 * half_w)],
        "yuyv422": [(height, 4 * half_w)],
        "uyvy422": [(height, 4 * half_w)],
        "gray": [(height, width)],
    }[frame.format.name]


def as_files_look(data: Bytes, raw: RawFormat) -> ImageBgr:
    """What ``replay.colour`` makes of the same values."""
    height, width = raw.size_hw
    frame = av.VideoFrame(width, height, raw.pixel_format)
    at = 0
    for plane, (rows, line) in zip(frame.planes, _shapes(frame), strict=True):
        padded = np.zeros((plane.buffer_size // plane.line_size, plane.line_size), np.uint8)
        padded[:rows, :line] = data[at : at + rows * line].reshape(rows, line)
        at += rows * line
        plane.update(padded.tobytes())
    frame.colorspace = NUMBERS[raw.matrix]
    frame.color_range = 2 if raw.range == "full" else 1
    image = np.empty((height, width, 3), np.uint8)
    BgrConverter().fill(frame, image)
    return image


def converted(data: Bytes, raw: RawFormat) -> ImageBgr:
    converter = RawConverter(raw)
    assert len(data) >= converter.frame_bytes
    image = np.zeros((*raw.size_hw, 3), np.uint8)
    converter.fill(data, image)
    return image


@pytest.mark.parametrize(
    "pixel_format", ["nv12", "yuyv422", "uyvy422", "yuv420p", "yuv422p", "yuv444p", "yuv420p10le"]
)
@pytest.mark.parametrize(
    ("matrix", "range_"), [("bt709", "limited"), ("bt601", "full"), ("bt601", "limited")]
)
@pytest.mark.parametrize("size_hw", [(48, 64), (47, 63)])
def test_a_grabber_and_a_file_have_the_same_colours(
    pixel_format: str, matrix: str, range_: str, size_hw: SizeHW
) -> None:
    raw = RawFormat(pixel_format, size_hw, matrix=matrix, range=range_)
    reference, values = raw, raw_of(scene(size_hw), pixel_format)
    data = values
    if pixel_format == "nv12":  # the same values in the layout that files have
        reference = replace(raw, pixel_format="yuv420p")
        values = raw_of(scene(size_hw), "yuv420p")
        luma = size_hw[0] * size_hw[1]
        data = np.concatenate([values[:luma], values[luma:].reshape(2, -1).T.ravel()])
    difference = np.abs(converted(data, raw).astype(int) - as_files_look(values, reference).astype(int))
    # OpenCV's and swscale's fast paths, and chroma taken at other places, differ by few levels.
    assert difference.mean() < 1.5
    assert np.percentile(difference, 99) <= 8


def test_the_picture_is_the_one_that_went_in() -> None:
    image = scene((48, 64))
    for name in ("nv12", "yuyv422", "uyvy422"):
        back = converted(raw_of(image, name), RawFormat(name, (48, 64), matrix="bt601", range="limited"))
        assert np.abs(back.astype(int) - image.astype(int)).mean() < 4


def test_padding_at_the_end_of_lines_is_left_out() -> None:
    image = scene((8, 10))
    for name, rows, line in (("nv12", 12, 10), ("yuyv422", 8, 20), ("bgr24", 8, 30)):
        data = image.ravel() if name == "bgr24" else raw_of(image, name)
        padded = np.full((rows, line + 6), 77, np.uint8)
        padded[:, :line] = data.reshape(rows, line)
        plain = RawFormat(name, (8, 10), matrix="bt601", range="limited" if name != "bgr24" else "full")
        wide = RawFormat(name, (8, 10), line + 6, plain.matrix, plain.range)
        np.testing.assert_array_equal(converted(padded.ravel(), wide), converted(data, plain))


def test_rgb_is_only_turned_round_and_limited_rgb_stretched() -> None:
    pixels = np.array([[[16, 126, 235], [0, 16, 255]]], np.uint8)
    assert converted(pixels.ravel(), RawFormat("bgr24", (1, 2))).tolist() == pixels.tolist()
    assert converted(pixels.ravel(), RawFormat("rgb24", (1, 2))).tolist() == pixels[..., ::-1].tolist()
    stretched = converted(pixels.ravel(), RawFormat("bgr24", (1, 2), range="limited"))
    assert stretched.tolist() == [[[0, 128, 255], [0, 0, 255]]]


def test_what_is_not_said_is_assumed_as_for_files_and_named() -> None:
    small, large = RawConverter(RawFormat("nv12", (576, 720))), RawConverter(RawFormat("nv12", (720, 1280)))
    assert (small.colour_matrix, small.colour_range) == ("bt601", "limited")
    assert (large.colour_matrix, large.colour_range) == ("bt709", "limited")
    assert large.assumed == ("colour_matrix", "colour_range")
    assert RawConverter(RawFormat("nv12", (720, 1280), matrix="bt601", range="full")).assumed == ()


def test_frame_bytes_is_what_a_picture_needs() -> None:
    sizes = {
        name: RawConverter(RawFormat(name, (4, 6))).frame_bytes
        for name in ("bgr24", "nv12", "yuyv422", "gray")
    }
    assert sizes == {"bgr24": 72, "nv12": 36, "yuyv422": 48, "gray": 24}
    assert RawConverter(RawFormat("yuyv422", (4, 6), stride=20)).frame_bytes == 3 * 20 + 12


def test_it_fills_a_view_and_nothing_beside_it() -> None:
    around = np.full((12, 14, 3), 9, np.uint8)
    view = around[2:-2, 2:-2]
    RawConverter(RawFormat("nv12", (8, 10), matrix="bt601", range="limited")).fill(
        np.full(120, 128, np.uint8), view
    )
    assert (view == 130).all()
    view[:] = 9
    assert (around == 9).all()


def test_an_unknown_format_is_said() -> None:
    with pytest.raises(ConfigError, match="pixel format: nonsense; FFmpeg knows none of that name"):
        RawConverter(RawFormat("nonsense", (4, 6)))
