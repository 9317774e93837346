"""A picture of a soak: memory and handles over time, with the faults. Separate, since only this needs matplotlib."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from endostream.configs.errors import ConfigError, SinkError

from ..supervision import STAGES

if TYPE_CHECKING:
    from .soak import Soak


def check_plot(path: Path) -> None:
    """Raise ConfigError if matplotlib is not installed: before half an hour is spent."""
    if find_spec("matplotlib") is None:
        raise ConfigError(f"plot: {path}; matplotlib is not installed. Try: pip install matplotlib")


def plot_soak(soak: "Soak", path: Path) -> None:
    """Write PNG or SVG, by the file's name; raises SinkError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    FigureCanvasAgg(figure)
    memory, counts = figure.subplots(2, 1, sharex=True)
    for stage in ("supervisor", *STAGES):
        known = [sample for sample in soak.samples if stage in sample.processes]
        minutes = [sample.at_s / 60 for sample in known]
        memory.plot(minutes, [sample.processes[stage].own_mib for sample in known], label=stage, lw=1)
        counts.plot(minutes, [sample.processes[stage].handles for sample in known], label=stage, lw=1)
    for axes, label in ((memory, "own memory, MiB"), (counts, "file handles")):
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        for at_s, _ in soak.faults:
            axes.axvline(at_s / 60, color="grey", lw=0.4, ls=":")
    memory.set_yscale("log")
    memory.set_ylim(bottom=10)
    memory.legend(ncol=6, loc="upper left", fontsize="small")
    counts.set_xlabel("minutes; dotted: a fault")
    try:
        figure.savefig(path, dpi=110)
    except (OSError, ValueError) as error:
        raise SinkError(
            f"plot: {path}; cannot be written ({error}). Try: a name that ends in .png"
        ) from error
