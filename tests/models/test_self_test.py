"""The self-test of engines: the stored picture, the masks that belong to it, and what counts as the same mask."""

import json
from pathlib import Path

import numpy as np
import pytest

from endostream.configs.errors import ModelError
from endostream.models import self_test
from endostream.models.self_test import (
    FOLDER,
    MASKS,
    computed_mask,
    reference_mask,
    reference_picture,
    require_mask,
)
from endostream.models.weights_files import preset_folder, sha256_of

from .test_runtimes import write_bright_network

MODEL = preset_folder("resunet-small") / "model.onnx"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_picture_has_a_polyp_that_the_network_that_ships_marks() -> None:
    mask = reference_mask(MODEL, sha256_of(MODEL), (320, 320))
    assert (mask.shape, mask.dtype) == ((320, 320), np.bool_)
    assert 0.05 < mask.mean() < 0.3
    assert require_mask(computed_mask(MODEL, (320, 320)), mask, "fp32", "the stored mask") > 0.999


def test_the_stored_mask_of_a_network_is_computed_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    digest, name = next(iter(json.loads((FOLDER / MASKS).read_text()).items()))
    monkeypatch.setattr(self_test, "computed_mask", None)
    assert reference_mask(Path("unused.onnx"), digest, (320, 320)).any()
    assert (FOLDER / name).is_file()


def test_the_picture_comes_at_any_networks_size() -> None:
    picture = reference_picture((352, 352))
    assert (picture.shape, picture.dtype) == ((352, 352, 3), np.uint8)
    red, green, blue = reference_picture((320, 320)).reshape(-1, 3).mean(axis=0)
    assert red > green > 0  # mucosa, not with red and blue in each other's place
    assert red > blue > 0


def test_the_mask_of_another_network_is_computed_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_bright_network(tmp_path / "bright.onnx")
    first = reference_mask(model, sha256_of(model), (48, 64))
    assert np.array_equal(first, reference_picture((48, 64)).mean(axis=2) > 150)
    monkeypatch.setattr(self_test, "computed_mask", None)
    assert np.array_equal(reference_mask(model, sha256_of(model), (48, 64)), first)
    (kept,) = cache.rglob("*.png")
    kept.write_bytes(b"damaged")
    monkeypatch.setattr(self_test, "computed_mask", lambda model, hw: ~first)
    assert np.array_equal(reference_mask(model, sha256_of(model), (48, 64)), ~first)


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    model = write_bright_network(tmp_path / "bright.onnx")
    assert reference_mask(model, sha256_of(model), (48, 64)).shape == (48, 64)


def flipped(mask: np.ndarray, pixels: int) -> np.ndarray:
    """``mask`` without so many of its pixels."""
    changed = mask.copy()
    changed.ravel()[np.flatnonzero(mask)[:pixels]] = False
    return changed


@pytest.mark.parametrize(
    ("precision", "pixels", "passes"),
    [
        ("fp32", 3, True),
        ("fp32", 5, False),
        ("fp16", 19, True),
        ("fp16", 21, False),
        ("int8", 58, True),
        ("int8", 60, False),
    ],
)
def test_of_a_thousand_pixels_few_may_be_missing(precision: str, pixels: int, passes: bool) -> None:
    mask = np.zeros((50, 50), np.bool_)
    mask[:20] = True  # Dice with n pixels missing: (2000 - 2n) / (2000 - n)
    if passes:
        assert require_mask(flipped(mask, pixels), mask, precision, "engine") < 1
    else:
        with pytest.raises(ModelError, match=rf"engine: its mask .* Dice 0\.\d+ .* more at {precision}"):
            require_mask(flipped(mask, pixels), mask, precision, "engine")


@pytest.mark.parametrize("wrong", ["nothing", "everything", "moved", "turned"])
def test_what_a_broken_engine_gives_does_not_pass_at_any_precision(wrong: str) -> None:
    expected = reference_mask(MODEL, sha256_of(MODEL), (320, 320))
    mask = {
        "nothing": np.zeros_like(expected),
        "everything": np.ones_like(expected),
        "moved": np.roll(expected, 8, axis=1),
        "turned": expected.T.copy(),
    }[wrong]
    with pytest.raises(ModelError, match=r"expected 0\.97 or more at int8"):
        require_mask(mask, expected, "int8", "engine")


def test_where_nothing_is_marked_what_is_unmarked_is_compared() -> None:
    nothing = np.zeros((50, 50), np.bool_)
    assert require_mask(nothing, nothing, "fp32", "engine") == 1.0
    with pytest.raises(ModelError, match="engine"):
        require_mask(~nothing, nothing, "fp32", "engine")
