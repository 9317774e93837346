"""The videos that benchmarks play: the phantom rendered to a file, and the real clip where there is one.

Separate because several benchmarks play the same. Rendered clips are kept under ``out/bench/clips``. Rendering
takes more than a pipeline does, so what is to be measured without it plays a file.
"""

import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from endostream.pipeline.source import SourceOptions, open_source
from results import OUT

POLYP_CLIP, NORMAL_CLIP = "colonoscopy_polyp_560x480_25fps.avi", "colonoscopy_normal_420x288_25fps.avi"


def real_clip(name: str = POLYP_CLIP) -> Path | None:
    """A real video under ENDOSTREAM_DATA, None where it is not."""
    data = Path(os.environ.get("ENDOSTREAM_DATA", OUT.parents[1] / "../shared/data"))
    path = (data / "videos" / name).resolve()
    return path if path.exists() else None


def phantom_clip(width: int, height: int, fps: int, seconds: float) -> Path:
    """The phantom as an AVI (MPEG-4, as most archives hold), rendered if it has not been before."""
    path = OUT / "clips" / f"phantom-{width}x{height}-{fps}fps-{seconds:g}s.avi"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part.avi")
    settings = {"width": width, "height": height, "fps": fps, "duration_s": seconds}
    source = open_source("phantom:", SourceOptions(extra={"phantom": settings}))
    with source, av.open(str(unfinished), "w") as container:
        # A fixed quantiser of 3 (118 is FFmpeg's unit): good quality, some 10 Mbit/s at 720 × 576.
        options = {"flags": "+qscale", "global_quality": str(3 * 118)}
        stream = container.add_stream("mpeg4", rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        image_bgr = np.empty((height, width, 3), np.uint8)
        for picture in source:
            picture.fill(image_bgr)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image_bgr, format="bgr24")))
        container.mux(stream.encode(None))
    unfinished.rename(path)
    return path
