"""The learning curve of a run: a CSV, TensorBoard events where TensorBoard is installed, and the picture.

The picture has two panels like the Kvasir-SEG paper's Fig. 4: the loss, and Dice and mIoU, over the epochs.
Separate from ``train.py``, which must read from top to bottom. All files are written anew from the rows each
time, so that a resumed run leaves the same files as one that was never interrupted.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .checkpoint import Row

COLUMNS = (
    "epoch",
    "input_px",
    "learning_rate",
    "loss",
    "dice_soft_batch",
    "val_loss",
    "val_dice_soft_batch",
    "val_dice_per_image",
    "val_iou_per_image",
    "val_miou_two_class_pooled",
)


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """The rows as CSV, COLUMNS in order; a column that an epoch has no value for is empty."""
    beside = path.with_suffix(".tmp")
    with beside.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    beside.replace(path)


class EventLog:
    """TensorBoard scalars of each epoch, begun anew with ``rows``; nothing where it is not installed."""

    def __init__(self, folder: Path, rows: Sequence[Row] = ()) -> None:
        self._writer: Any = None
        try:
            from tensorboard.summary import Writer
        except ImportError:
            return
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.glob("events.*"):
            old.unlink()
        self._writer = Writer(str(folder))
        for row in rows:
            self.write(row)

    def write(self, row: Row) -> None:
        """Add one epoch."""
        if self._writer is None:
            return
        for name in COLUMNS[1:]:
            value = row.get(name)
            if value is not None:
                self._writer.add_scalar(name, float(value), int(row["epoch"] or 0))
        self._writer.flush()

    def close(self) -> None:
        """Finish the file; may be called twice."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def draw_curve(rows: Sequence[Row], path: Path, title: str) -> bool:
    """Draw the learning curve as a PNG; False where matplotlib is not installed."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    _lines(left, rows, {"loss": "training", "val_loss": "validation"})
    left.set(xlabel="epoch", ylabel="loss", title=title)
    labels = {
        "dice_soft_batch": "Dice, soft per batch, training",
        "val_dice_soft_batch": "Dice, soft per batch, validation",
        "val_dice_per_image": "Dice per image, validation",
        "val_miou_two_class_pooled": "mIoU of two classes, pooled, validation",
    }
    _lines(right, rows, labels)
    right.set(xlabel="epoch", ylabel="Dice, mIoU", ylim=(0, 1))
    beside = path.with_suffix(".tmp.png")
    figure.savefig(beside, dpi=110)
    pyplot.close(figure)
    beside.replace(path)
    return True


def _lines(axes: Any, rows: Sequence[Row], labels: dict[str, str]) -> None:
    for name, label in labels.items():
        points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, linewidth=1.3)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
