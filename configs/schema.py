"""Every setting of endostream: its type, bounds, unit, default, and one sentence on what it does.

Separate from ``load.py``, which reads files and the command line: this file is the one place that says what
can be set. It does not know which segmenters, sources or sinks there are; their registries check names.
"""

import re
from fractions import Fraction
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from .setting import Section, setting

RunMode = Literal["live", "every-frame"]
_SPEED = re.compile(r"(\d+(?:\.\d*)?|\.\d+)x")
_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_TCP_ADDRESS = re.compile(r"tcp://(\[[0-9a-fA-F:.%\w-]+\]|[^\s:/\[\]]+):([0-9]{1,5})")


def speed_factor(speed: str) -> float | None:
    """Stream seconds a second for ``realtime``, ``fastest`` (None: as fast as it goes) or e.g. ``0.5x``.

    Raises:
        ValueError: none of these, or not between 0.01x and 100x.
    """
    if speed in ("realtime", "fastest"):
        return 1.0 if speed == "realtime" else None
    match = _SPEED.fullmatch(speed)
    if match is None or not 0.01 <= float(match[1]) <= 100:
        raise ValueError("no such speed")
    return float(match[1])


def frame_rate(fps: str | float) -> Fraction:
    """Exact frames a second from ``25``, ``"29.97"`` or ``"30000/1001"``.

    Raises:
        ValueError: no such number, or not between 1 and 240.
    """
    try:
        rate = Fraction(str(fps))
    except ZeroDivisionError as error:
        raise ValueError("no such rate") from error
    if not 1 <= rate <= 240:
        raise ValueError("no such rate")
    return rate


def tcp_address(address: str) -> tuple[str, int]:
    """Host and port of ``tcp://HOST:PORT``; brackets around an IPv6 host are taken off.

    Raises:
        ValueError: none of this form, or a port above 65535.
    """
    match = _TCP_ADDRESS.fullmatch(address)
    if match is None or int(match[2]) > 65_535:
        raise ValueError("no such address")
    return match[1].strip("[]"), int(match[2])


def _check_address(address: str) -> str:
    tcp_address(address)
    return address


def _check_speed(speed: str) -> str:
    speed_factor(speed)
    return speed


def _check_rate(fps: str | float) -> str | float:
    frame_rate(fps)
    return fps


def _check_colour(colour: str) -> str:
    if _COLOUR.fullmatch(colour) is None:
        raise ValueError("no such colour")
    return colour


Speed = Annotated[str, AfterValidator(_check_speed)]
Rate = Annotated[str | int | float, AfterValidator(_check_rate)]
Colour = Annotated[str, AfterValidator(_check_colour)]
TcpAddress = Annotated[str, AfterValidator(_check_address)]


def _probability(what: str) -> Any:
    return setting(0.0, f"Probability, for each frame, that {what}.", ge=0, le=1)


def _nice(default: int, stage: str) -> Any:
    sentence = f"Scheduling priority of {stage}; below 0 needs the right to it and is left at 0 without."
    return setting(default, sentence, "nice level", ge=-20, le=19)


class FaultSettings(Section):
    """Faults put into a replay on purpose, to rehearse a live set-up from a recording."""

    seed: int = setting(0, "Seed of all faults; the same seed gives the same faults.", ge=0, le=2**32 - 1)
    jitter_ms: float = setting(0.0, "Standard deviation of how late frames come.", "ms", ge=0, le=1000)
    lose: float = _probability("it is lost before it is captured")
    freeze: float = _probability("the picture freezes")
    black: float = _probability("the picture is black")
    tear: float = _probability("the picture is torn: new above, old below")
    disconnect: float = _probability("the source goes away")
    freeze_frames: int = setting(12, "How long a freeze lasts.", "frames", ge=1, le=10_000)
    disconnect_s: float = setting(2.0, "How long a disconnected source stays away.", "s", gt=0, le=3600)


class ReplaySettings(Section):
    """How recordings are played."""

    speed: Speed = setting(
        "realtime",
        "How fast recordings are played.",
        expected="realtime, fastest, or a number from 0.01 to 100 and x, such as 0.5x",
    )
    mode: Literal["auto", "live", "every-frame"] = setting(
        "auto",
        "live: newest wins; every-frame: none dropped; auto: every-frame if speed is fastest, else live.",
    )
    loop: int = setting(1, "How many times the sources are played, 0 for ever.", "times", ge=0, le=1_000_000)
    start_s: float = setting(0.0, "Stream time at which each source begins.", "s", ge=0)
    duration_s: float | None = setting(None, "Stream time to play of each source, null for all.", "s", gt=0)
    ready_wait_s: float = setting(
        1.0,
        "How long the first frame of live mode waits for infer to be ready, 0 not at all.",
        "s",
        ge=0,
        le=600,
    )
    deinterlace: Literal["off", "auto"] = setting("off", "auto: interlaced pictures are deinterlaced.")
    folder_fps: Rate = setting(
        25, "Frame rate of a folder of pictures.", "frames/s", "a number or fraction from 1 to 240 frames/s"
    )
    decode_threads: int = setting(1, "Threads that decode a file.", "threads", ge=1, le=64)
    faults: FaultSettings = Field(default_factory=FaultSettings, description="Faults put in on purpose.")

    @property
    def factor(self) -> float | None:
        """Stream seconds a second, None for as fast as it goes."""
        return speed_factor(self.speed)


class PhantomSettings(Section):
    """The rendered colon that ``endostream demo`` plays."""

    width: int = setting(720, "Width of the picture.", "px", ge=16, le=7680)
    height: int = setting(576, "Height of the picture.", "px", ge=16, le=4320)
    fps: Rate = setting(
        "25", "Frame rate.", "frames/s", "a number or fraction from 1 to 240 frames/s, such as 30000/1001"
    )
    duration_s: float = setting(10.0, "Length.", "s", gt=0, le=86_400)
    seed: int = setting(0, "Seed of the scene; the same seed gives the same pictures.", ge=0, le=2**32 - 1)

    @property
    def rate(self) -> Fraction:
        """Frames a second, exact."""
        return frame_rate(self.fps)


class MemorySettings(Section):
    """Sources memory:SOURCE, decoded and resized beforehand and played over and over for replay.duration_s."""

    width: int | None = setting(None, "Width to resize to, null for the source's own.", "px", ge=16, le=7680)
    height: int | None = setting(
        None, "Height to resize to, null for the source's own.", "px", ge=16, le=4320
    )
    fps: Rate | None = setting(
        None,
        "Rate to play at, null for the source's own.",
        "frames/s",
        "null, or a number or fraction from 1 to 240 frames/s, such as 30000/1001",
    )
    budget_mib: int = setting(
        256, "Most memory for pictures; what does not fit is not played.", "MiB", ge=1, le=65_536
    )

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """Height and width asked for, None if not."""
        return None if self.width is None or self.height is None else (self.height, self.width)

    @property
    def rate(self) -> Fraction | None:
        """Frames a second asked for, exact, None if not."""
        return None if self.fps is None else frame_rate(self.fps)

    def check(self) -> None:
        """Raise ValueError for what no single setting can tell."""
        if (self.width is None) != (self.height is None):
            raise ValueError("memory.width, memory.height: only one of them is set; expected both or none")


class LiveSettings(Section):
    """Live sources: what to ask of them, and how they are won back when they are lost."""

    width: int | None = setting(None, "Width to capture in, null for the source's own.", "px", ge=16, le=7680)
    height: int | None = setting(
        None, "Height to capture in, null for the source's own.", "px", ge=16, le=4320
    )
    fps: Rate | None = setting(
        None,
        "Rate to capture at, null for the source's best up to 60.",
        "frames/s",
        "null, or a number or fraction from 1 to 240 frames/s, such as 30000/1001",
    )
    pixel_format: Literal["auto", "bgr", "rgb", "nv12", "yuv420", "yuyv", "uyvy", "grey", "mjpeg"] = setting(
        "auto", "Pixel format of a capture device; auto: the cheapest that reaches the rate."
    )
    buffers: int = setting(3, "Buffers that a capture device fills in turn.", "buffers", ge=2, le=4)
    reader: Literal["auto", "own", "ffmpeg"] = setting(
        "auto",
        "Who reads a capture device; auto: we, or FFmpeg where the device offers only what we do not read.",
    )
    silence_s: float = setting(
        2.0, "A source without a picture for so long counts as lost and is opened again.", "s", gt=0, le=600
    )
    open_timeout_s: float = setting(
        10.0, "Most time for opening a stream or a pipe and its first picture.", "s", gt=0, le=600
    )
    backoff_min_s: float = setting(
        0.1, "Wait before a lost source is first opened again; doubles each time.", "s", gt=0, le=60
    )
    backoff_max_s: float = setting(2.0, "Longest wait before it is opened again.", "s", gt=0, le=600)
    give_up_s: float = setting(
        0.0, "A source lost for so long ends the run with exit code 3, 0 for never.", "s", ge=0, le=86_400
    )
    wait_at_start: bool = setting(
        False, "A source that is not there at the start is waited for instead of ending the run."
    )
    pipe_format: Literal[
        "yuv4mpeg", "bgr24", "rgb24", "gray", "yuv420p", "yuv422p", "yuv444p", "nv12", "yuyv422", "uyvy422"
    ] = setting("yuv4mpeg", "What a pipe writes; all but yuv4mpeg need live.width, live.height and live.fps.")
    rtsp_transport: Literal["tcp", "udp"] = setting(
        "tcp", "How RTSP sends pictures; udp loses some on a poor network, tcp delays them."
    )
    find_pictures: bool = setting(
        False,
        "Search an MPEG-TS for where pictures begin, for senders that do not put each in a packet of its own; "
        "costs a frame of delay.",
    )
    stream_options: dict[str, Any] = setting({}, "Options of FFmpeg for opening a stream, above our own.")

    @property
    def size_hw(self) -> tuple[int, int] | None:
        """Height and width asked for, None if not."""
        return None if self.width is None or self.height is None else (self.height, self.width)

    @property
    def rate(self) -> Fraction | None:
        """Frames a second asked for, exact, None if not."""
        return None if self.fps is None else frame_rate(self.fps)

    def check(self) -> None:
        """Raise ValueError for what no single setting can tell."""
        if (self.width is None) != (self.height is None):
            raise ValueError("live.width, live.height: only one of them is set; expected both or none")
        shortest, longest = self.backoff_min_s, self.backoff_max_s
        if shortest > longest:
            raise ValueError(
                f"live.backoff_min_s: {shortest:g}; expected at most live.backoff_max_s ({longest:g})"
            )
        if self.pipe_format != "yuv4mpeg" and (self.size_hw is None or self.fps is None):
            raise ValueError(
                f"live.pipe_format: {self.pipe_format}; expected live.width, live.height and live.fps with it"
            )


class CaptureSettings(Section):
    """Capture, and the ring of pictures it writes."""

    ring_slots: int = setting(16, "Pictures that the ring holds.", "slots", ge=8, le=128)
    ring_budget_mib: int = setting(
        1024, "Most memory for rings; large pictures get fewer slots.", "MiB", ge=16, le=65_536
    )
    lookahead_frames: int = setting(4, "Pictures decoded ahead of their due time.", "frames", ge=1, le=64)
    nice: int = _nice(-5, "capture")


class PreprocessSettings(Section):
    """Preprocess: field of view, crop, resize."""

    field_of_view: Literal["auto", "off"] = setting(
        "auto", "auto: only the endoscope's picture goes to the network."
    )
    interval_frames: int = setting(
        25, "The field of view is looked for once in so many.", "frames", ge=1, le=10_000
    )
    nice: int = _nice(5, "preprocess")


class InferSettings(Section):
    """Infer: which segmenter, and when it counts as hung."""

    segmenter: str = setting("resunet-small", "Name of the segmenter; endostream doctor lists them.")
    options: dict[str, Any] = setting({}, "Keyword arguments of the segmenter's constructor.")
    runtime: str = setting(
        "auto", "What computes the network where a segmenter has the choice; auto: the best that works here."
    )
    hang_timeout_s: float = setting(
        5.0,
        "A frame that takes longer means hung: restarted; live, 20 times the usual is enough, see "
        "supervisor.live_hang_s.",
        "s",
        gt=0,
        le=3600,
    )
    open_timeout_s: float = setting(
        180.0,
        "Most time for loading and warming up; while an engine is being built, without its getting on.",
        "s",
        gt=0,
        le=3600,
    )
    host: TcpAddress | None = setting(
        None,
        "Address of an endostream infer-host that computes the masks, null for this machine.",
        expected="tcp://HOST:PORT, or null",
        example="tcp://gpuhost:5555",
    )
    keys: str | None = setting(
        None, "Folder of CURVE keys (endostream keys new) for a host that is not on this machine."
    )
    reply_timeout_s: float = setting(
        1.0, "In live mode, a host that has not answered for so long counts as lost.", "s", gt=0, le=60
    )
    host_patience_s: float = setting(
        30.0, "In every-frame mode, how long a frame waits for a lost host.", "s", gt=0, le=3600
    )
    nice: int = _nice(5, "infer")

    def check(self) -> None:
        """Raise ValueError for what no single setting can tell."""
        if self.host is not None and self.reply_timeout_s >= self.hang_timeout_s:
            raise ValueError(
                f"infer.reply_timeout_s: {self.reply_timeout_s:g}; "
                f"expected below infer.hang_timeout_s ({self.hang_timeout_s:g})"
            )


class OverlaySettings(Section):
    """Overlay: what is drawn in, and for how long."""

    hold_ms: float = setting(200.0, "A mask older than this is stale and not drawn.", "ms", ge=0, le=10_000)
    contour: bool = setting(True, "Draw the outline of each finding.")
    fill_alpha: float = setting(0.25, "Opacity of the fill, 0 for none.", ge=0, le=1)
    box: bool = setting(True, "Draw the bounding box of each finding.")
    min_area_share: float = setting(
        0.0005, "Findings that cover less of the picture than this are specks and not drawn.", ge=0, le=1
    )
    hud: bool = setting(True, "Show AI state, mask age and frame rate in the picture.")
    colour: Colour = setting(
        "#28ffa0", "Colour of the marks.", expected='#RRGGBB in hexadecimal and in quotes, such as "#28ffa0"'
    )
    max_backlog_frames: int = setting(
        4, "In live mode, frames waiting beyond this are dropped, oldest first.", "frames", ge=1, le=64
    )
    hang_timeout_s: float = setting(
        0.5,
        "In live mode, the display process silent for so long is killed and restarted.",
        "s",
        gt=0,
        le=600,
    )
    added_delay_ms: float = setting(
        0.0,
        "Hold every picture back until so long after its capture: to check what measures the delay, never in use.",
        "ms",
        ge=0,
        le=400,
    )
    nice: int = _nice(-5, "overlay")

    @property
    def colour_bgr(self) -> tuple[int, int, int]:
        """Colour of the marks as blue, green, red, 0 to 255."""
        red, green, blue = bytes.fromhex(self.colour[1:])
        return blue, green, red


Preset = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]


class RecordSettings(Section):
    """Record: the sinks that do not present."""

    queue_frames: int = setting(
        8, "Frames a sink may lag before it drops (live) or pushes back.", "frames", ge=1, le=256
    )
    codec: Literal["auto", "h264", "mpeg4", "ffv1"] = setting(
        "auto", "Codec of video files; auto: h264 in mp4, mpeg4 in avi, lossless ffv1 in mkv."
    )
    preset: Preset = setting("ultrafast", "Effort of the h264 encoder.")
    crf: int = setting(20, "Quality of h264, 0 lossless, 51 worst.", ge=0, le=51)
    gop_s: float = setting(1.0, "Time between key frames, and what a SIGKILL may cost.", "s", gt=0, le=60)
    threads: int = setting(1, "Threads of the encoder.", "threads", ge=1, le=64)
    blank_outside_view: bool = setting(
        False, "Blank everything outside the field of view; names may be burnt in there."
    )
    folder: str = setting("recordings", "Folder in which each recorded run makes a folder of its own.")
    at_start: bool = setting(
        False, "Every run records a session from its start, as --record does, in a folder of its own."
    )
    raw: Literal["copy", "h264", "ffv1", "off"] = setting(
        "copy", "Video without marks; copy: as it came where it came compressed, else h264; ffv1 is lossless."
    )
    overlay: Literal["h264", "ffv1", "off"] = setting(
        "h264", "Video with marks of a recorded session; ffv1 is lossless."
    )
    segment_s: float | None = setting(
        None, "Length after which a recorded video goes on in a new file, null for none.", "s", ge=1
    )
    segment_mb: float | None = setting(
        None, "Size after which a recorded video goes on in a new file, null for none.", "MB", ge=1
    )
    min_free_mb: int = setting(
        500, "With less room than this on the disk a recording is stopped, and the video goes on.", "MB", ge=0
    )
    nice: int = _nice(5, "record")


class WindowSettings(Section):
    """The window on the screen."""

    full_screen: bool = setting(False, "Begin with a window that fills the screen; the key f changes it.")
    snapshot_folder: str = setting(
        "snapshots", "Folder of the pictures that the key s keeps: as captured, and with marks."
    )


class SupervisorSettings(Section):
    """Supervisor: how stages are run, watched and restarted."""

    launcher: Literal["processes", "threads"] = setting(
        "processes", "threads: all stages in one process, for tests."
    )
    restart_backoff_min_s: float = setting(
        0.05, "Wait before the first restart; doubles each time.", "s", gt=0, le=60
    )
    restart_backoff_max_s: float = setting(5.0, "Longest wait before a restart.", "s", gt=0, le=600)
    heartbeat_timeout_s: float = setting(
        2.0, "A stage silent for so long is killed and restarted.", "s", gt=0, le=600
    )
    live_hang_s: float = setting(
        1.0,
        "In live mode, capture, preprocess and infer silent for so long, or at a frame for so long that usually "
        "takes far less, are killed and restarted.",
        "s",
        gt=0,
        le=600,
    )
    memory_limit_mib: int | None = setting(
        None,
        "A stage whose own memory grows beyond it is killed and restarted, null for half of the machine's.",
        "MiB",
        ge=64,
        le=1 << 24,
    )
    stop_timeout_s: float = setting(
        5.0, "A stage that has not ended so long after the request is killed.", "s", gt=0, le=600
    )
    realtime: bool = setting(
        True, "Capture and overlay run in the system's real-time class in live mode, where that is permitted."
    )
    max_resends: int = setting(
        2, "In every-frame mode, times a frame is sent again after a restart.", "times", ge=0, le=100
    )


class MetricsSettings(Section):
    """Metrics: what a run tells other programs about itself."""

    listen: str = setting(
        "",
        "Where metrics are served for Prometheus, HOST:PORT or PORT; empty for nowhere, port 0 for a free one.",
    )


class LogSettings(Section):
    """The log on stderr."""

    format: Literal["auto", "text", "json"] = setting(
        "text", "Lines of text or a JSON object a line; auto: text on a terminal, JSON elsewhere."
    )


class LinkSettings(Section):
    """Links between stages."""

    window_frames: int = setting(8, "In every-frame mode, most frames in flight.", "frames", ge=2, le=127)


class Config(Section):
    """The whole configuration."""

    replay: ReplaySettings = Field(default_factory=ReplaySettings)
    phantom: PhantomSettings = Field(default_factory=PhantomSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    live: LiveSettings = Field(default_factory=LiveSettings)
    capture: CaptureSettings = Field(default_factory=CaptureSettings)
    preprocess: PreprocessSettings = Field(default_factory=PreprocessSettings)
    infer: InferSettings = Field(default_factory=InferSettings)
    overlay: OverlaySettings = Field(default_factory=OverlaySettings)
    record: RecordSettings = Field(default_factory=RecordSettings)
    window: WindowSettings = Field(default_factory=WindowSettings)
    supervisor: SupervisorSettings = Field(default_factory=SupervisorSettings)
    links: LinkSettings = Field(default_factory=LinkSettings)
    metrics: MetricsSettings = Field(default_factory=MetricsSettings)
    log: LogSettings = Field(default_factory=LogSettings)

    def effective_mode(self) -> RunMode:
        """The mode a run has: ``replay.mode``, or where that is auto, what the speed implies."""
        if self.replay.mode == "auto":
            return "every-frame" if self.replay.factor is None else "live"
        return self.replay.mode

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Check what no single setting can."""
        self.live.check()
        self.memory.check()
        self.infer.check()
        window, ahead, slots = (
            self.links.window_frames,
            self.capture.lookahead_frames,
            self.capture.ring_slots,
        )
        if not ahead < window < slots:
            raise ValueError(
                f"links.window_frames: {window}; expected more than capture.lookahead_frames ({ahead}) "
                f"and less than capture.ring_slots ({slots})"
            )
        shortest, longest = self.supervisor.restart_backoff_min_s, self.supervisor.restart_backoff_max_s
        if shortest > longest:
            raise ValueError(
                f"supervisor.restart_backoff_min_s: {shortest:g}; expected at most "
                f"supervisor.restart_backoff_max_s ({longest:g})"
            )
        return self
