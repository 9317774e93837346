"""What every sink must do, whatever it writes; a sink's test subclasses ``SinkContract`` and names the sink.

Also makers of presented frames for the sinks' own tests. It holds no test by itself.
"""

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from endostream.configs.errors import EndostreamError
from endostream.pipeline.frame import Annotation, Frame, FrameKey, ImageBgr, Presented
from endostream.pipeline.sink import Sink, SinkContext, SinkSpec, check_sink, open_sink, parse_sink

TIME_BASE = Fraction(1, 25)


def picture(height: int = 48, width: int = 64, seed: int = 0) -> ImageBgr:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def presented(
    seq: int,
    image_bgr: ImageBgr | None = None,
    *,
    pts: int | None = None,
    time_base: Fraction = TIME_BASE,
    source_id: int = 0,
    loop: int = 0,
    **more: Any,
) -> Presented:
    image = picture(seed=seq) if image_bgr is None else image_bgr
    key = FrameKey(source_id, loop, seq)
    frame = Frame(key, seq if pts is None else pts, time_base, seq * 40_000_000, image)
    return Presented(frame, more.pop("annotation", Annotation()), frame.capture_ns + 1_500_000, **more)


def everything_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


class SinkContract:
    """Subclass it as ``TestXSink``, give ``address``, and, for a sink that cannot run everywhere, ``require``."""

    address = "null"
    """``KIND[:PATH]`` with ``{folder}`` for an empty folder."""

    @pytest.fixture
    def spec(self, tmp_path: Path) -> SinkSpec:
        return parse_sink(self.address.format(folder=tmp_path))

    def open(self, spec: SinkSpec, part: int = 0) -> Sink:
        return open_sink(spec, SinkContext(fps=Fraction(25), options={}, part=part))

    def test_check_passes_and_leaves_nothing_behind(self, spec: SinkSpec, tmp_path: Path) -> None:
        before = everything_in(tmp_path)
        check_sink(spec)
        assert everything_in(tmp_path) == before

    def test_frames_can_be_written_and_it_can_be_closed_twice(self, spec: SinkSpec) -> None:
        sink = self.open(spec)
        for seq in range(3):
            sink.write(presented(seq))
        sink.close()
        sink.close()

    def test_it_can_be_closed_before_the_first_frame(self, spec: SinkSpec) -> None:
        self.open(spec).close()

    def test_it_is_a_context_manager(self, spec: SinkSpec) -> None:
        with self.open(spec) as sink:
            sink.write(presented(0))

    def test_the_picture_is_left_as_it_was(self, spec: SinkSpec) -> None:
        image = picture()
        with self.open(spec) as sink:
            sink.write(presented(0, image))
        np.testing.assert_array_equal(image, picture())

    def test_a_picture_that_may_not_be_written_to_is_taken(self, spec: SinkSpec) -> None:
        image = picture()
        image.setflags(write=False)
        with self.open(spec) as sink:
            sink.write(presented(0, image))

    def test_a_cut_out_of_a_larger_picture_is_taken(self, spec: SinkSpec) -> None:
        with self.open(spec) as sink:
            sink.write(presented(0, picture(100, 100)[10:58, 20:84]))

    def test_pictures_of_another_size_source_or_loop_are_taken(self, spec: SinkSpec) -> None:
        with self.open(spec) as sink:
            sink.write(presented(0))
            sink.write(presented(1, picture(31, 17)))
            sink.write(presented(0, picture(16, 16), source_id=1))
            sink.write(presented(0, loop=1))
            sink.write(presented(1, synthetic=True))

    def test_a_later_part_takes_frames_too(self, spec: SinkSpec) -> None:
        for part in (0, 1, 2):
            with self.open(spec, part) as sink:
                sink.write(presented(part))


class FileSinkContract(SinkContract):
    """What holds besides for sinks that write files."""

    option = ""
    """What may follow the path in ``address``."""

    @pytest.mark.parametrize("where", ["/proc/endostream/{name}", "{folder}/file/{name}"])
    def test_a_place_that_takes_no_files_is_refused_beforehand(self, where: str, tmp_path: Path) -> None:
        """Root passes every permission bit; these two places refuse root as well."""
        (tmp_path / "file").write_bytes(b"")
        kind, _, path = self.address.partition(":")
        place = where.format(folder=tmp_path, name=Path(path).name)
        with pytest.raises(EndostreamError, match=r"^sink .*expected|^sink .*Try:") as caught:
            check_sink(parse_sink(f"{kind}:{place}"))
        assert "\n" not in str(caught.value)
        assert everything_in(tmp_path) == {"file"}
