"""The annotation path of a session that is played back: what was computed then, looked up by the frame's number.

Two stages in the places of preprocess and infer: the first passes frames on untouched, the second answers each with
the mask, the state and the age that were recorded for it. Nothing is computed, and no network is loaded. Separate from
the stages that compute, which know nothing of sessions.
"""

from pathlib import Path

from endostream.configs.errors import SourceMissing

from ..link import Received
from ..stage import Output
from ..wire import FrameHeader, Kind, PresentedHeader, TensorHeader
from .session_log import SessionLog

RUNTIME = "recorded masks"


class PassOnStage:
    """In the place of preprocess: the frame goes on, without a tensor."""

    name = "preprocess"
    takes = Kind.FRAME
    sends_again = False

    def open(self) -> None:
        """Nothing to load."""

    def process(self, message: Received, header: FrameHeader) -> Output:
        """Pass the frame on."""
        return Output(Kind.TENSOR, TensorHeader(header, (), (0, 0)), None)

    def close(self) -> None:
        """Nothing to give back."""


class RecordedMasks:
    """In the place of infer: answers each frame with what was recorded for it.

    Args:
        folders: the sessions, in the order in which they are played.
    """

    name = "infer"
    takes = Kind.TENSOR
    sends_again = True

    def __init__(self, folders: tuple[str, ...]) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._logs: list[SessionLog] = []

    def open(self) -> None:
        """Read the logs; raises SourceMissing if one is not there."""
        for folder in self._folders:
            try:
                self._logs.append(SessionLog(folder))
            except OSError as error:
                raise SourceMissing(f"source: {folder}; its log cannot be read ({error.strerror})") from error

    def process(self, message: Received, header: TensorHeader) -> Output:
        """Answer one frame; its seq is its number in the session."""
        key = header.frame.key
        logged = self._logs[key.source_id].answer(key.seq)
        answer = PresentedHeader(header.frame, logged.annotation, 0, None, False, mask=logged.mask)
        return Output(Kind.RECORDED, answer, logged.packed or None)

    def close(self) -> None:
        """Close the logs."""
        for log in self._logs:
            log.close()
        self._logs.clear()
