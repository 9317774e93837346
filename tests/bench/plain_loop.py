"""The loop someone would write without endostream: one process, OpenCV reads, and each frame goes through all steps.

    python tests/bench/plain_loop.py SOURCE OUT [--writer pyav|cv2] [--threads N]

Run by ``bench_replay.py`` as a process of its own. It does what the pipeline does for each frame: field of view,
transform, segmentation by fuzzy c-means, marks and HUD, and a video file, with the very functions the pipeline calls.
``pyav`` writes with the pipeline's own encoder settings; ``cv2`` as most would, with cv2.VideoWriter and its defaults
(MPEG-4). Prints one line of JSON. It keeps no times, counts no drops and restarts nothing.
"""

import argparse
import json
import time
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from endostream.configs.schema import Config
from endostream.models.fcm import FcmSegmenter
from endostream.models.field_of_view import FieldOfViewTracker
from endostream.models.transform import Transform
from endostream.pipeline.draw import MarkStyle, draw_marks, marks_from_mask
from endostream.pipeline.frame import Box, ImageBgr, MaskState, SizeHW
from endostream.pipeline.hud import HudInfo, draw_hud
from endostream.pipeline.sinks.video_encoding import encoding_for
from endostream.pipeline.sinks.video_file import VideoFile


class Writer(Protocol):
    """Writes a video."""

    def write(self, image_bgr: ImageBgr) -> None:
        """Add a picture."""

    def close(self) -> None:
        """Finish the file."""


class PyavWriter:
    """The pipeline's own file, with its default settings but for the encoder's threads."""

    def __init__(self, path: Path, size_hw: SizeHW, fps: float, threads: int) -> None:
        period_s = 1 / Fraction(fps).limit_denominator(1001)
        options = Config().record.model_dump() | {"threads": threads}
        encoding = encoding_for(path.suffix, size_hw, period_s, period_s, options)
        self._file = VideoFile(path, size_hw, period_s, encoding)
        self._ticks = round(period_s / encoding.tick_s)
        self._count = 0

    def write(self, image_bgr: ImageBgr) -> None:
        self._file.write(image_bgr, self._count * self._ticks)
        self._count += 1

    def close(self) -> None:
        self._file.close()


class Cv2Writer:
    """As most would; it takes no number of threads."""

    def __init__(self, path: Path, size_hw: SizeHW, fps: float, threads: int) -> None:
        code = cv2.VideoWriter.fourcc(*"mp4v")
        self._writer = cv2.VideoWriter(str(path), code, fps, size_hw[::-1])

    def write(self, image_bgr: ImageBgr) -> None:
        self._writer.write(image_bgr)

    def close(self) -> None:
        self._writer.release()


class Steps:
    """From a picture to the same picture with marks and HUD."""

    def __init__(self, fps: float) -> None:
        self._segmenter = FcmSegmenter()
        self._segmenter.warm_up()
        overlay = Config().overlay
        self._style = MarkStyle(overlay.colour_bgr, overlay.fill_alpha, overlay.contour, overlay.box)
        self._tracker = FieldOfViewTracker(Config().preprocess.interval_frames)
        self._fps = fps
        self._view: object = None
        self._transform = Transform.of_picture((1, 1), self._segmenter.info.input_hw)
        self._inside = np.ones(self._segmenter.info.input_hw, np.bool_)
        self._seconds = 0.0

    def annotate(self, image_bgr: ImageBgr) -> None:
        """Draw into ``image_bgr``."""
        view = self._tracker.update(image_bgr)
        if view is not self._view:
            self._view = view
            self._transform = Transform(view.source_hw, view.rect, self._segmenter.info.input_hw)
            self._inside = view.mask_at_input(self._transform)
        image_rgb = np.asarray(cv2.cvtColor(self._transform.forward(image_bgr), cv2.COLOR_BGR2RGB), np.uint8)
        mask = self._segmenter.segment(image_rgb).mask & self._inside
        placed = self._transform.inverse_mask_bounds(mask)
        marks = marks_from_mask(placed.mask, placed.top, placed.left)
        draw_marks(image_bgr, marks, self._style)
        info = HudInfo(MaskState.FRESH, 0.0, self._fps, "fcm", bool(marks.boxes), "", self._seconds)
        box = Box(view.rect.left, view.rect.top, view.rect.width, view.rect.height)
        draw_hud(image_bgr, info, box)
        self._seconds += 1 / self._fps


def run(
    source: str, out: Path, writer_class: "type[PyavWriter] | type[Cv2Writer]", threads: int
) -> dict[str, float]:
    """The whole loop; returns the frames it played and the seconds from the first read to the finished file."""
    capture = cv2.VideoCapture(source)
    fps = capture.get(cv2.CAP_PROP_FPS)
    steps = Steps(fps)
    begun_s = time.monotonic()
    writer: Writer | None = None
    frames = 0
    while True:
        found, image = capture.read()
        if not found:
            break
        image_bgr: ImageBgr = np.asarray(image, np.uint8)
        if writer is None:
            writer = writer_class(out, (image_bgr.shape[0], image_bgr.shape[1]), fps, threads)
        steps.annotate(image_bgr)
        writer.write(image_bgr)
        frames += 1
    if writer is not None:
        writer.close()
    return {"frames": frames, "loop_s": time.monotonic() - begun_s}


def main() -> None:
    """Play, and print the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("source")
    parser.add_argument("out", type=Path)
    parser.add_argument("--writer", choices=("pyav", "cv2"), default="pyav")
    parser.add_argument("--threads", type=int, default=Config().record.threads, help="of the encoder")
    arguments = parser.parse_args()
    writer = PyavWriter if arguments.writer == "pyav" else Cv2Writer
    print(json.dumps(run(arguments.source, arguments.out, writer, arguments.threads)))


if __name__ == "__main__":
    main()
