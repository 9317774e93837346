"""Colours are those of the stream's matrix and range, against arithmetic in double precision."""

from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange

from endostream.replay.avi import AviSource
from endostream.replay.colour import BgrConverter, Colour, colour_of

from .make_video import VideoSpec, make_video

BT709, UNSPECIFIED, BT601 = 1, 2, 6
KR_KB = {BT601: (0.299, 0.114), BT709: (0.2126, 0.0722)}
PATCH_PX = 16

# (Y, U, V) of flat patches: black, white, grey, skin, blood, green (ScopeGuide), blue (HUD).
PATCHES = np.array(
    [
        (16, 128, 128),
        (235, 128, 128),
        (126, 128, 128),
        (150, 110, 150),
        (90, 105, 180),
        (150, 70, 90),
        (80, 190, 110),
    ]
)


def exact_bgr(yuv: np.ndarray, matrix: int, full: bool) -> np.ndarray:
    """ITU-R BT.601 and BT.709: R = Y + 2(1 - Kr)V, B = Y + 2(1 - Kb)U, G from Y = Kr R + Kg G + Kb B."""
    kr, kb = KR_KB[matrix]
    y, u, v = yuv.astype(float).T - np.array([[0 if full else 16], [128], [128]])
    y, u, v = (y, u, v) if full else (y * 255 / 219, u * 255 / 224, v * 255 / 224)
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.clip(np.rint(np.stack([blue, green, red], axis=1)), 0, 255)


def patches_frame(pix_fmt: str, matrix: int, color_range: int) -> av.VideoFrame:
    """The patches side by side, each 16 pixels wide, exact in YUV 4:4:4 and then subsampled or packed."""
    planes = np.repeat(np.repeat(PATCHES.T[:, None, :], PATCH_PX, axis=1), PATCH_PX, axis=2).astype(np.uint8)
    frame = av.VideoFrame.from_ndarray(planes, "yuv444p", channel_last=False)
    frame = frame.reformat(format=pix_fmt)
    frame.colorspace, frame.color_range = matrix, color_range
    return frame


def converted(frame: av.VideoFrame) -> np.ndarray:
    out = np.zeros((frame.height, frame.width, 3), np.uint8)
    BgrConverter().fill(frame, out)
    return out


def patch_centres(image_bgr: np.ndarray) -> np.ndarray:
    return image_bgr[PATCH_PX // 2, PATCH_PX // 2 :: PATCH_PX].astype(float)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", [BT601, BT709])
@pytest.mark.parametrize(
    ("pix_fmt", "tolerance"),
    [("yuv444p", 1), ("yuv422p", 3), ("yuv420p", 3), ("nv12", 3), ("yuv420p10le", 3), ("yuv411p", 3)],
)
def test_yuv_follows_the_streams_matrix_and_range(
    pix_fmt: str, tolerance: int, matrix: int, full: bool
) -> None:
    frame = patches_frame(pix_fmt, matrix, ColorRange.JPEG if full else ColorRange.MPEG)
    off = np.abs(patch_centres(converted(frame)) - exact_bgr(PATCHES, matrix, full))
    assert off.max() <= tolerance


@pytest.mark.parametrize(
    ("height", "name"), [(576, "bt601"), (719, "bt601"), (720, "bt709"), (1080, "bt709")]
)
def test_a_matrix_that_is_not_said_is_assumed_by_the_number_of_lines(height: int, name: str) -> None:
    frame = av.VideoFrame(64, height, "yuv420p")
    frame.colorspace = UNSPECIFIED
    assert colour_of(frame) == Colour(name, "limited", ("colour_matrix", "colour_range"))


def test_a_tall_picture_that_says_bt601_is_converted_with_bt601() -> None:
    frame = patches_frame("yuv444p", BT601, ColorRange.MPEG).reformat(height=720)
    frame.colorspace, frame.color_range = BT601, ColorRange.MPEG
    off = np.abs(patch_centres(converted(frame)) - exact_bgr(PATCHES, BT601, False))
    assert off.max() <= 1


@pytest.mark.parametrize(
    ("pix_fmt", "colour"),
    [
        ("yuvj420p", Colour("bt601", "full", ("colour_matrix",))),
        ("gray", Colour("gray", "full", ("colour_range",))),
        ("bgr24", Colour("rgb", "full")),
        ("gbrp", Colour("rgb", "full")),
        ("pal8", Colour("rgb", "full")),
    ],
)
def test_formats_without_a_matrix_or_with_their_own_range_are_known(pix_fmt: str, colour: Colour) -> None:
    assert colour_of(av.VideoFrame(16, 16, pix_fmt)) == colour


def test_a_matrix_from_a_damaged_header_is_replaced_by_the_assumed_one() -> None:
    frame = patches_frame("yuv444p", UNSPECIFIED, ColorRange.MPEG)
    frame.colorspace = 3  # reserved in H.273; swscale refuses it
    off = np.abs(patch_centres(converted(frame)) - exact_bgr(PATCHES, BT601, False))
    assert off.max() <= 1
    assert "colour_matrix" in colour_of(frame).assumed


@pytest.mark.parametrize("pix_fmt", ["bgr24", "rgb24", "bgr0", "rgba", "gbrp", "rgb48le"])
def test_rgb_of_any_layout_comes_through_unchanged(pix_fmt: str) -> None:
    picture = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    frame = av.VideoFrame.from_ndarray(picture, "bgr24").reformat(format=pix_fmt)
    np.testing.assert_array_equal(converted(frame), picture)


def test_grey_of_full_range_comes_through_unchanged() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(
        converted(av.VideoFrame.from_ndarray(grey, "gray")), np.repeat(grey[..., None], 3, axis=2)
    )


def test_a_palette_is_looked_up() -> None:
    indices = np.array([[0, 1], [2, 1]], np.uint8)
    palette = np.zeros((256, 4), np.uint8)  # alpha, red, green, blue
    palette[:3] = [(255, 10, 20, 30), (255, 40, 50, 60), (255, 70, 80, 90)]
    frame = av.VideoFrame.from_ndarray((indices, palette), "pal8")
    assert converted(frame).tolist() == [[[30, 20, 10], [60, 50, 40]], [[90, 80, 70], [60, 50, 40]]]


def test_a_standard_definition_picture_is_byte_for_byte_what_ffmpeg_makes_of_it() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (72, 64), np.uint8)
    frame = av.VideoFrame.from_ndarray(noise, "yuv420p")
    np.testing.assert_array_equal(converted(frame), frame.to_ndarray(format="bgr24"))


def test_a_picture_may_be_written_into_a_view() -> None:
    picture = np.full((4, 6, 3), 9, np.uint8)
    out = np.zeros((8, 12, 3), np.uint8)
    BgrConverter().fill(av.VideoFrame.from_ndarray(picture, "bgr24"), out[2:6, 3:9])
    assert out[2:6, 3:9].min() == 9
    assert out.sum() == picture.sum()


@pytest.mark.parametrize("out", [np.zeros((4, 5, 3), np.uint8), np.zeros((4, 6, 3), np.float32)])
def test_an_array_of_another_shape_or_type_is_refused(out: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"expected \(4, 6, 3\) uint8"):
        BgrConverter().fill(av.VideoFrame(6, 4, "bgr24"), out)


def test_a_raw_avi_with_its_lines_bottom_up_is_not_upside_down(tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "raw.avi", VideoSpec(codec="rawvideo", pix_fmt="bgr24", first_number=0b00001111)
    )
    with AviSource(str(path)) as source:
        picture = next(iter(source))
        out = np.zeros((48, 64, 3), np.uint8)
        picture.fill(out)
    assert out[:24].min() == 200
    assert out[24:].max() == 60


@pytest.mark.parametrize(("matrix", "name"), [(BT601, "bt601"), (BT709, "bt709")])
@pytest.mark.parametrize(
    ("color_range", "range_name"), [(ColorRange.MPEG, "limited"), (ColorRange.JPEG, "full")]
)
def test_what_a_file_says_of_its_colours_is_honoured(
    tmp_path: Path, matrix: int, name: str, color_range: int, range_name: str
) -> None:
    encoder = {"colorspace": matrix, "color_range": color_range}
    path = make_video(
        tmp_path / "tagged.mkv", VideoSpec(codec="ffv1", pix_fmt="yuv444p", encoder=encoder, frames=1)
    )
    with AviSource(str(path)) as source:
        assert (source.info.colour_matrix, source.info.colour_range) == (name, range_name)
        assert source.info.assumed == ()
