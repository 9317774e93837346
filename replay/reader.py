"""Reads packets and decodes them until the file ends, whatever is wrong in between.

Separate from the source, which decides what to play and when: here is only how far decoding gets. Damage is
counted in the caller's counter by cause, and never raised; a disk that fails is raised.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice

import av
from av.codec.context import Flags
from av.packet import Packet
from av.video.stream import VideoStream

from endostream.configs.errors import SourceLost

from .container import OpenVideo

READ_ERRORS_IN_A_ROW = 16
"""After as many without a packet in between the rest of a damaged file is given up."""


class PictureReader:
    """Pictures of one open video in display order.

    Args:
        video: stands where reading is to begin.
        faults: where ``corrupt_packet`` (not decoded: a picture lost), ``damaged_packet`` (the container says
            that bytes of it are missing), ``corrupt_picture`` (given, but in part concealed by the decoder),
            ``stream_added`` (one that was not there at the beginning, and is passed over) and ``size_change``
            are counted.
        name: gives each packet a name that its pictures carry in ``opaque``; for recording.

    Attributes:
        lost: pictures known to be lost so far.
        first_cause: FFmpeg's words for the first error, "" if there was none.
    """

    def __init__(
        self,
        video: OpenVideo,
        faults: Counter[str],
        name: "Callable[[Packet[VideoStream]], int] | None" = None,
    ) -> None:
        self._video = video
        self._name = name
        if name is not None:
            video.stream.codec_context.flags |= Flags.copy_opaque
        self._faults = faults
        self._size: tuple[int, int] | None = None
        self._added = False
        self.lost = 0
        self.first_cause = ""

    def pictures(self, max_packets: int | None = None) -> Iterator[av.VideoFrame]:
        """Decode to the end, or at most ``max_packets`` packets; raises SourceLost if the disk fails."""
        for packet in islice(self._packets(), max_packets):
            if self._name is not None and packet is not None:
                packet.opaque = self._name(packet)
            for picture in self._decode(packet):
                if self._is_sound(picture):
                    yield picture

    def _packets(self) -> Iterator["Packet[VideoStream] | None"]:
        errors = 0
        while errors < READ_ERRORS_IN_A_ROW:
            try:
                for packet in self._video.container.demux(self._video.stream):
                    errors = 0
                    yield packet
                return
            except OSError as error:
                name = self._video.container.name.removeprefix("file:")
                raise SourceLost(f"source: {name}; cannot be read any more ({error.strerror})") from error
            except av.FFmpegError as error:
                errors += 1
                self._note("corrupt_packet", error)
            except IndexError:  # PyAV knows only the streams that were there when the file was opened
                self._faults["stream_added"] += not self._added
                self._added = True
        yield None

    def _decode(self, packet: "Packet[VideoStream] | None") -> list[av.VideoFrame]:
        """Pictures that ``packet`` completes; None lets go those the decoder still holds."""
        if packet is not None and packet.is_corrupt:
            self._faults["damaged_packet"] += 1
        try:
            return list(self._video.stream.codec_context.decode(packet))
        except av.EOFError:  # told to let go twice
            return []
        except av.FFmpegError as error:
            self._note("corrupt_packet", error)
            self.lost += 1
            return []

    def _is_sound(self, picture: av.VideoFrame) -> bool:
        size = (picture.height, picture.width)
        if picture.is_corrupt:
            self._faults["corrupt_picture"] += 1
            if self._size not in (None, size):  # a damaged header, not another recording
                self.lost += 1
                return False
        if self._size not in (None, size):
            self._faults["size_change"] += 1
        self._size = size
        return True

    def _note(self, cause: str, error: av.FFmpegError) -> None:
        self._faults[cause] += 1
        self.first_cause = self.first_cause or error.strerror or str(error)
