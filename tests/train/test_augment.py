"""Geometry, mixing and degrading: seeded, picture and mask together, black border kept."""

import numpy as np
import pytest

from endostream.models.transform import Transform
from endostream.train import degrade
from endostream.train.augment import (
    Sample,
    affine_matrix,
    augment,
    copy_paste,
    cutmix,
    cutout,
    letterboxed,
    polyp_free_crop,
    random_erasing,
    warped,
)
from endostream.train.paper_augment import COPIES, paper_copy
from endostream.train.polyp_removal import without_polyps
from endostream.train.recipe import AugmentRecipe

HW = (64, 64)


def sample(seed: int = 0, size_hw: tuple[int, int] = (50, 80)) -> Sample:
    """Tissue with a square polyp, brighter than the rest, so that the mask can be told from the picture."""
    height, width = size_hw
    image = np.random.default_rng(seed).integers(90, 110, (height, width, 3), dtype=np.uint8)
    mask = np.zeros(size_hw, np.uint8)
    mask[height // 4 : height // 2, width // 4 : width // 2] = 255
    image[mask > 0] = 220
    return Sample(image, mask)


def still(**changes: object) -> AugmentRecipe:
    """No augmentation but the changes."""
    quiet = {
        name: 0.0 for name in AugmentRecipe.model_fields if name not in ("style", "scale_min", "scale_max")
    }
    return AugmentRecipe.model_validate({**quiet, "scale_min": 1.0, "scale_max": 1.0, **changes})


def test_without_augmentation_the_input_is_the_live_path_s_byte_for_byte() -> None:
    one = sample()
    out = augment(one, one, still(), HW, np.random.default_rng(0))
    transform = Transform.of_picture((50, 80), HW)
    assert np.array_equal(out.image_rgb, transform.forward(one.image_rgb))
    assert np.array_equal(out.mask > 0, transform.forward_mask(one.mask > 0))


def test_the_same_seed_gives_the_same_bytes_and_another_does_not() -> None:
    outs = [augment(sample(), sample(1), AugmentRecipe(), HW, np.random.default_rng(s)) for s in (5, 5, 6)]
    assert np.array_equal(outs[0].image_rgb, outs[1].image_rgb)
    assert np.array_equal(outs[0].mask, outs[1].mask)
    assert not np.array_equal(outs[0].image_rgb, outs[2].image_rgb)


@pytest.mark.parametrize("seed", range(20))
def test_what_comes_out_is_a_hard_mask_and_a_picture_of_the_input_s_size(seed: int) -> None:
    out = augment(sample(), sample(1), AugmentRecipe(), HW, np.random.default_rng(seed))
    assert out.image_rgb.shape == (*HW, 3)
    assert out.image_rgb.dtype == out.mask.dtype == np.uint8
    assert out.mask.shape == HW
    assert set(np.unique(out.mask)) <= {0, 255}


@pytest.mark.parametrize("seed", range(10))
def test_the_mask_moves_with_the_picture(seed: int) -> None:
    settings = still(affine=1.0, rotate_deg=180.0, shear_deg=15.0, shift=0.1, stretch=0.1, flip=0.5)
    out = augment(sample(), sample(), settings, HW, np.random.default_rng(seed))
    bright = out.image_rgb[..., 0] > 165
    both, either = np.sum(bright & (out.mask > 0)), np.sum(bright | (out.mask > 0))
    assert both / either > 0.85


def test_an_affine_map_without_changes_is_the_letterbox_s() -> None:
    matrix = affine_matrix((50, 80), HW, still(), np.random.default_rng(0))
    assert matrix == pytest.approx(np.array([[0.8, 0, -0.1], [0, 0.8, 11.9]]), abs=1e-9)
    area = warped(sample(), matrix, HW).mask > 0
    assert np.mean(area == (letterboxed(sample(), HW).mask > 0)) > 0.99


def test_a_polyp_free_crop_has_no_polyp_and_an_empty_mask() -> None:
    crop = polyp_free_crop(sample(size_hw=(120, 160)), np.random.default_rng(0))
    assert crop is not None
    assert crop.mask.max() == 0
    assert crop.image_rgb.max() < 120
    full = Sample(sample().image_rgb, np.full((50, 80), 255, np.uint8))
    assert polyp_free_crop(full, np.random.default_rng(0)) is None


def test_cutmix_takes_picture_and_mask_of_the_same_rectangle() -> None:
    black = Sample(np.zeros((64, 64, 3), np.uint8), np.zeros((64, 64), np.uint8))
    white = Sample(np.full((64, 64, 3), 255, np.uint8), np.full((64, 64), 255, np.uint8))
    out = cutmix(black, white, np.random.default_rng(0))
    assert np.array_equal(out.image_rgb[..., 0], out.mask)
    assert 0 < np.mean(out.mask > 0) < 0.4


def test_copy_paste_adds_the_other_s_polyp_on_tissue_only() -> None:
    one, other = letterboxed(sample(), HW), letterboxed(sample(1), HW)
    moved = Sample(np.roll(other.image_rgb, 20, 1), np.roll(other.mask, 20, 1))
    out = copy_paste(one, moved)
    border = one.image_rgb.max(axis=2) <= 20
    assert np.array_equal(out.mask > 0, (one.mask > 0) | ((moved.mask > 0) & ~border))
    assert out.image_rgb[border].max() == 0


@pytest.mark.parametrize("cover", [cutout, random_erasing])
def test_what_is_covered_leaves_the_mask(cover: object) -> None:
    full = Sample(np.full((64, 64, 3), 200, np.uint8), np.full((64, 64), 255, np.uint8))
    out = cover(full, np.random.default_rng(1))  # type: ignore[operator]
    hidden = out.mask == 0
    assert 0.005 < hidden.mean() < 0.1
    assert np.all(out.image_rgb[~hidden] == 200)


@pytest.mark.parametrize("step", [degrade.blur, degrade.motion_blur, degrade.interlace, degrade.speculars])
def test_a_black_picture_stays_black(step: degrade.Step) -> None:
    black = np.zeros((40, 60, 3), np.uint8)
    assert step(black, np.random.default_rng(0)).max() == 0
    settings = AugmentRecipe(brightness=0.9, contrast=0.9, gamma=0.9)
    for seed in range(8):
        assert degrade.colour(black, settings, np.random.default_rng(seed)).max() == 0


@pytest.mark.parametrize(
    "step",
    [degrade.blur, degrade.motion_blur, degrade.interlace, degrade.noise, degrade.jpeg, degrade.speculars],
)
def test_each_degradation_changes_the_picture_and_keeps_its_form(step: degrade.Step) -> None:
    image = sample(size_hw=(60, 90)).image_rgb
    before = image.copy()
    out = step(image, np.random.default_rng(3))
    assert out.shape == image.shape and out.dtype == np.uint8
    assert not np.array_equal(out, image)
    assert np.array_equal(image, before)


def test_interlacing_changes_one_field_and_keeps_the_other() -> None:
    image = sample(size_hw=(60, 90)).image_rgb
    out = degrade.interlace(image, np.random.default_rng(2))
    same = [np.array_equal(out[row], image[row]) for row in range(60)]
    assert sum(same[0::2]) == 30 or sum(same[1::2]) == 30
    assert sum(same) < 45


def test_the_paper_makes_30_copies_beside_the_picture_8_of_them_grey() -> None:
    assert COPIES == 31
    one = sample()
    copies = [paper_copy(one, n, HW, np.random.default_rng(n)) for n in range(COPIES)]
    grey = [np.ptp(copy.image_rgb, axis=2).max() == 0 for copy in copies]
    assert np.array_equal(copies[0].image_rgb, letterboxed(one, HW).image_rgb)
    assert sum(grey) == 8
    assert all(copy.mask.shape == HW and set(np.unique(copy.mask)) <= {0, 255} for copy in copies)


def test_a_polyp_is_covered_with_tissue_of_the_same_picture_and_the_mask_is_empty() -> None:
    one = sample(size_hw=(120, 160))
    image = without_polyps(one.image_rgb, one.mask, np.random.default_rng(0))
    assert image is not None
    assert image.max() < 140  # the polyp is 220, the tissue 90 to 110
    far = np.zeros((120, 160), bool)
    far[90:] = True
    assert np.array_equal(image[far], one.image_rgb[far])
    out = augment(one, one, still(polyp_removed=1.0), HW, np.random.default_rng(0))
    assert not out.mask.any()


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_picture_without_polyp_or_with_too_large_a_one_cannot_be_covered(share: float) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[: int(60 * share)] = 255
    assert without_polyps(sample(size_hw=(60, 80)).image_rgb, mask, np.random.default_rng(0)) is None


def test_where_no_tissue_is_left_the_sample_stays_as_it_is() -> None:
    one = sample(size_hw=(120, 160))
    dark = Sample(np.where(one.mask[..., None] > 0, one.image_rgb, np.uint8(5)), one.mask)
    assert without_polyps(dark.image_rgb, dark.mask, np.random.default_rng(0)) is None
    out = augment(dark, dark, still(polyp_removed=1.0), HW, np.random.default_rng(0))
    assert out.mask.any()
