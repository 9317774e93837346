"""Batches of augmented samples in an order that depends on seed and epoch only, made ahead by worker
processes.

A sample depends on (seed, epoch, place in the epoch) and on nothing that happened before, so a run that was
killed and goes on sees what an uninterrupted one would have, whatever the number of workers. Workers read
the pictures from one file mapped into memory (``store.py``). Separate from the network: what comes out are
NumPy arrays.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from .augment import Sample, augment, letterboxed
from .paper_augment import paper_copy
from .recipe import Recipe
from .store import PictureStore

Batch = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""Inputs (N × H × W × 3, RGB) and targets (N × H × W × 2: mask 0 or 255, weight of the pixel in 255ths)."""
BOUNDARY_WINDOW_PX = 31
"""Of the mean that finds pixels near a contour, PraNet's; at 352 px, and in proportion at other sizes."""


@dataclass(frozen=True, slots=True)
class BatchPlan:
    """Everything a worker needs: the recipe, and where the pictures lie."""

    recipe: Recipe
    store: PictureStore
    preset_px: int

    @property
    def steps(self) -> int:
        """Batches in an epoch; what is left over at the end goes to no batch."""
        return max(1, len(self.store) * self.recipe.repeats // self.recipe.batch)

    def input_px(self, epoch: int) -> int:
        """Side of the input in ``epoch``."""
        return self.recipe.input_px_at(epoch, self.preset_px)

    def make(self, epoch: int, step: int) -> Batch:
        """Batch ``step`` of ``epoch``, from the plan alone."""
        recipe = self.recipe
        order = np.random.default_rng((recipe.seed, epoch)).permutation(len(self.store) * recipe.repeats)
        places = np.arange(step * recipe.batch, (step + 1) * recipe.batch) % len(order)
        pairs = [self._target(self._sample(epoch, int(place), int(order[place]))) for place in places]
        return np.stack([image for image, _ in pairs]), np.stack([target for _, target in pairs])

    def _sample(self, epoch: int, place: int, item: int) -> Sample:
        recipe, side = self.recipe, self.input_px(epoch)
        index, copy = item % len(self.store), item // len(self.store)
        if recipe.augment.style == "none":
            return letterboxed(self.store[index], (side, side))
        if recipe.augment.style == "paper":
            fixed = np.random.default_rng((recipe.seed, index, copy))
            return paper_copy(self.store[index], copy, (side, side), fixed)
        random = np.random.default_rng((recipe.seed, epoch, place))
        partner = self.store[int(random.integers(len(self.store)))]
        calm = epoch >= recipe.epochs * (1 - recipe.augment.calm_share)
        return augment(self.store[index], partner, recipe.augment, (side, side), random, calm=calm)

    def _target(self, sample: Sample) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        weight = boundary_weight(sample.mask, self.recipe.loss.boundary_weight)
        return sample.image_rgb, np.dstack([sample.mask, weight])


def boundary_weight(mask: npt.NDArray[np.uint8], extra: float) -> npt.NDArray[np.uint8]:
    """Weight of each pixel, 1 + extra · |local mean − mask|, in 255ths of 1 + extra, the largest possible.

    Made here and not in the loss: a running mean costs the same whatever its window, a pooling layer 961
    times more.
    """
    window = max(3, round(BOUNDARY_WINDOW_PX * mask.shape[0] / 352) | 1)
    share = mask.astype(np.float32) / 255
    near = np.abs(cv2.blur(share, (window, window), borderType=cv2.BORDER_REFLECT_101) - share)
    return np.rint((1 + extra * near) / (1 + extra) * 255).astype(np.uint8)


class Batches:
    """Makes an epoch's batches in order, ``workers`` processes ahead of the training; 0 makes them in place."""

    def __init__(self, plan: BatchPlan, workers: int) -> None:
        self.plan = plan
        self._ahead = 2 * workers + 2
        self._pool: ProcessPoolExecutor | None = None
        if workers:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(workers, context, _start_worker, (plan,))

    def __enter__(self) -> "Batches":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def epoch(self, epoch: int) -> Iterator[Batch]:
        """The batches of ``epoch`` (from 0), in order."""
        if self._pool is None:
            for step in range(self.plan.steps):
                yield self.plan.make(epoch, step)
            return
        waiting: deque[Future[Batch]] = deque()
        for step in range(self.plan.steps):
            waiting.append(self._pool.submit(_work, epoch, step))
            if len(waiting) > self._ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def close(self) -> None:
        """End the workers; may be called twice."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


_plan: BatchPlan | None = None


def _start_worker(plan: BatchPlan) -> None:
    """In the worker: take the plan, one thread for OpenCV, and end with the parent, however that ends."""
    global _plan
    _plan = plan
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to answer
    cv2.setNumThreads(1)
    parent: Any = multiprocessing.parent_process()

    def end_with_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=end_with_parent, daemon=True).start()


def _work(epoch: int, step: int) -> Batch:
    assert _plan is not None
    return _plan.make(epoch, step)
