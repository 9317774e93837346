"""The network as it is trained: auxiliary outputs, a teacher beside it, and the loss over all of them.

Separate from ``train.py``, which is the course of a run: here is one step's mathematics, as a
``keras.Model`` whose ``compute_loss`` any backend can call. The network inside it is
``models/resunet.py``'s, unchanged.
"""

from dataclasses import dataclass
from typing import Any

import keras
import numpy.typing as npt

from endostream.models.resunet import ResUNetConfig, build_resunet

from .losses import dice_loss, mask_and_weight, soft_dice_batch, structure_loss, teacher_loss
from .recipe import LossRecipe, OptimiserRecipe


class Learner(keras.Model):  # type: ignore[misc]  # Keras has no types
    """A network with its loss; outputs ``[logits, auxiliary_1, …, teacher's logits]``, the last two kinds if
    any.

    Reports ``loss`` and ``dice_soft_batch`` (of the augmented training pictures, weights as they are, not
    averaged).
    """

    def setup(self, loss: LossRecipe, factors: tuple[int, ...], *, taught: bool) -> None:
        """Take the loss; ``factors`` are input pixels per pixel of each auxiliary output."""
        self.loss_recipe = loss
        self.factors = factors
        self.taught = taught
        self.dice_mean = keras.metrics.Mean(name="dice_soft_batch")

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The loss of one batch; ``y`` is uint8 N × H × W × 2 as ``losses.py`` has it."""
        outputs = y_pred if isinstance(y_pred, list) else [y_pred]
        logits, auxiliaries = outputs[0], outputs[1 : 1 + len(self.factors)]
        total = self._supervised(logits, y, 1)
        if self.taught:
            share = self.loss_recipe.teacher_weight
            total = (1.0 - share) * total + share * teacher_loss(logits, outputs[-1])
        weight = self.loss_recipe.auxiliary
        for auxiliary, factor in zip(auxiliaries, self.factors, strict=True):
            total = total + weight * self._supervised(auxiliary, y, factor)
            weight /= 2
        self.dice_mean.update_state(soft_dice_batch(logits, mask_and_weight(y)[0]))
        return total

    def _supervised(self, logits: Any, target: Any, factor: int) -> Any:
        mask, weight = mask_and_weight(target, factor)
        if self.loss_recipe.name == "dice":
            return dice_loss(logits, mask)
        return structure_loss(logits, mask, weight, self.loss_recipe.dice_share)


def build_learner(config: ResUNetConfig, loss: LossRecipe, teacher: Any | None = None) -> Learner:
    """A learner around a fresh network; ``teacher`` is a network of the same input size, or None."""
    network = build_resunet(config, auxiliary=loss.auxiliary > 0)
    outputs = list(network.outputs)
    levels = len(outputs) - 1
    if teacher is not None:
        teacher.trainable = False
        outputs.append(teacher(network.input, training=False))
    learner = Learner(network.input, outputs, name=f"{network.name}_learner")
    factors = tuple(config.stem_stride * 2 ** (level + 1) for level in range(levels))
    learner.setup(loss, factors, taught=teacher is not None)
    return learner


def build_optimiser(recipe: OptimiserRecipe, steps_per_epoch: int, epochs: int) -> Any:
    """The recipe's optimiser with its schedule over the whole run."""
    settings: dict[str, Any] = {
        "learning_rate": _schedule(recipe, steps_per_epoch, epochs),
        "global_clipnorm": recipe.clip_norm or None,
        "use_ema": recipe.ema > 0,
        "ema_momentum": recipe.ema or 0.99,
    }
    if recipe.name == "nadam":
        optimiser = keras.optimizers.Nadam(**settings)
    else:
        optimiser = keras.optimizers.AdamW(weight_decay=recipe.weight_decay, **settings)
        optimiser.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    # fit() calls this at its end, that is after each epoch, and would go on from the averages.
    optimiser.finalize_variable_values = _leave_alone
    return optimiser


def _leave_alone(variables: Any) -> None:
    """In place of putting the averages where the weights are; ``copy_averaged`` does that on a copy."""


def _schedule(recipe: OptimiserRecipe, steps_per_epoch: int, epochs: int) -> Any:
    if recipe.schedule == "constant":
        return recipe.learning_rate
    warmup = min(round(recipe.warmup_epochs * steps_per_epoch), steps_per_epoch * epochs // 4)
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=recipe.learning_rate * (0.01 if warmup else 1.0),
        decay_steps=max(1, steps_per_epoch * epochs - warmup),
        alpha=recipe.end_learning_rate / recipe.learning_rate,
        warmup_target=recipe.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


@dataclass(frozen=True, slots=True)
class State:
    """All that training changes: the learner's weights and its optimiser's variables, as arrays."""

    weights: list[npt.NDArray[Any]]
    optimiser: list[npt.NDArray[Any]]


def state_of(learner: Learner) -> State:
    """A copy of the learner's state; its optimiser must be built."""
    variables = learner.optimizer.variables
    return State(learner.get_weights(), [keras.ops.convert_to_numpy(each) for each in variables])


def put_state(learner: Learner, state: State) -> None:
    """Put a state into a learner of the same network, at any input size. Raises ValueError for another network."""
    learner.set_weights(state.weights)
    for variable, value in zip(learner.optimizer.variables, state.optimiser, strict=True):
        variable.assign(value)


def copy_averaged(learner: Learner, network: Any) -> None:
    """Copy the learner's averaged weights into a network of the same preset; the learner is left as it was."""
    live = learner.get_weights()
    if learner.optimizer.use_ema:
        keras.optimizers.Optimizer.finalize_variable_values(learner.optimizer, learner.trainable_variables)
    for layer in network.layers:
        if layer.weights:
            layer.set_weights(learner.get_layer(layer.name).get_weights())
    learner.set_weights(live)
