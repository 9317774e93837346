"""The small parts of live sources: the newest item, times, addresses, the header of YUV4MPEG2."""

import threading
from fractions import Fraction

import pytest

from endostream.pipeline.source import is_live, source_kind
from endostream.pipeline.sources.latest import Latest
from endostream.pipeline.sources.live_address import live_kind, redacted
from endostream.pipeline.sources.live_timeline import LiveTimeline
from endostream.pipeline.sources.yuv4mpeg import StreamHeader, parse_header

MS = 1_000_000


def test_the_newest_item_replaces_one_that_nobody_took() -> None:
    latest: Latest[int] = Latest()
    assert latest.take(0) is None
    assert latest.put(1) is None
    assert latest.put(2) == 1
    assert latest.take(0) == 2
    assert latest.put(3) is None


def test_what_was_put_before_the_end_can_still_be_taken() -> None:
    latest: Latest[int] = Latest()
    latest.put(1)
    latest.end(EOFError("over"))
    latest.end(ValueError("a second reason"))
    assert latest.take(0) == 1
    for _ in range(2):
        with pytest.raises(EOFError, match="over"):
            latest.take(0)


def test_an_item_held_back_is_given_before_the_end_unless_a_newer_one_is_there() -> None:
    latest: Latest[int] = Latest()
    assert latest.take(10.0, held=0) == 0
    latest.put(1)
    assert latest.take(10.0, held=0) == 1
    latest.end(EOFError("over"))
    assert latest.take(10.0, held=0) == 0
    with pytest.raises(EOFError, match="over"):
        latest.take(10.0)


def test_who_waits_is_woken_by_an_item_and_by_the_end() -> None:
    latest: Latest[int] = Latest()
    thread = threading.Thread(target=latest.put, args=(5,))
    thread.start()
    assert latest.take(10.0) == 5
    thread.join(10.0)
    thread = threading.Thread(target=latest.end, args=(EOFError(),))
    thread.start()
    with pytest.raises(EOFError):
        latest.take(10.0)
    thread.join(10.0)


def test_times_keep_the_senders_rhythm_whatever_the_network_does() -> None:
    timeline = LiveTimeline()
    jitter_ms = [0, 12, 3, 25, 0]
    found = [timeline.pts(n * 40 * MS, (1000 + n * 40 + late) * MS) for n, late in enumerate(jitter_ms)]
    assert found == [0, 3609, 7218, 10827, 14418]  # 40 ms are 3600; 0.1 ms of correction a picture are 9


def test_a_new_session_is_laid_onto_its_arrival() -> None:
    timeline = LiveTimeline(origin_ns=0)
    assert timeline.pts(7_000 * MS, 1_000 * MS) == 90_000
    timeline.restart()
    assert timeline.pts(0, 5_000 * MS) == 450_000
    assert timeline.jumps == 0


def test_a_clock_that_jumps_is_followed_and_counted_and_time_never_goes_back() -> None:
    timeline = LiveTimeline(origin_ns=0)
    assert [timeline.pts(0, 0), timeline.pts(9_000 * MS, 40 * MS)] == [0, 3600]
    assert timeline.pts(0, 40 * MS) == 3601
    assert timeline.jumps == 2


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("/dev/video0", "v4l2"),
        ("/dev/video12", "v4l2"),
        ("/dev/v4l/by-id/usb-grabber", "v4l2"),
        ("v4l2:/dev/anything", "v4l2"),
        ("rtsp://tower/1", "stream"),
        ("srt://tower:9000", "stream"),
        ("udp://239.1.1.1:5000", "stream"),
        ("rtp://:5004", "stream"),
        ("pipe:cat file", "pipe"),
        ("x11grab::0", "x11grab"),
        ("lavfi:testsrc2", "lavfi"),
        ("udp:file.avi", None),
        ("/dev/null", None),
        ("video0", None),
        ("phantom:", None),
        ("a.avi", None),
    ],
)
def test_an_address_says_whether_it_is_live(address: str, kind: str | None) -> None:
    assert live_kind(address) == kind
    assert is_live(address) == (kind is not None)
    if kind is not None:
        assert source_kind(address) == kind


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("rtsp://user:pass@tower/1", "rtsp://***@tower/1"),
        ("rtsp://user:p@ss@tower:554/1", "rtsp://***@tower:554/1"),
        ("srt://tower:9000?passphrase=abc&mode=caller", "srt://tower:9000?passphrase=***&mode=caller"),
        ("rtmp://tower/live?token=abc", "rtmp://tower/live?token=***"),
        ("pipe:ffmpeg -i 'rtsp://a:b@c/d' -f x -", "pipe:ffmpeg -i 'rtsp://***@c/d' -f x -"),
        ("pipe:tool --password=abc --size=1", "pipe:tool --password=*** --size=1"),
        ("udp://@239.1.1.1:5000", "udp://***@239.1.1.1:5000"),
        ("rtsp://tower/a@b", "rtsp://tower/a@b"),
        ("/dev/video0", "/dev/video0"),
    ],
)
def test_no_credential_is_shown(text: str, shown: str) -> None:
    assert redacted(text) == shown


@pytest.mark.parametrize(
    ("line", "header"),
    [
        (b"YUV4MPEG2 W720 H576 F25:1 It A59:54 C420mpeg2", ((576, 720), Fraction(25), "yuv420p", "", "top")),
        (b"YUV4MPEG2 W64 H48", ((48, 64), None, "yuv420p", "", "")),
        (b"YUV4MPEG2 W64 H48 F30000:1001 Ip C422", ((48, 64), Fraction(30000, 1001), "yuv422p", "", "")),
        (b"YUV4MPEG2 H48 W64 F0:0 Cmono XCOLORRANGE=FULL", ((48, 64), None, "gray", "full", "")),
        (b"YUV4MPEG2 W64 H48 F50:1 C420p10 XYSCSS=420P10", ((48, 64), Fraction(50), "yuv420p10le", "", "")),
        (b"YUV4MPEG2 W64 H48 F50:1 Im C444alpha", ((48, 64), Fraction(50), "yuva444p", "", "mixed")),
        (b"YUV4MPEG2 W64 H48 Cmono12", ((48, 64), None, "gray12le", "", "")),
    ],
)
def test_headers_of_yuv4mpeg2(line: bytes, header: tuple[object, ...]) -> None:
    assert parse_header(line) == StreamHeader(*header)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"", "begins with b''; expected YUV4MPEG2"),
        (b"RIFF....AVI ", "expected YUV4MPEG2"),
        (b"YUV4MPEG2 W720", "H: ''; expected 1 to 16384"),
        (b"YUV4MPEG2 W0 H5", "W: '0'"),
        (b"YUV4MPEG2 W99999999999999999999 H5", "W: '9999999999999999'"),
        (b"YUV4MPEG2 W-5 H5", "W: '-5'"),
        (b"YUV4MPEG2 W5 H5 F25", "F: '25'; expected N:D"),
        (b"YUV4MPEG2 W5 H5 C999", "C: '999'; expected one of 420,"),
        ("YUV4MPEG2 W٥ H5".encode(), "W: "),
    ],
)
def test_what_is_no_header_of_yuv4mpeg2_is_said(line: bytes, problem: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_header(line)
    assert problem in str(caught.value)
