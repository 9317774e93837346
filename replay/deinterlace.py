"""Interlaced pictures made whole by FFmpeg's bwdif, one picture out for each one in.

Separate because it holds pictures back: bwdif looks one picture ahead. Only pictures flagged as interlaced
are changed (``auto``); combing in a stream that does not say so is left as recorded, since a filter that
guesses would soften progressive video. The rate stays: fields are not doubled into frames.
"""

from collections import deque
from collections.abc import Iterable, Iterator

import av
from av.filter import Graph


class Deinterlacer:
    """Deinterlaces ``(picture, time)`` pairs; progressive streams pass untouched and undelayed."""

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._shape: tuple[int, int, str] | None = None
        self._times: deque[int | None] = deque()

    def run(
        self, pictures: Iterable[tuple[av.VideoFrame, int | None]]
    ) -> Iterator[tuple[av.VideoFrame, int | None]]:
        """Yield as many pairs as come, in order, with their times; size and format may change on the way."""
        for picture, time in pictures:
            shape = (picture.height, picture.width, picture.format.name)
            if self._graph is not None and shape != self._shape:
                yield from self._finish()
            if self._graph is None:
                if not picture.interlaced_frame:
                    yield picture, time
                    continue
                self._graph, self._shape = _bwdif(picture), shape
            self._times.append(time)
            self._graph.vpush(picture)
            yield from self._pull(self._graph)
        yield from self._finish()

    def _pull(self, graph: Graph) -> Iterator[tuple[av.VideoFrame, int | None]]:
        while True:
            try:
                picture = graph.vpull()
            except (av.BlockingIOError, av.EOFError):
                return
            yield picture, self._times.popleft()

    def _finish(self) -> Iterator[tuple[av.VideoFrame, int | None]]:
        if self._graph is None:
            return
        graph, self._graph = self._graph, None
        graph.vpush(None)
        yield from self._pull(graph)


def _bwdif(picture: av.VideoFrame) -> Graph:
    graph = Graph()
    graph.threads = 1
    graph.link_nodes(
        graph.add_buffer(
            width=picture.width, height=picture.height, format=picture.format, time_base=picture.time_base
        ),
        graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"),
        graph.add("buffersink"),
    ).configure()
    return graph
