"""The witness's code: what is drawn is read again, scaled, coded or on a larger screen; what is not, is not."""

import cv2
import numpy as np
import pytest

from endostream.pipeline.witness.witness_code import (
    Code,
    CodeReader,
    Luma,
    code_from_bits,
    draw_code,
    unit_px,
)

CODE = Code(4_000_000_007, 123_456_789)


def picture(width: int = 720, height: int = 576, code: Code = CODE, bottom: Code | None = None) -> Luma:
    """Noise with a code in it."""
    luma = np.random.default_rng(1).integers(16, 235, (height, width), dtype=np.uint8)
    draw_code(luma, code, bottom=bottom)
    return luma


@pytest.mark.parametrize("size", [(288, 216), (420, 288), (560, 480), (720, 576), (1280, 720), (1920, 1080)])
def test_what_is_drawn_is_read_again(size: tuple[int, int]) -> None:
    sighting = CodeReader(size).read(picture(*size))
    assert (sighting.top, sighting.bottom, sighting.torn) == (CODE, CODE, False)


@pytest.mark.parametrize("factor", [0.5, 0.75, 1.0, 1.37, 2.0])
def test_it_is_found_anywhere_on_a_screen_at_any_scale_and_brightness(factor: float) -> None:
    shown = cv2.resize(picture(), None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    screen = np.random.default_rng(2).integers(0, 255, (1400, 1700), dtype=np.uint8)
    screen[100 : 100 + shown.shape[0], 200 : 200 + shown.shape[1]] = shown // 2 + 30
    assert CodeReader((720, 576)).read(screen).code == CODE


def test_a_strong_jpeg_leaves_it_readable() -> None:
    _, data = cv2.imencode(".jpg", picture(560, 480), [cv2.IMWRITE_JPEG_QUALITY, 30])
    coded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
    assert CodeReader((560, 480)).read(np.asarray(coded, np.uint8)).code == CODE


def test_a_picture_of_two_frames_is_torn_and_the_newer_one_is_what_is_seen() -> None:
    older = Code(CODE.number - 1, CODE.time_us - 40_000)
    sighting = CodeReader((720, 576)).read(picture(bottom=older))
    assert sighting.torn
    assert (sighting.top, sighting.bottom, sighting.code) == (CODE, older, CODE)


def test_a_band_that_is_covered_is_not_read_and_the_other_stands_for_both() -> None:
    luma = picture()
    luma[:30, 300:330] = 16
    reader = CodeReader((720, 576))
    sighting = reader.read(luma)
    assert (sighting.top, sighting.bottom, sighting.torn) == (None, CODE, False)


def test_a_picture_without_code_gives_none_and_does_not_spoil_the_next() -> None:
    reader = CodeReader((720, 576))
    noise = np.random.default_rng(3).integers(0, 255, (576, 720), dtype=np.uint8)
    assert reader.read(noise).code is None
    assert reader.read(picture()).code == CODE
    assert reader.read(noise).code is None
    assert reader.read(np.zeros((576, 720), np.uint8)).code is None
    assert reader.read(picture()).code == CODE


def test_every_flipped_bit_is_noticed() -> None:
    bits = CODE.bits()
    assert code_from_bits(bits) == CODE
    for place in range(80):
        wrong = bits.copy()
        wrong[place] ^= True
        assert code_from_bits(wrong) is None


def test_the_picture_that_moves_on_the_screen_is_found_again() -> None:
    reader = CodeReader((420, 288))
    for left in (0, 57):
        screen = np.zeros((400, 600), np.uint8)
        screen[40:328, left : left + 420] = picture(420, 288)
        assert reader.read(screen).code == CODE
        assert reader.bounds() is not None


@pytest.mark.parametrize("size", [(280, 200), (720, 100)])
def test_a_picture_too_small_for_the_code_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="expected at least 288"):
        unit_px(*size)
