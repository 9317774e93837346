"""The phantom: the same bytes in any order, masks that say where polyps are drawn, any size and rate."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from endostream.configs.errors import ConfigError
from endostream.models.segmenter import Mask
from endostream.pipeline.frame import ImageBgr
from endostream.pipeline.source import Source, SourceOptions, open_source
from endostream.replay.phantom import Phantom, PhantomSettings, PhantomSource

from .source_contract import SourceContract

SMALL = PhantomSettings(width=160, height=120, duration_s=12.0, seed=1)


def phantom(**changes: Any) -> Phantom:
    return Phantom(
        settings=PhantomSettings(**({"width": 160, "height": 120, "duration_s": 12.0, "seed": 1} | changes))
    )


@pytest.fixture(scope="module")
def small() -> Phantom:
    return Phantom(settings=SMALL)


@pytest.fixture(scope="module")
def bare() -> Phantom:
    """The same colon without its polyps."""
    return phantom(polyps=False)


@pytest.fixture(scope="module")
def covers(small: Phantom) -> list[int]:
    """Pixels of polyp in each frame."""
    return [int(small.truth(index).sum()) for index in range(small.frame_count)]


def shown(phantom: Phantom, index: int) -> tuple[bytes, bytes]:
    image_bgr, mask = phantom.render(index)
    return image_bgr.tobytes(), mask.tobytes()


class TestPhantomContract(SourceContract):
    def open(self, folder: Path, options: SourceOptions) -> Source:
        extra = {"width": 64, "height": 47, "fps": "30000/1001", "duration_s": 0.4}
        return PhantomSource(
            "phantom:", SourceOptions(options.start_s, options.duration_s, {"phantom": extra})
        )


def test_the_same_seed_gives_the_same_bytes_in_any_order(small: Phantom) -> None:
    again = Phantom(settings=SMALL)
    order = [250, 3, 299, 0, 140]
    backwards = {index: shown(again, index) for index in reversed(range(0, 300, 10))}
    for index in order:
        assert shown(small, index) == shown(again, index)
    assert backwards == {index: shown(small, index) for index in range(0, 300, 10)}


def test_every_part_of_a_frame_comes_out_the_same_by_every_call(small: Phantom) -> None:
    image_bgr, mask = small.render(150)
    only_image = np.full_like(image_bgr, 7)
    small.render_image(150, only_image)
    into = np.full_like(image_bgr, 9)
    given, _ = small.render(150, into)
    assert given is into
    np.testing.assert_array_equal(only_image, image_bgr)
    np.testing.assert_array_equal(into, image_bgr)
    np.testing.assert_array_equal(small.truth(150), mask)


def test_another_seed_is_another_colon_with_polyps_at_other_times(small: Phantom, covers: list[int]) -> None:
    other = phantom(seed=2)
    assert shown(other, 0)[0] != shown(small, 0)[0]
    assert [other.has_polyp(k) for k in range(300)] != [small.has_polyp(k) for k in range(300)]


def test_a_picture_is_moving(small: Phantom) -> None:
    before, after = small.render(40)[0].astype(int), small.render(45)[0].astype(int)
    assert np.abs(before - after).mean() > 3


def test_motion_depends_on_time_and_not_on_the_rate(small: Phantom) -> None:
    fast = phantom(fps=Fraction(50))
    np.testing.assert_array_equal(fast.truth(2 * 200), small.truth(200))
    assert cv2.absdiff(fast.render(400)[0], small.render(200)[0]).mean() < 6  # noise differs, nothing else


def test_there_are_stretches_without_polyps_and_polyps_of_several_sizes(
    small: Phantom, covers: list[int]
) -> None:
    empty = [index for index, cover in enumerate(covers) if cover == 0]
    assert 0 in empty
    assert len(empty) > 50
    assert sum(cover > 0 for cover in covers) > 50
    assert max(covers) > 0.01 * 160 * 120
    assert all(covers[index] == 0 for index in range(300) if not small.has_polyp(index))


@pytest.mark.parametrize("seed", range(6))
def test_each_seed_has_polyps_and_stretches_without_in_twenty_seconds(seed: int) -> None:
    tiny = phantom(width=48, height=36, seed=seed, duration_s=20.0)
    about = [tiny.has_polyp(index) for index in range(500)]
    cover = [tiny.truth(index).any() for index in range(0, 500, 5)]
    assert about.count(False) > 50
    assert cover.count(True) > 10


def test_polyps_change_the_picture_where_the_mask_says_and_hardly_elsewhere(
    small: Phantom, bare: Phantom, covers: list[int]
) -> None:
    largest = sorted(range(300), key=covers.__getitem__)[-8:]
    for index in largest:
        image_bgr, mask = small.render(index)
        plain_bgr, none = bare.render(index)
        changed: Mask = np.abs(image_bgr.astype(int) - plain_bgr).max(axis=2) > 12
        near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        assert not none.any()
        assert changed[mask].mean() > 0.8
        # The shadow about a polyp's foot may reach farther than its rim, but nothing else may.
        far = cv2.dilate(mask.astype(np.uint8), np.ones((41, 41), np.uint8)).astype(bool)
        assert not changed[~far].any()
        assert np.count_nonzero(changed & ~near) < 0.6 * np.count_nonzero(mask)


def test_without_a_polyp_about_the_picture_is_that_of_the_bare_colon(small: Phantom, bare: Phantom) -> None:
    index = next(index for index in range(300) if not small.has_polyp(index))
    assert shown(small, index) == shown(bare, index)


def test_the_mask_is_the_same_shape_at_every_size(covers: list[int]) -> None:
    index = int(np.argmax(covers))
    large = phantom(width=640, height=480).truth(index)
    small_mask = phantom().truth(index)
    shrunk = cv2.resize(large.astype(np.float32), (160, 120), interpolation=cv2.INTER_AREA) > 0.5
    assert np.count_nonzero(shrunk ^ small_mask) < 0.1 * np.count_nonzero(small_mask)


SIZES = [(16, 16), (17, 31), (720, 576), (1000, 333), (7680, 16), (16, 4320), (1920, 1080)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("field", ["octagon", "round", "full"])
def test_any_size_is_filled_and_black_only_outside_the_field(width: int, height: int, field: str) -> None:
    image_bgr, mask = phantom(width=width, height=height, field=field, duration_s=1.0).render(10)
    assert image_bgr.shape == (height, width, 3)
    assert mask.shape == (height, width)
    assert image_bgr.max() > 100
    corners = image_bgr[[0, 0, -1, -1], [0, -1, 0, -1]]
    assert bool(corners.any()) == (field == "full")


@pytest.mark.parametrize("field", ["octagon", "round"])
def test_border_inset_and_text_lie_outside_the_mask(field: str, covers: list[int]) -> None:
    index = int(np.argmax(covers))
    framed = phantom(width=640, height=360, field=field, inset=True)
    image_bgr, mask = framed.render(index)
    outside = image_bgr.max(axis=2) == 0
    assert outside[340:, 150:250].all()  # the inset, black
    assert image_bgr[:120, :100].max() > 100  # the text
    assert not mask[outside].any()
    assert (phantom(width=640, height=360, text=False).render(index)[0][:, :100] == 0).all()


def test_a_field_without_polyps_looks_like_mucosa(bare: Phantom) -> None:
    field = bare.render(0)[0][20:100, 40:120]
    blue, green, red = (float(value) for value in np.median(field.reshape(-1, 3), axis=0))
    assert red > 1.4 * green > 1.4 * blue > 20


@pytest.mark.parametrize(
    ("address", "extra", "what"),
    [
        ("phantom:64", {}, "phantom:WIDTHxHEIGHT@FPS"),
        ("phantom:64x64@", {}, "phantom:WIDTHxHEIGHT@FPS"),
        ("phantom:8x64", {}, "phantom.width: 8; expected"),
        ("phantom:64x5000", {}, "phantom.height: 5000; expected"),
        ("phantom:64x64@0", {}, "phantom.fps: 0; expected"),
        ("phantom:64x64@1/0", {}, "phantom.fps: '1/0'; expected"),
        ("phantom:", {"fps": "often"}, "phantom.fps: 'often'; expected"),
        ("phantom:", {"fps": float("nan")}, "phantom.fps: nan; expected"),
        ("phantom:", {"width": 64.5}, "phantom.width: 64.5; expected"),
        ("phantom:", {"duration_s": 0}, "phantom.duration_s: 0; expected"),
        ("phantom:", {"duration_s": float("nan")}, "phantom.duration_s: nan; expected"),
        ("phantom:", {"seed": -1}, "phantom.seed: -1; expected"),
        ("phantom:", {"field": "square"}, "phantom.field: 'square'; expected"),
        ("phantom:", {"text": "yes"}, "phantom.text: 'yes'; expected"),
        ("phantom:", {"polyp": True}, "phantom.polyp: unknown; expected"),
    ],
)
def test_a_bad_address_or_setting_is_named(address: str, extra: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PhantomSource(address, SourceOptions(extra={"phantom": extra}))
    assert what in str(caught.value)


def test_a_start_behind_the_end_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"start_s: 10; expected less than 10"):
        PhantomSource("phantom:16x16", SourceOptions(start_s=10.0))


def test_the_address_goes_before_the_settings() -> None:
    options = SourceOptions(extra={"phantom": {"width": 320, "height": 200, "fps": "25", "seed": 3}})
    with open_source("phantom:48x32@30000/1001", options) as source:
        assert source.info.size_hw == (32, 48)
        assert source.info.fps == Fraction(30000, 1001)
        assert source.info.time_base == Fraction(1001, 30000)
        assert source.info.frame_count == 300
        assert source.info.seed == 3


@pytest.mark.parametrize(
    ("given", "exact"), [(25, Fraction(25)), (29.97, Fraction(2997, 100)), ("0.5", Fraction(1, 2))]
)
def test_a_rate_is_taken_exactly(given: object, exact: Fraction) -> None:
    extra = {"phantom": {"width": 16, "height": 16, "fps": given}}
    assert PhantomSource("phantom:", SourceOptions(extra=extra)).info.fps == exact


def test_truth_is_the_mask_of_the_picture_with_that_seq() -> None:
    options = SourceOptions(
        start_s=6.0, extra={"phantom": {"width": 160, "height": 120, "seed": 1, "duration_s": 12.0}}
    )
    with PhantomSource("phantom:", options) as source:
        pictures = iter(source)
        for picture in (next(pictures), next(pictures)):
            image_bgr: ImageBgr = np.empty((120, 160, 3), np.uint8)
            picture.fill(image_bgr)
            expected_bgr, expected = phantom().render(150 + picture.seq)
            np.testing.assert_array_equal(source.truth(picture.seq), expected)
            np.testing.assert_array_equal(image_bgr, expected_bgr)


def test_a_frame_that_is_not_there_is_an_index_error(small: Phantom) -> None:
    with pytest.raises(IndexError, match="frame: 300; expected 0 to 299"):
        small.render(300)


def test_an_array_of_another_shape_is_refused(small: Phantom) -> None:
    with pytest.raises(ValueError, match=r"expected \(120, 160, 3\) uint8"):
        small.render(0, np.empty((160, 120, 3), np.uint8))
