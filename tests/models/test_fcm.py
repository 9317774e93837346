"""Fuzzy c-means: histogram form against pixel form, the paper's steps one by one, and both segmenters."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from endostream.configs.errors import ConfigError
from endostream.models import fcm, fcm_kernels
from endostream.models.fcm import FcmSegmenter, PlainFcmSegmenter, fcm_histogram, polyp_probability
from endostream.models.segmenter import Segmenter, load_segmenter

from .segmenter_contract import SegmenterContract, scene


def cmeans_of_pixels(
    values: np.ndarray, centres: np.ndarray, m: float, max_iterations: int, tolerance: float
) -> tuple[np.ndarray, np.ndarray, int]:
    """Fuzzy c-means over every value, written after scikit-fuzzy's."""

    def memberships(centres: np.ndarray) -> np.ndarray:
        distance = np.maximum(np.abs(values[None] - centres[:, None]), np.finfo(float).eps)
        weight = distance ** (-2 / (m - 1))
        return np.asarray(weight / weight.sum(axis=0))

    u = memberships(centres)
    for iteration in range(1, max_iterations + 1):
        before, um = u, u**m
        centres = (um @ values) / um.sum(axis=1)
        u = memberships(centres)
        if np.linalg.norm(u - before) < tolerance:
            return centres, u, iteration
    return centres, u, max_iterations


@pytest.mark.parametrize("n_clusters", [2, 3, 4])
@pytest.mark.parametrize("m", [1.7, 2.0])
def test_the_histogram_gives_what_the_pixels_give(n_clusters: int, m: float) -> None:
    rng = np.random.default_rng(n_clusters)
    values = (
        np.concatenate([rng.normal(mean, 14, 700) for mean in (40, 110, 190)]).clip(0, 255).astype(np.uint8)
    )
    counts = np.bincount(values, minlength=256)
    levels = np.flatnonzero(counts).astype(float)
    start = fcm.quantile_centres(levels, counts[counts > 0].astype(float), n_clusters)
    centres, u, iterations = cmeans_of_pixels(values.astype(float), start, m, 1000, 0.005)
    found, found_u, found_iterations = fcm_histogram(counts, n_clusters, m)
    assert np.allclose(found, np.sort(centres), rtol=0, atol=1e-8)
    assert np.allclose(found_u[:, values], u[np.argsort(centres)], rtol=0, atol=1e-8)
    assert found_iterations == iterations


def test_two_levels_are_their_own_centres() -> None:
    counts = np.zeros(256)
    counts[[10, 200]] = 500, 3
    centres, u, _ = fcm_histogram(counts, 2, tolerance=1e-9)
    assert centres == pytest.approx([10, 200], abs=1e-6)
    assert u[:, 10] == pytest.approx([1, 0], abs=1e-6)
    assert u[:, 105] == pytest.approx([0.5, 0.5], abs=1e-3)


def test_a_histogram_that_is_mostly_one_level_still_splits() -> None:
    counts = np.zeros(256)
    counts[0], counts[150:180] = 90_000, 100  # what the paper's steps leave: most of the picture at 0
    centres, _, _ = fcm_histogram(counts, 2)
    assert centres[0] < 1
    assert 160 < centres[1] < 170


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=2, max_size=256).filter(any), st.integers(2, 5))
def test_any_histogram_gives_ordered_centres_inside_its_range(counts: list[int], n_clusters: int) -> None:
    centres, u, iterations = fcm_histogram(counts, n_clusters)
    occupied = np.flatnonzero(counts)
    assert (np.diff(centres) >= 0).all()
    assert occupied[0] - 1e-6 <= centres[0]
    assert centres[-1] <= occupied[-1] + 1e-6
    assert np.allclose(u.sum(axis=0), 1)
    assert 1 <= iterations <= 1000


def test_a_start_that_ends_in_a_bad_place_is_not_kept() -> None:
    """Quantiles put two of three centres into one heap and stay there; so it was for cju30bmab08bi0835mvlr6e0r."""
    counts = np.zeros(256)
    counts[0], counts[50:54], counts[226:230], counts[230:235] = 67_000, 7_000, 17_000, 9_500
    centres, _, _ = fcm_histogram(counts, 3)
    assert centres == pytest.approx([0.0, 51.5, 229.35], abs=0.01)


def test_iterations_stop_at_the_limit() -> None:
    assert fcm_histogram(np.arange(256), 3, max_iterations=2)[2] == 2


@pytest.mark.parametrize(
    ("hist", "n_clusters", "m"),
    [([0, 0, 0], 2, 2.0), ([1, -1], 2, 2.0), ([1, 2], 1, 2.0), ([1, 2], 2, 1.0), ([[1, 2]], 2, 2.0)],
)
def test_what_cannot_be_clustered_is_refused(hist: list[int], n_clusters: int, m: float) -> None:
    with pytest.raises(ConfigError, match="expected"):
        fcm_histogram(hist, n_clusters, m)


def test_the_probability_exceeds_one_half_where_the_brightest_cluster_leads() -> None:
    memberships = np.array([[0.6, 0.3, 0.2], [0.3, 0.3, 0.4], [0.1, 0.4, 0.4]])
    assert polyp_probability(memberships) == pytest.approx([1 / 7, 4 / 7, 0.5])


def test_grey_is_luma_and_the_view_leaves_black_and_green_out() -> None:
    image = np.array([[[200, 100, 50], [0, 0, 0], [20, 165, 140], [255, 255, 255], [30, 24, 10]]], np.uint8)
    grey, view = fcm_kernels.grey_and_view(image, fcm.DARK_LEVEL)
    assert grey.tolist() == [[124, 0, 119, 255, 24]]
    assert view.tolist() == [[True, False, False, True, True]]


def test_the_median_split_parts_two_heaps_where_the_deviations_are_least() -> None:
    counts = np.zeros(256)
    counts[[10, 11, 12, 80, 81, 90]] = 5, 9, 5, 3, 8, 3
    expected = min(range(255), key=lambda level: _deviation(counts, level))
    assert fcm_kernels.median_split(counts) == expected == 12


def _deviation(counts: np.ndarray, level: int) -> float:
    values = np.repeat(np.arange(256), counts.astype(int))
    halves = values[values <= level], values[values > level]
    return sum(float(np.abs(half - np.median(half)).sum()) for half in halves if half.size)


def test_the_region_keeps_the_bright_side_and_blackens_the_rest() -> None:
    grey = np.array([[10, 12, 11], [90, 12, 95]], np.uint8)
    assert fcm.median_otsu_region(grey).tolist() == [[0, 0, 0], [90, 0, 95]]


def test_edges_are_taken_out_and_the_rest_stays() -> None:
    scaled = np.array([[0.2, 0.8, 1.0]], np.float32)
    edges = np.array([[False, True, True]])
    assert fcm.quantised(fcm.without_edges(scaled, edges)).tolist() == [[51, 0, 0]]


def test_a_lone_bright_pixel_is_an_edge_and_dilation_makes_it_a_square() -> None:
    scaled = np.zeros((9, 9), np.float32)
    scaled[4, 4] = 1
    edges = fcm.edge_image(scaled, 5, 0.03)
    assert np.argwhere(edges).tolist() == [[4, 4]]
    assert np.argwhere(fcm.dilated(edges, 3)).tolist() == [[r, c] for r in (3, 4, 5) for c in (3, 4, 5)]


def test_scaling_and_quantising_lose_no_level() -> None:
    levels = np.arange(256, dtype=np.uint8)[None]
    assert np.array_equal(fcm.quantised(fcm.scaled_to_one(levels)), levels)


class TestFcm(SegmenterContract):
    def open_segmenter(self) -> Segmenter:
        return FcmSegmenter((64, 80))


class TestPlainFcm(SegmenterContract):
    def open_segmenter(self) -> Segmenter:
        return PlainFcmSegmenter((64, 80))


@pytest.mark.parametrize("name", ["fcm", "fcm-plain"])
def test_the_registry_opens_it_at_the_papers_size(name: str) -> None:
    assert load_segmenter(name).info.input_hw == (320, 320)


def test_the_plain_one_finds_the_bright_disc() -> None:
    mask = PlainFcmSegmenter((320, 320), n_clusters=2).segment(scene((320, 320))).mask
    rows, columns = np.ogrid[:320, :320]
    disc = (rows - 128) ** 2 + (columns - 192) ** 2 < 64**2
    assert (mask & disc).sum() / (mask | disc).sum() > 0.97


@pytest.mark.parametrize("name", ["fcm", "fcm-plain"])
def test_border_and_green_inset_are_never_part_of_a_finding(name: str) -> None:
    image = scene((320, 320))
    image[200:288, :100] = (20, 250, 200)  # the brightest thing in the picture
    mask = load_segmenter(name).segment(image).mask
    assert mask.any()
    assert not mask[200:288, :100].any()
    assert not mask[:32].any()
    assert not mask[288:].any()


def test_a_picture_of_one_level_has_no_finding() -> None:
    assert not FcmSegmenter((32, 32)).segment(np.full((32, 32, 3), 200, np.uint8)).mask.any()


def test_a_wrong_setting_names_what_is_expected() -> None:
    with pytest.raises(ConfigError, match="one of n_clusters, m, tolerance"):
        FcmSegmenter(clusters=3)
    with pytest.raises(ConfigError, match="n_clusters: '3'; expected a whole number"):
        load_segmenter("fcm-plain", {"n_clusters": "3"})
    with pytest.raises(ConfigError, match="median_px: 4; expected odd"):
        load_segmenter("fcm", {"median_px": 4})


def test_it_works_where_nothing_can_be_cached(tmp_path: Path) -> None:
    """A read-only site-packages and no home: Numba has nowhere to keep a cache, and works."""
    copy = tmp_path / "fcm_kernels.py"
    shutil.copy(fcm_kernels.__file__, copy)
    (tmp_path / "__pycache__").write_text("a file where the cache folder would be")
    code = "import fcm_kernels, numpy; print(fcm_kernels.histogram(numpy.zeros((2, 2), numpy.uint8))[0])"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    environment |= {"HOME": "/dev/null", "XDG_CACHE_HOME": "/dev/null", "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (run.returncode, run.stdout.strip()) == (0, "4.0"), run.stderr


@pytest.mark.data
def test_the_reference_scores_on_real_pictures_hold(data_dir: Path) -> None:
    """Every 30th of the 900 pictures: both beat the figure the paper gives (0.239)."""
    paths = sorted((data_dir / "kvasir-seg" / "images").glob("*.jpg"))[::30]
    if not paths:
        pytest.skip(f"no pictures in {data_dir / 'kvasir-seg' / 'images'}")
    dice: dict[str, list[float]] = {"fcm": [], "fcm-plain": []}
    segmenters = {name: load_segmenter(name) for name in dice}
    for path in paths:
        image = cv2.imread(str(path))
        polyp = cv2.imread(str(data_dir / "kvasir-seg" / "masks" / path.name), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        assert polyp is not None
        small = np.ascontiguousarray(cv2.resize(image, (320, 320), interpolation=cv2.INTER_AREA)[:, :, ::-1])
        truth = cv2.resize(polyp, (320, 320), interpolation=cv2.INTER_AREA) > 127
        for name, segmenter in segmenters.items():
            mask = segmenter.segment(small.astype(np.uint8)).mask
            dice[name].append(float(2 * (mask & truth).sum() / (mask.sum() + truth.sum())))
    assert np.mean(dice["fcm"]) > 0.239
    assert np.mean(dice["fcm-plain"]) > 0.35
