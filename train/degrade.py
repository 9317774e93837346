"""Change a training picture's light and make it as bad as live video: colour, focus, motion, fields, noise,
JPEG.

Separate from ``augment.py`` because nothing here touches the mask. Pictures are uint8 H × W × 3 RGB; the
black border stays black but for noise and compression, as in a real recording. Each function draws from the
generator it is given, in a fixed order.
"""

from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

from endostream.models.segmenter import ImageRgb

from .recipe import AugmentRecipe

Step = Callable[[ImageRgb, np.random.Generator], ImageRgb]


def degrade(image_rgb: ImageRgb, settings: AugmentRecipe, random: np.random.Generator) -> ImageRgb:
    """The picture with each change at its share, in the order in which a camera and a recorder make them."""
    if random.random() < settings.speculars:
        image_rgb = speculars(image_rgb, random)
    if random.random() < settings.colour:
        image_rgb = colour(image_rgb, settings, random)
    steps: list[tuple[float, Step]] = [
        (settings.blur, blur),
        (settings.motion_blur, motion_blur),
        (settings.interlace, interlace),
        (settings.noise, noise),
        (settings.jpeg, jpeg),
    ]
    for share, step in steps:
        if random.random() < share:
            image_rgb = step(image_rgb, random)
    return image_rgb


def colour(image_rgb: ImageRgb, settings: AugmentRecipe, random: np.random.Generator) -> ImageRgb:
    """Gain, contrast and gamma by one table, then hue and saturation."""
    gain = 1 + random.uniform(-settings.brightness, settings.brightness)
    contrast = 1 + random.uniform(-settings.contrast, settings.contrast)
    gamma = 1 + random.uniform(-settings.gamma, settings.gamma)
    turn = random.uniform(-settings.hue_deg, settings.hue_deg) / 2  # OpenCV's hue counts 2 degrees
    saturation = 1 + random.uniform(-settings.saturation, settings.saturation)
    mean = float(image_rgb.mean())
    levels = np.arange(256, dtype=np.float64)
    table = 255 * (np.clip((levels - mean) * contrast + mean, 0, 255) / 255) ** gamma * gain
    table *= np.minimum(levels / 16, 1)  # black stays black
    lit = cv2.LUT(image_rgb, np.clip(np.rint(table), 0, 255).astype(np.uint8))
    hsv = cv2.cvtColor(lit, cv2.COLOR_RGB2HSV)
    hues = (np.arange(256) + round(turn)) % 180
    saturations = np.clip(np.rint(levels * saturation), 0, 255)
    hsv[..., 0] = cv2.LUT(hsv[..., 0], hues.astype(np.uint8))
    hsv[..., 1] = cv2.LUT(hsv[..., 1], saturations.astype(np.uint8))
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def blur(image_rgb: ImageRgb, random: np.random.Generator) -> ImageRgb:
    """Out of focus: Gaussian of 0.6 to 2.5 px."""
    return np.asarray(cv2.GaussianBlur(image_rgb, (0, 0), random.uniform(0.6, 2.5)), np.uint8)


def motion_blur(image_rgb: ImageRgb, random: np.random.Generator) -> ImageRgb:
    """Smeared along a line of 5 to 17 px in any direction."""
    length = int(random.integers(2, 9)) * 2 + 1
    angle = random.uniform(0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    middle = length // 2
    offset = np.array([np.cos(angle), np.sin(angle)]) * middle
    start, end = (tuple(round(float(middle + sign * d)) for d in offset) for sign in (-1, 1))
    cv2.line(kernel, start, end, 1.0)
    return np.asarray(cv2.filter2D(image_rgb, -1, kernel / kernel.sum()), np.uint8)


def interlace(image_rgb: ImageRgb, random: np.random.Generator) -> ImageRgb:
    """Combed: every other line from a moment earlier, when the picture lay 2 to 10 px away."""
    across, down = random.integers(2, 11) * random.choice((-1, 1)), int(random.integers(-2, 3))
    matrix = np.array([[1.0, 0.0, float(across)], [0.0, 1.0, float(down)]])
    height, width = image_rgb.shape[:2]
    earlier = cv2.warpAffine(image_rgb, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE)
    out = image_rgb.copy()
    first = int(random.integers(2))
    out[first::2] = earlier[first::2]
    return out


def noise(image_rgb: ImageRgb, random: np.random.Generator) -> ImageRgb:
    """Sensor noise of 2 to 10 levels, coarser than a pixel half of the time."""
    height, width = image_rgb.shape[:2]
    coarse = int(random.integers(1, 3))
    shape = (-(-height // coarse), -(-width // coarse), 3)
    coarse_grain = random.standard_normal(shape, dtype=np.float32) * np.float32(random.uniform(2, 10))
    grain = cv2.resize(coarse_grain, (width, height), interpolation=cv2.INTER_LINEAR)
    return _to_bytes(image_rgb.astype(np.float32) + grain)


def jpeg(image_rgb: ImageRgb, random: np.random.Generator) -> ImageRgb:
    """Compressed at quality 25 to 90, with the halved chroma of any video."""
    quality = int(random.integers(25, 91))
    _, data = cv2.imencode(".jpg", image_rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(decoded[..., ::-1])


def speculars(image_rgb: ImageRgb, random: np.random.Generator) -> ImageRgb:
    """Wet highlights: 3 to 20 small bright ellipses with soft edges, on tissue only."""
    height, width = image_rgb.shape[:2]
    layer = np.zeros((height, width), np.uint8)
    for _ in range(int(random.integers(3, 21))):
        centre = (int(random.integers(width)), int(random.integers(height)))
        axes = (int(random.integers(1, 2 + width // 60)), int(random.integers(1, 2 + width // 100)))
        cv2.ellipse(layer, centre, axes, random.uniform(0, 180), 0, 360, int(random.integers(150, 256)), -1)
    tissue = image_rgb.max(axis=2) > 30
    alpha = cv2.GaussianBlur(layer, (0, 0), random.uniform(0.5, 1.5)).astype(np.float32)[..., None] / 255
    return _to_bytes(image_rgb + (255.0 - image_rgb) * alpha * tissue[..., None])


def _to_bytes(values: npt.NDArray[np.floating]) -> ImageRgb:
    out: ImageRgb = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return out
