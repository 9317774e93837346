"""Fuzzy c-means on a 320 × 320 picture: the histogram form against scikit-fuzzy's, in the same run.

    python tests/bench/bench_fcm.py [--json] [--picture FILE]

Both start from a uint8 grey picture and end with a mask of the brightest cluster; both stop at the same tolerance.
Ends with 5 if the ratio is below 200 or the centres differ by more than 0.001 grey levels. Not part of the tests: it
measures time. Needs scikit-fuzzy (``pip install 'endostream[bench]'``).
"""

import argparse
import importlib.metadata
import json
import platform
import sys
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import skfuzzy

from endostream.models import fcm_kernels
from endostream.models.fcm import FcmSegmenter, PlainFcmSegmenter, fcm_histogram

Grey = npt.NDArray[np.uint8]
Answer = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]
SIDE_PX = 320
TOLERANCE = 1e-4  # of the memberships' change; at scikit-fuzzy's 0.005 its centres still lie some 0.001 off
RATIO_WANTED = 200.0
CENTRES_WITHIN = 1e-3  # grey levels, of 255


def example_picture() -> npt.NDArray[np.uint8]:
    """Shaded reddish tissue with a brighter disc and a dark lumen, seeded: RGB, 320 × 320."""
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX] / SIDE_PX
    light = 150 - 90 * ((rows - 0.5) ** 2 + (columns - 0.5) ** 2)
    light += 50 * ((rows - 0.4) ** 2 + (columns - 0.65) ** 2 < 0.02)
    light -= 90 * ((rows - 0.6) ** 2 + (columns - 0.3) ** 2 < 0.03)
    noise = np.random.default_rng(7).normal(0, 8, (SIDE_PX, SIDE_PX))
    return ((light + noise)[..., None] * [1.0, 0.6, 0.5]).clip(0, 255).astype(np.uint8)


def ours(grey: Grey, n_clusters: int) -> Answer:
    """Histogram, fuzzy c-means, mask."""
    centres, memberships, _ = fcm_histogram(fcm_kernels.histogram(grey), n_clusters, tolerance=TOLERANCE)
    return centres, (memberships.argmax(axis=0) == n_clusters - 1).take(grey)


def scikit_fuzzys(grey: Grey, n_clusters: int) -> Answer:
    """The same from skfuzzy.cmeans, with a fixed seed."""
    values = grey.reshape(1, -1).astype(np.float64)
    centres, memberships, *_ = skfuzzy.cmeans(values, n_clusters, 2.0, TOLERANCE, 1000, seed=0)
    mask = memberships.argmax(axis=0) == centres.argmax()
    return np.sort(centres.ravel()), mask.reshape(grey.shape)


def p50_ms(call: Callable[[], object], times: int) -> float:
    """Median duration, the first call not counted."""
    call()
    durations = []
    for _ in range(times):
        start = time.perf_counter_ns()
        call()
        durations.append((time.perf_counter_ns() - start) / 1e6)
    return float(np.median(durations))


def measure(image_rgb: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Both forms with two and three clusters, and both segmenters whole."""
    grey = np.asarray(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    rows = []
    for n_clusters in (2, 3):
        fast, slow = ours(grey, n_clusters), scikit_fuzzys(grey, n_clusters)
        ours_ms = p50_ms(lambda c=n_clusters: ours(grey, c), 300)  # type: ignore[misc]
        theirs_ms = p50_ms(lambda c=n_clusters: scikit_fuzzys(grey, c), 5)  # type: ignore[misc]
        rows.append(
            {
                "n_clusters": n_clusters,
                "endostream_p50_ms": ours_ms,
                "scikit_fuzzy_p50_ms": theirs_ms,
                "ratio": theirs_ms / ours_ms,
                "centres": fast[0].tolist(),
                "largest_difference_of_centres": float(np.abs(fast[0] - slow[0]).max()),
                "pixels_that_differ": int((fast[1] != slow[1]).sum()),
            }
        )
    segmenters = {
        segmenter.info.name: p50_ms(lambda it=segmenter: it.segment(image_rgb), 300)  # type: ignore[misc]
        for segmenter in (FcmSegmenter(), PlainFcmSegmenter())
    }
    versions = {name: importlib.metadata.version(name) for name in ("numba", "numpy", "scikit-fuzzy")}
    machine = {"cpu": cpu_name(), "python": platform.python_version(), **versions}
    return {"size_hw": list(grey.shape), "fcm": rows, "segment_p50_ms": segmenters, "machine": machine}


def cpu_name() -> str:
    """What the processor calls itself."""
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123
            return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def passed(result: dict[str, Any]) -> bool:
    """Whether speed and centres are what we promise."""
    return all(
        row["ratio"] >= RATIO_WANTED and row["largest_difference_of_centres"] <= CENTRES_WITHIN
        for row in result["fcm"]
    )


def print_table(result: dict[str, Any]) -> None:
    """For people."""
    print(f"fuzzy c-means, {SIDE_PX} × {SIDE_PX} uint8, tolerance {TOLERANCE}; {result['machine']['cpu']}")
    print(" c  endostream p50  scikit-fuzzy p50   ratio  centres differ by  pixels that differ")
    for row in result["fcm"]:
        print(
            f"{row['n_clusters']:>2}  {row['endostream_p50_ms']:>11.3f} ms  {row['scikit_fuzzy_p50_ms']:>13.1f} ms  "
            f"{row['ratio']:>5.0f}×  {row['largest_difference_of_centres']:>10.1e} levels  "
            f"{row['pixels_that_differ']:>18}"
        )
    for name, duration_ms in result["segment_p50_ms"].items():
        print(f"segment() of {name}: {duration_ms:.3f} ms p50")


def main() -> int:
    """Measure, print, and say by the exit code whether the promise holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    parser.add_argument("--picture", help="a picture to use in place of the rendered one")
    arguments = parser.parse_args()
    image_rgb = example_picture()
    if arguments.picture:
        image_bgr = cv2.imread(arguments.picture)
        if image_bgr is None:
            parser.error(f"picture: {arguments.picture}; expected a file that OpenCV reads")
        resized = cv2.resize(image_bgr, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        image_rgb = np.ascontiguousarray(resized[:, :, ::-1], np.uint8)
    result = measure(image_rgb)
    if arguments.json:
        print(json.dumps(result, indent=2))
    else:
        print_table(result)
    return 0 if passed(result) else 5


if __name__ == "__main__":
    sys.exit(main())
