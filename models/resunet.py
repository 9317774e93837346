"""The networks: residual U-Nets in Keras 3, from uint8 RGB pictures to logits, on any Keras backend.

Separate from training and from the runtimes, which only see ``image`` (uint8, N × H × W × 3, RGB) and
``logits`` (float32, N × H × W × 1): scaling to [-1, 1] is the first layer, the sigmoid is left to the
caller. Three presets:

* ``resunet-paper``: the Kvasir-SEG paper's ResUNet as far as its text tells (Jha et al. 2020, section 5):
  five residual blocks a side, 16 to 256 filters, pre-activation (batch norm, ReLU, convolution), 320 × 320.
  The closest public code (N. Tomar's Deep-Residual-Unet) has the same blocks, four of them in the decoder.
* ``resunet-small``: for live use on a CPU. The stem halves the picture, since the full-resolution stages
  hold half of the work of a U-Net, and the order is convolution, batch norm, ReLU, so that every batch norm
  folds away.
* ``resunet-base``: the same design, four times the parameters, for a GPU; the teacher of small.

It does not read weights, crop or resize pictures (``transform.py``), or threshold.
"""

from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

from endostream.configs.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ResUNetConfig:
    """Shape of one network.

    Attributes:
        name: preset name.
        input_hw: height and width of the input in pixels; multiples of ``stride``.
        widths: filters of the encoder's levels, finest first; the decoder mirrors them.
        stem_stride: 2 halves the picture before the first block, 1 does not.
        pre_activation: batch norm and ReLU before each convolution (the paper's) instead of after.
        context_filters: filters of each dilated branch at the coarsest level; 0 for the paper's plain bridge
            of two convolutions one level below the encoder.
    """

    name: str
    input_hw: tuple[int, int]
    widths: tuple[int, ...]
    stem_stride: int = 2
    pre_activation: bool = False
    context_filters: int = 0

    @property
    def stride(self) -> int:
        """Input pixels for each pixel of the coarsest feature map."""
        levels = len(self.widths) - 1 + (0 if self.context_filters else 1)
        return self.stem_stride * int(2**levels)


PRESETS: dict[str, ResUNetConfig] = {
    config.name: config
    for config in (
        ResUNetConfig(
            "resunet-paper", (320, 320), (16, 32, 64, 128, 256), stem_stride=1, pre_activation=True
        ),
        ResUNetConfig("resunet-small", (320, 320), (32, 48, 80, 128, 176), context_filters=64),
        ResUNetConfig("resunet-base", (352, 352), (48, 96, 160, 256, 352), context_filters=128),
    )
}

CONTEXT_DILATIONS = (1, 2, 4)
"""Of the branches at the coarsest level: at 10 × 10 the widest spans nearly the whole picture."""


def preset_config(name: str) -> ResUNetConfig:
    """The preset ``name``; raises ConfigError, naming those there are, for any other."""
    if name not in PRESETS:
        raise ConfigError(f"preset: {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]


def build_resunet(config: ResUNetConfig, *, auxiliary: bool = False) -> Any:
    """Build the network, freshly initialised from Keras's global seed.

    Args:
        config: its shape.
        auxiliary: also return, for deep supervision, the logits of the coarser decoder levels (N × h × w × 1,
            each half the size of the one before). They share every other layer.

    Returns:
        A ``keras.Model`` from ``image`` (uint8, N × H × W × 3, RGB) to ``logits`` (float32, N × H × W × 1),
        or to the list ``[logits, auxiliary_1, …]``, finest first.

    Raises:
        ConfigError: an input size that the coarsest level does not divide.
    """
    height, width = config.input_hw
    if height % config.stride or width % config.stride:
        raise ConfigError(
            f"input size: {height} x {width}; expected multiples of {config.stride} for {config.name}"
        )
    image = keras.Input((height, width, 3), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    skips = _encode(x, config)
    if config.context_filters:
        x, skips = _context(skips[-1], config.context_filters), skips[:-1]
    else:
        x = _bridge(skips[-1], config.widths[-1])
    logits, auxiliaries = _decode(x, skips, config)
    outputs = [logits, *auxiliaries] if auxiliary else logits
    return keras.Model(image, outputs, name=config.name.replace("-", "_"))


def _encode(x: Any, config: ResUNetConfig) -> list[Any]:
    """Feature maps of the encoder's levels, finest first."""
    if not config.pre_activation:
        x = _conv_bn(x, config.widths[0], 3, config.stem_stride, name="stem")
        x = layers.ReLU(name="stem_relu")(x)
    levels = []
    for level, filters in enumerate(config.widths):
        x = _block(x, filters, config, stride=1 if level == 0 else 2, name=f"encoder{level}")
        levels.append(x)
    return levels


def _decode(x: Any, skips: list[Any], config: ResUNetConfig) -> tuple[Any, list[Any]]:
    """Full-size logits, and the auxiliary logits of all but the finest level, finest first."""
    auxiliaries: list[Any] = []
    for level in reversed(range(len(skips))):
        x = layers.UpSampling2D(2, interpolation="nearest", name=f"decoder{level}_up")(x)
        x = layers.Concatenate(name=f"decoder{level}_skip")([x, skips[level]])
        x = _block(x, config.widths[level], config, stride=1, name=f"decoder{level}")
        if level > 0:
            auxiliaries.insert(0, _logits(x, f"auxiliary{level}"))
    logits = _logits(x, "logits" if config.stem_stride == 1 else "logits_half")
    if config.stem_stride > 1:
        upsampling = layers.UpSampling2D(
            config.stem_stride, interpolation="bilinear", name="logits", dtype="float32"
        )
        logits = upsampling(logits)
    return logits, auxiliaries


def _block(x: Any, filters: int, config: ResUNetConfig, *, stride: int, name: str) -> Any:
    """Residual block of two 3 × 3 convolutions."""
    if config.pre_activation:
        return _pre_activation_block(x, filters, stride, name)
    shortcut = x
    if stride != 1 or x.shape[-1] != filters:
        shortcut = _conv_bn(x, filters, 1, stride, name=f"{name}_shortcut")
    y = _conv_bn(x, filters, 3, stride, name=f"{name}_a")
    y = layers.ReLU(name=f"{name}_a_relu")(y)
    y = _conv_bn(y, filters, 3, 1, name=f"{name}_b")
    y = layers.Add(name=f"{name}_add")([y, shortcut])
    return layers.ReLU(name=f"{name}_relu")(y)


def _pre_activation_block(x: Any, filters: int, stride: int, name: str) -> Any:
    shortcut = _conv_bn(x, filters, 1, stride, name=f"{name}_shortcut")
    y = _bn_relu_conv(x, filters, stride, name=f"{name}_a")
    y = _bn_relu_conv(y, filters, 1, name=f"{name}_b")
    return layers.Add(name=f"{name}_add")([y, shortcut])


def _bridge(x: Any, filters: int) -> Any:
    """The paper's: two convolutions one level below the encoder."""
    x = _bn_relu_conv(x, filters, 2, name="bridge_a")
    return _bn_relu_conv(x, filters, 1, name="bridge_b")


def _context(x: Any, filters: int) -> Any:
    """Dilated branches side by side, added back: the whole picture in sight before anything is decided."""
    squeezed = layers.ReLU(name="context_squeeze_relu")(_conv_bn(x, filters, 1, 1, name="context_squeeze"))
    branches = []
    for rate in CONTEXT_DILATIONS:
        y = _conv_bn(squeezed, filters, 3, 1, name=f"context_rate{rate}", dilation=rate)
        branches.append(layers.ReLU(name=f"context_rate{rate}_relu")(y))
    y = layers.Concatenate(name="context_join")(branches)
    y = _conv_bn(y, x.shape[-1], 1, 1, name="context_expand")
    return layers.ReLU(name="context_relu")(layers.Add(name="context_add")([x, y]))


def _conv_bn(x: Any, filters: int, size: int, stride: int, *, name: str, dilation: int = 1) -> Any:
    """Convolution and batch norm; without bias, which the batch norm has."""
    convolution = layers.Conv2D(
        filters,
        size,
        strides=stride,
        dilation_rate=dilation,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )
    return layers.BatchNormalization(momentum=0.97, epsilon=1e-3, name=f"{name}_bn")(convolution(x))


def _bn_relu_conv(x: Any, filters: int, stride: int, *, name: str) -> Any:
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    x = layers.ReLU(name=f"{name}_relu")(x)
    return layers.Conv2D(
        filters, 3, strides=stride, padding="same", kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def _logits(x: Any, name: str) -> Any:
    """1 × 1 convolution to one channel, always in float32; starts near 0.15, the share of polyp."""
    start = keras.initializers.Constant(-1.7)
    return layers.Conv2D(1, 1, bias_initializer=start, name=name, dtype="float32")(x)
