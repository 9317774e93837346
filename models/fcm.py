"""Segmentation by fuzzy c-means on grey levels: the baseline of the Kvasir-SEG paper, and the plain form.

On 8-bit pictures fuzzy c-means over the 256 counts of the histogram is the same calculation as over the
pixels, at a cost of 256 × c an iteration in place of N × c. Separate from ``fcm_kernels.py``, which holds
the compiled loops. It does not find the field of view: black border and the green ScopeGuide inset are told
by their colour.
"""

from dataclasses import dataclass, fields

import cv2
import numba
import numpy as np
import numpy.typing as npt

from endostream.configs.errors import ConfigError

from . import fcm_kernels as kernels
from .segmenter import ImageGray, ImageRgb, Mask, Output, Prob, Segmentation, SegmenterInfo

Floats = npt.NDArray[np.float64]
Scaled = npt.NDArray[np.float32]
"""H × W in [0, 1]."""

DARK_LEVEL = 24  # largest channel of black border and padding; borders seen lie between 0 and 24

SAME_OBJECTIVE = 1e-3  # relative; runs that end nearer than that to each other ended in the same place


@dataclass(frozen=True, slots=True)
class FcmSettings:
    """What the Kvasir-SEG paper leaves open, and what we took.

    Attributes:
        n_clusters: c; 2, polyp and the rest, is the least that answers the question.
        m: fuzziness; 2 is Bezdek's, the default everywhere.
        tolerance: stop when the memberships of all pixels change by less (Frobenius norm); scikit-fuzzy's
            example value 0.005.
        max_iterations: scikit-fuzzy's example value.
        median_px: side of the median's window, odd; 5 removes letters' strokes and interlacing at 320 × 320.
        blur_px: side of the Gaussian that is subtracted, odd; its sigma is OpenCV's 0.3 · ((n - 1) / 2 - 1)
            + 0.8.
        edge_threshold: of the difference to the blurred picture, 0 to 1.
        dilate_px: side of the square that edges grow by.

    The polyp is the brightest cluster: with the darker one Dice is 0.04.
    """

    n_clusters: int = 2
    m: float = 2.0
    tolerance: float = 0.005
    max_iterations: int = 1000
    median_px: int = 5
    blur_px: int = 15
    edge_threshold: float = 0.03
    dilate_px: int = 3

    def __post_init__(self) -> None:
        _expect(self.n_clusters >= 2, "n_clusters", self.n_clusters, "2 or more")
        _expect(self.m > 1, "m", self.m, "more than 1")
        _expect(self.tolerance > 0, "tolerance", self.tolerance, "more than 0")
        _expect(self.max_iterations >= 1, "max_iterations", self.max_iterations, "1 or more")
        _expect(self.median_px in (1, 3, 5, 7, 9, 11), "median_px", self.median_px, "odd, 1 to 11")
        _expect(self.blur_px >= 3 and self.blur_px % 2 == 1, "blur_px", self.blur_px, "odd, 3 or more")
        _expect(0 <= self.edge_threshold <= 1, "edge_threshold", self.edge_threshold, "0 to 1")
        _expect(self.dilate_px >= 1, "dilate_px", self.dilate_px, "1 or more")


def _expect(holds: bool, name: str, value: object, expected: str) -> None:
    if not holds:
        raise ConfigError(f"fcm {name}: {value}; expected {expected}")


def fcm_histogram(
    hist: npt.ArrayLike, n_clusters: int, m: float = 2.0, max_iterations: int = 1000, tolerance: float = 0.005
) -> tuple[Floats, Floats, int]:
    """Fuzzy c-means over the counts of a histogram: exact for the pixels it was counted from.

    Step and stop rule are scikit-fuzzy's: the Frobenius norm of the change of all pixels' memberships falls
    below ``tolerance``. Nothing is drawn by chance: it starts from quantiles, and again from evenly spaced
    centres, which is kept if its objective is lower (3 of 600 real pictures; by 57 % in one).

    Args:
        hist: counts of levels 0, 1, 2, …; not all 0.
        n_clusters: c.
        m: fuzziness, more than 1.
        max_iterations: at most so many.
        tolerance: see above.

    Returns:
        Centres in levels, ascending (c); memberships, c × levels, columns adding up to 1; iterations.

    Raises:
        ConfigError: an argument out of range, or an empty histogram.
    """
    FcmSettings(n_clusters=n_clusters, m=m, max_iterations=max_iterations, tolerance=tolerance)
    counts = np.ascontiguousarray(hist, np.float64)
    if counts.ndim != 1 or not (counts >= 0).all() or not counts.any():
        raise ConfigError(f"histogram: shape {counts.shape}; expected one row of counts, some above 0")
    levels = np.flatnonzero(counts).astype(np.float64)
    weights = counts[counts > 0]
    runs = []
    for centres in (quantile_centres(levels, weights, n_clusters), even_centres(levels, n_clusters)):
        iterations = int(kernels.iterate(levels, weights, centres, m, max_iterations, tolerance))
        runs.append((float(kernels.objective(levels, weights, centres, m)), centres, iterations))
    better = runs[1][0] < runs[0][0] * (1 - SAME_OBJECTIVE)
    _, centres, iterations = runs[1 if better else 0]
    centres.sort()
    memberships = np.empty((n_clusters, counts.size))
    kernels.fill_memberships(np.arange(counts.size, dtype=np.float64), centres, m, memberships)
    return centres, memberships, iterations


def quantile_centres(levels: Floats, weights: Floats, n_clusters: int) -> Floats:
    """Quantiles (2k + 1) / 2c of weighted, ascending levels; evenly spaced where two of them coincide."""
    passed = weights.cumsum()
    centres = levels[np.searchsorted(passed, _middles(n_clusters) * passed[-1])]
    if (np.diff(centres) == 0).any():  # two equal centres would stay equal for ever
        return even_centres(levels, n_clusters)
    return np.asarray(centres, np.float64)


def even_centres(levels: Floats, n_clusters: int) -> Floats:
    """The middles of c equal parts of the range of ascending levels."""
    return np.asarray(levels[0] + _middles(n_clusters) * max(1.0, levels[-1] - levels[0]), np.float64)


def _middles(n_clusters: int) -> Floats:
    return (2 * np.arange(n_clusters) + 1) / (2 * n_clusters)


def polyp_probability(memberships: Floats) -> Floats:
    """Brightest cluster's membership against the strongest other: above 0.5 where it is the largest."""
    brightest, strongest_other = memberships[-1], memberships[:-1].max(axis=0)
    return np.asarray(brightest / (brightest + strongest_other), np.float64)


def median_otsu_region(grey: ImageGray) -> ImageGray:
    """Grey levels above the median-based Otsu threshold, 0 elsewhere (Xue & Titterington 2011)."""
    threshold = int(kernels.median_split(kernels.histogram(grey)))
    region: ImageGray = np.where(grey > threshold, grey, np.uint8(0))
    return region


def scaled_to_one(grey: ImageGray) -> Scaled:
    """From 0 … 255 to 0 … 1."""
    return grey * np.float32(1 / 255)


def edge_image(scaled: Scaled, blur_px: int, threshold: float) -> Mask:
    """Where the picture exceeds its blurred self by more than ``threshold``."""
    blurred = cv2.GaussianBlur(scaled, (blur_px, blur_px), 0)
    edges: Mask = (scaled - blurred) > threshold
    return edges


def dilated(edges: Mask, side_px: int) -> Mask:
    """Edges grown by a square of ``side_px``."""
    square = np.ones((side_px, side_px), np.uint8)
    return np.asarray(cv2.dilate(edges.view(np.uint8), square), np.uint8).view(np.bool_)


def without_edges(scaled: Scaled, edges: Mask) -> Scaled:
    """Picture less edges (0 or 1), clipped to 0 … 1."""
    return np.clip(scaled - edges, 0, 1)


def quantised(scaled: Scaled) -> ImageGray:
    """To 256 levels; loses nothing here, where every value is a level / 255."""
    return np.rint(scaled * 255).astype(np.uint8)


class _HistogramSegmenter:
    """What both segmenters share: checks, from levels to an answer, nothing to close."""

    def __init__(self, name: str, input_hw: tuple[int, int], settings: FcmSettings) -> None:
        if min(input_hw) < 1:
            raise ConfigError(f"{name} input_hw: {input_hw}; expected height and width of 1 or more")
        self.settings = settings
        self.info = SegmenterInfo(name, (input_hw[0], input_hw[1]), f"numba {numba.__version__}")

    def warm_up(self) -> None:
        """Segment one picture; the loops were compiled on import."""
        height, width = self.info.input_hw
        ramp = np.arange(height * width * 3, dtype=np.uint32).reshape(height, width, 3)
        self.segment((ramp % 256).astype(np.uint8), "prob")

    def segment(self, image_rgb: ImageRgb, output: Output = "mask") -> Segmentation:
        """Segment one picture; black border and green inset are never part of the finding.

        Raises:
            ValueError: not uint8 of ``info.input_hw`` × 3.
        """
        if image_rgb.dtype != np.uint8 or image_rgb.shape != (*self.info.input_hw, 3):
            raise ValueError(
                f"picture: {image_rgb.dtype} of {image_rgb.shape}; "
                f"expected uint8 of {(*self.info.input_hw, 3)}"
            )
        levels, counts, view = self._levels(np.require(image_rgb, requirements=["C", "W"]))
        polyp = np.zeros(256)
        if np.count_nonzero(counts) > 1:  # one level only is one cluster: nothing stands out
            polyp = polyp_probability(self._cluster(counts))
        by_level = polyp.astype(np.float32)
        mask = (by_level > 0.5).take(levels) & view
        if output == "mask":
            return Segmentation(mask)
        prob: Prob = by_level.take(levels)
        prob[~view] = 0
        return Segmentation(mask, prob)

    def close(self) -> None:
        """Nothing to give back."""

    def _cluster(self, counts: Floats) -> Floats:
        its = self.settings
        return fcm_histogram(counts, its.n_clusters, its.m, its.max_iterations, its.tolerance)[1]

    def _levels(self, image_rgb: ImageRgb) -> tuple[ImageGray, Floats, Mask]:
        """Level of each pixel, the histogram to cluster, and where a finding can be."""
        raise NotImplementedError


class FcmSegmenter(_HistogramSegmenter):
    """The Kvasir-SEG paper's sequence, step by step in its order; what it leaves open is in FcmSettings.

    Measured on the 900 pictures here, at 320 × 320 (stretched, as the paper's), per-image Dice / two-class
    mIoU, and both pooled: 0.333 / 0.368 and 0.356 / 0.365 with c = 2 (defaults); 0.313 / 0.480 and 0.358 /
    0.485 with c = 3. The paper reports 0.239 / 0.314, which is what c = 2 gives if the polyp is a random one
    of the clusters. For scale: everything foreground 0.248 / 0.077, a disc in the middle 0.385 / 0.478.
    """

    def __init__(self, input_hw: tuple[int, int] = (320, 320), **settings: float) -> None:
        """Take FcmSettings by name; raises ConfigError for one that is not there or out of range."""
        super().__init__("fcm", input_hw, _settings_from(settings))

    def _levels(self, image_rgb: ImageRgb) -> tuple[ImageGray, Floats, Mask]:
        its = self.settings
        grey, view = kernels.grey_and_view(image_rgb, DARK_LEVEL)
        smooth = np.asarray(cv2.medianBlur(grey, its.median_px), np.uint8)
        scaled = scaled_to_one(median_otsu_region(smooth))
        edges = dilated(edge_image(scaled, its.blur_px, its.edge_threshold), its.dilate_px)
        levels = quantised(without_edges(scaled, edges))
        return levels, kernels.histogram(levels), view


class PlainFcmSegmenter(_HistogramSegmenter):
    """Fuzzy c-means on the red channel, median-blurred, of the pixels that can be tissue; brightest of three.

    The best of the variants measured on the 900 pictures here, at 320 × 320: per-image Dice / two-class mIoU
    0.397 / 0.486, pooled 0.432 / 0.484. Grey in place of red: 0.319 / 0.487; every pixel in place of those
    of the view, no median: red 0.389 / 0.445, grey 0.352 / 0.470, grey with c = 2 0.350 / 0.354.
    """

    def __init__(self, input_hw: tuple[int, int] = (320, 320), **settings: float) -> None:
        """Take FcmSettings by name (the edge ones do nothing here); ConfigError for a wrong one."""
        super().__init__("fcm-plain", input_hw, _settings_from({"n_clusters": 3, **settings}))

    def _levels(self, image_rgb: ImageRgb) -> tuple[ImageGray, Floats, Mask]:
        _, view = kernels.grey_and_view(image_rgb, DARK_LEVEL)
        red = np.ascontiguousarray(image_rgb[:, :, 0])
        levels = np.asarray(cv2.medianBlur(red, self.settings.median_px), np.uint8)
        return levels, kernels.histogram_inside(levels, view), view


def _settings_from(values: dict[str, float]) -> FcmSettings:
    known = {field.name: int if field.type is int else (int, float) for field in fields(FcmSettings)}
    for name, value in values.items():
        _expect(name in known, "setting", name, "one of " + ", ".join(known))
        whole_or_real = "a whole number" if known[name] is int else "a number"
        _expect(
            isinstance(value, known[name]) and not isinstance(value, bool), name, repr(value), whole_or_real
        )
    return FcmSettings(**values)  # type: ignore[arg-type]
