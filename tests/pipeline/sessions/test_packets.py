"""Packets on their way to the record process: what they are named by, where decoding can begin, and their bytes."""

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import pytest

from endostream.pipeline.sessions.packet_outlet import PacketTap
from endostream.pipeline.sessions.packets import (
    SourcePacket,
    describe_mjpeg,
    describe_stream,
    is_key,
    open_described,
    unpack_packet,
)
from endostream.pipeline.wire import WireError

from ...replay.make_video import VideoSpec, make_video

PACKET = SourcePacket(1, 2, 3_000_000_007, 4, -5, 6, 40, Fraction(1, 90_000), True, b"stream", b"data")


@pytest.mark.parametrize("packet", [PACKET, replace(PACKET, is_key=False, stream=b"")])
def test_a_packet_comes_back_as_it_was(packet: SourcePacket) -> None:
    assert unpack_packet(packet.pack(), packet.data) == packet


def test_a_body_that_is_cut_off_or_too_long_is_refused() -> None:
    body = PACKET.pack()
    for wrong in (*(body[:length] for length in range(len(body))), body + b"x"):
        with pytest.raises(WireError):
            unpack_packet(wrong, PACKET.data)


@pytest.mark.parametrize("payload", [None, b""])
def test_a_packet_without_data_is_refused(payload: bytes | None) -> None:
    with pytest.raises(WireError, match="and data"):
        unpack_packet(PACKET.pack(), payload)


@pytest.mark.parametrize("base", [(0, 1), (1, 0), (-1, 25)])
def test_a_time_base_that_is_no_positive_fraction_is_refused(base: tuple[int, int]) -> None:
    body = bytearray(PACKET.pack())
    body[48:64] = base[0].to_bytes(8, "little", signed=True) + base[1].to_bytes(8, "little", signed=True)
    with pytest.raises(WireError, match="time base"):
        unpack_packet(bytes(body), PACKET.data)


@pytest.mark.parametrize(("codec", "name"), [("libx264", "h264"), ("mpeg2video", "mpeg2video")])
def test_where_decoding_can_begin_is_seen_in_the_packet_itself_as_a_parser_sees_it(
    tmp_path: Path, codec: str, name: str
) -> None:
    encoder = {"max_b_frames": 0, "gop_size": 5}
    video = make_video(tmp_path / "o.ts", VideoSpec(codec, frames=15, encoder=encoder))
    with av.open(str(video)) as container:
        parsed = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    with av.open(str(video), options={"fflags": "noparse+nofillin"}) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        seen = [is_key(packet, name) for packet in packets]
    assert not any(packet.is_keyframe for packet in packets)
    assert seen == parsed
    assert 3 <= sum(seen) < 15


def test_a_described_stream_has_the_same_codec_size_and_private_data(tmp_path: Path) -> None:
    video = make_video(tmp_path / "o.mp4", VideoSpec("libx264", frames=3))
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        with open_described(describe_stream(stream)) as described:
            again = described.streams.video[0].codec_context
            assert again.name == "h264"
            assert (again.width, again.height) == (64, 48)
            assert again.extradata == stream.codec_context.extradata
    with open_described(describe_mjpeg((240, 320))) as described:
        again = described.streams.video[0].codec_context
        assert (again.name, again.width, again.height) == ("mjpeg", 320, 240)


def tapped(video: Path) -> tuple[list[int], list[SourcePacket]]:
    """The names a tap gives to the packets of ``video``, and what it passes on."""
    passed: list[SourcePacket] = []
    tap = PacketTap(0, 0, lambda: len(passed), passed.append)
    with av.open(str(video)) as container:
        names = [tap.take(packet) for packet in container.demux(video=0) if packet.size]
    return names, passed


def test_a_tap_names_each_packet_by_a_growing_time_and_passes_it_on(tmp_path: Path) -> None:
    video = make_video(tmp_path / "o.mp4", VideoSpec("libx264", frames=10, encoder={"gop_size": 5}))
    names, passed = tapped(video)
    assert names == sorted(set(names))
    assert [packet.packet_ns for packet in passed] == names
    assert [bool(packet.stream) for packet in passed] == [packet.is_key for packet in passed]


def test_an_avi_with_b_frames_has_no_times_to_copy_and_is_left_to_the_encoder(tmp_path: Path) -> None:
    encoder = {"max_b_frames": 2}
    video = make_video(tmp_path / "o.avi", VideoSpec("mpeg4", frames=10, encoder=encoder))
    names, passed = tapped(video)
    assert (set(names), passed) == ({0}, [])


def test_a_stream_that_is_opened_again_as_another_is_described_anew_and_shows_a_gap(tmp_path: Path) -> None:
    counted = iter(range(1, 1000))
    passed: list[SourcePacket] = []
    tap = PacketTap(0, 0, lambda: next(counted), passed.append)
    for size_hw in ((48, 64), (96, 128)):
        video = make_video(tmp_path / f"{size_hw[0]}.mp4", VideoSpec("libx264", size_hw=size_hw, frames=3))
        with av.open(str(video)) as container:
            for packet in container.demux(video=0):
                tap.take(packet)
    assert [packet.number for packet in passed] == [2, 3, 4, 6, 7, 8]
    described = [packet.stream for packet in passed if packet.is_key]
    assert len(set(described)) == 2
