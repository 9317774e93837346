"""Fuzzy c-means on a 320 × 320 picture: the histogram form against scikit-fuzzy's, in the same run.

    python tests/bench/bench_fcm.py [--json [FILE]] [--quick] [--picture FILE]

``--json`` without a file prints JSON in place of the table. Both start from a uint8 grey picture and end with a mask of
the brightest cluster; both stop at the same tolerance.
Ends with 5 if the ratio is below 200 or the centres differ by more than 0.001 grey levels. Not part of the tests: it
measures time. Needs scikit-fuzzy (``pip install 'endostream[bench]'``).
"""

import argparse
import importlib.metadata
import json
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
from results import Promise, Result, Table, conclude, this_machine

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


def measure(image_rgb: npt.NDArray[np.uint8], times: int = 300) -> dict[str, Any]:
    """Both forms with two and three clusters, and both segmenters; ours ``times`` times, the other 1/60 as often."""
    grey = np.asarray(cv2.cvtColor(image_rgb, cv2.COLOR_RGB2GRAY), np.uint8)
    rows = []
    for n_clusters in (2, 3):
        fast, slow = ours(grey, n_clusters), scikit_fuzzys(grey, n_clusters)
        ours_ms = p50_ms(lambda c=n_clusters: ours(grey, c), times)  # type: ignore[misc]
        theirs_ms = p50_ms(lambda c=n_clusters: scikit_fuzzys(grey, c), max(1, times // 60))  # type: ignore[misc]
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
        segmenter.info.name: p50_ms(lambda it=segmenter: it.segment(image_rgb), times)  # type: ignore[misc]
        for segmenter in (FcmSegmenter(), PlainFcmSegmenter())
    }
    return {"size_hw": list(grey.shape), "tolerance": TOLERANCE, "fcm": rows, "segment_p50_ms": segmenters}


def result_of(numbers: dict[str, Any]) -> Result:
    """Tables and promises."""
    columns = [
        "clusters",
        "endostream p50",
        "scikit-fuzzy p50",
        "ratio",
        "centres differ by, levels",
        "pixels that differ",
    ]
    rows, promises = [], []
    for row in numbers["fcm"]:
        clusters, ratio, apart = row["n_clusters"], row["ratio"], row["largest_difference_of_centres"]
        times = (f"{row['endostream_p50_ms']:.3f}", f"{row['scikit_fuzzy_p50_ms']:.1f}", f"{ratio:.0f} ×")
        rows.append([str(clusters), *times, f"{apart:.1e}", str(row["pixels_that_differ"])])
        fast = (
            f"{clusters} clusters: at least {RATIO_WANTED:.0f} times faster than scikit-fuzzy ({ratio:.0f})"
        )
        same = f"{clusters} clusters: the same centres to {CENTRES_WITHIN:g} levels ({apart:.1e})"
        promises += [Promise(fast, ratio >= RATIO_WANTED), Promise(same, apart <= CENTRES_WITHIN)]
    whole = [[name, f"{duration_ms:.3f}"] for name, duration_ms in numbers["segment_p50_ms"].items()]
    tables = [
        Table(f"Fuzzy c-means, {SIDE_PX} × {SIDE_PX} uint8, tolerance {TOLERANCE}, ms", columns, rows),
        Table("A whole segmentation, ms", ["segmenter", "p50"], whole),
    ]
    versions = {"scikit-fuzzy": importlib.metadata.version("scikit-fuzzy")}
    return Result("fcm", numbers, tables, promises, versions)


def main() -> int:
    """Measure, print, and say by the exit code whether the promise holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write the result here; without FILE print it"
    )
    parser.add_argument("--quick", action="store_true", help="too short to be published")
    parser.add_argument("--picture", help="a picture to use in place of the rendered one")
    arguments = parser.parse_args()
    image_rgb = example_picture()
    if arguments.picture:
        image_bgr = cv2.imread(arguments.picture)
        if image_bgr is None:
            parser.error(f"picture: {arguments.picture}; expected a file that OpenCV reads")
        resized = cv2.resize(image_bgr, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA)
        image_rgb = np.ascontiguousarray(resized[:, :, ::-1], np.uint8)
    machine = this_machine()
    result = result_of(measure(image_rgb, 60 if arguments.quick else 300))
    if arguments.json == "-":
        print(json.dumps({**result.numbers, "machine": machine}, indent=2))
        return 0 if all(promise.kept for promise in result.promises) else 5
    return conclude(result, arguments, machine)


if __name__ == "__main__":
    sys.exit(main())
