"""What happens to images on a line: functions of an image (H, W, C), uint8, and a strength."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def brightness(image: Image, factor: float) -> Image:
    return np.clip(np.rint(image.astype(np.float32) * factor), 0, 255).astype(np.uint8)


def gamma(image: Image, exponent: float) -> Image:
    return np.rint(255 * (image.astype(np.float32) / 255) ** exponent).astype(np.uint8)


def blur(image: Image, sigma: float) -> Image:
    """`sigma` in pixels."""
    return _with_channels(cv2.GaussianBlur(image, (0, 0), sigma), image)


def jpeg(image: Image, quality: float) -> Image:
    flag = cv2.IMREAD_GRAYSCALE if image.shape[2] == 1 else cv2.IMREAD_COLOR
    encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, int(quality)])[1]
    return _with_channels(cv2.imdecode(encoded, flag), image)[..., ::-1]


def noise(image: Image, deviation: float) -> Image:
    """Gaussian, of this standard deviation in grey values; the same for every image of a size."""
    more = np.random.default_rng(0).normal(0, deviation, image.shape)
    return np.clip(np.rint(image + more), 0, 255).astype(np.uint8)


def shift(image: Image, share: float) -> Image:
    """To the right and down, by this share of the width and of the height in whole pixels; the border is repeated."""
    return _warped(image, 0, 1, share)


def rotation(image: Image, degrees: float) -> Image:
    return _warped(image, degrees, 1, 0)


def scale(image: Image, factor: float) -> Image:
    return _warped(image, 0, factor, 0)


def _warped(image: Image, degrees: float, factor: float, share: float) -> Image:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, factor)
    matrix[:, 2] += round(share * width), round(share * height)
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return _with_channels(moved, image)


def _with_channels(image: NDArray[np.uint8], like: Image) -> Image:
    return image.reshape(like.shape)


EVERY: dict[str, Callable[[Image, float], Image]] = {
    one.__name__: one for one in (brightness, gamma, blur, jpeg, noise, shift, rotation, scale)
}
