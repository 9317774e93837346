"""The network as it was trained, on Keras: the reference that the other runtimes are held against.

Separate because only this file and ``resunet.py`` import Keras; the backend is the one KERAS_BACKEND names.
It is slow at one picture at a time and not for live use.
"""

from importlib import metadata
from typing import Any

import keras
import numpy as np

from endostream.configs.errors import ModelError

from .logits_segmenter import Logits, LogitsSegmenter
from .postprocess import SURE_PROB
from .resunet import build_resunet, preset_config
from .segmenter import ImageRgb, SegmenterInfo
from .weights_files import model_file


class KerasSegmenter(LogitsSegmenter):
    """A preset's network in Keras, in float32."""

    def __init__(
        self,
        preset: str = "resunet-small",
        *,
        name: str = "keras",
        model: str = "",
        input_hw: tuple[int, int] | None = None,
        sure_prob: float = SURE_PROB,
    ) -> None:
        """Build the network and load its weights (``model``: a path instead of the packaged file).

        Raises:
            ConfigError: no such preset.
            ModelError: the file is missing, damaged or of another network.
        """
        super().__init__(sure_prob)
        config = preset_config(preset)
        path, digest = model_file(preset, "keras", model)
        if input_hw is not None and tuple(input_hw) != config.input_hw:
            raise ModelError(f"input_hw: {tuple(input_hw)}; expected {config.input_hw} for {preset}")
        self._network: Any = build_resunet(config)
        load_weights(self._network, path)
        backend = keras.backend.backend()
        runtime = f"keras {keras.__version__} on {backend} {metadata.version(backend)}"
        self.info = SegmenterInfo(name, config.input_hw, runtime, digest)

    def logits(self, image_rgb: ImageRgb) -> Logits:
        """Run the network on one picture; see LogitsSegmenter."""
        logits: Logits = np.asarray(self._network.predict_on_batch(image_rgb[None]), np.float32)[0, :, :, 0]
        return logits

    def close(self) -> None:
        """Let the network go."""
        self._network = None


def load_weights(network: Any, path: Any) -> None:
    """Load weights into a network. Raises ModelError for a file that is damaged or of another network."""
    try:
        network.load_weights(path)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(
            f"model: {path}; not weights of {network.name} ({str(error).splitlines()[0]:.160}). Try: those of a"
            " run of the same preset"
        ) from error
