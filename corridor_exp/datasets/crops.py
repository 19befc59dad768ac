"""Square crops of encoded images: size × size × RGB, uint8. Only the part of a JPEG that a crop needs is decoded.

An image that cannot be decoded raises one of the decoders' errors, `UNREADABLE`.
"""

from __future__ import annotations

import io
import math
from random import Random
from typing import NamedTuple

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2.functional import center_crop, resize

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # ranges for a random crop: its part of the image area, its width/height
REDUCTIONS = (8, 4, 2)  # a JPEG can be decoded smaller by these factors, which costs less
MARGIN = 4  # more rows to decode: at its end libjpeg repeats the last row of colours
GAP = 2  # a reduced image is resized by at least this factor; tests/datasets/test_crops.py bounds the error
TABLES = bytes([0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)])  # JPEG markers that may come before the image data
LOST = "Corrupt JPEG data", "Premature end"  # libjpeg's warnings of data that are not there or make no sense
LEFT_OVER = "extraneous bytes"  # but not of data behind the last row, which is normal where the rest is not decoded
UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    Image.DecompressionBombError,
)  # raised for truncated files, and for files that are not images


class Box(NamedTuple):
    """A rectangle of pixels."""

    top: int
    left: int
    height: int
    width: int


def random_crop(data: bytes, size: int, draw: Random) -> Tensor:
    """Inception's crop (Szegedy et al. 2015), resized, and flipped or not: torchvision's RandomResizedCrop.

    A large crop is cut from the image at half, a quarter or an eighth of its size: libjpeg computes that from fewer
    coefficients. Rows below the crop are not decoded.
    """
    height, width, is_plain = _shape(data)
    box = random_box(height, width, draw)
    flipped = draw.random() < 0.5
    wanted = next((r for r in REDUCTIONS if is_plain and min(box.height, box.width) >= GAP * r * size), 1)
    needed = box.top + box.height + MARGIN * wanted + box.height // size  # the filter reads a little beyond the box
    pixels, reduction = _decoded(data, wanted, needed)
    crop = resized(pixels, box, size, reduction)
    return crop.flip(1) if flipped else crop


def central_crop(data: bytes, size: int) -> Tensor:
    """The centre of the image, after its shorter side was resized to 256/224 of `size`. Always decoded in full size."""
    image = torch.from_numpy(_decoded(data)[0]).permute(2, 0, 1)
    return center_crop(resize(image, [round(size * 256 / 224)], antialias=True), [size]).permute(1, 2, 0)


def random_box(height: int, width: int, draw: Random) -> Box:
    """A random box with torchvision's distribution, drawn by Python's generator, which takes a tenth of the time."""
    low, high = (math.log(ratio) for ratio in RATIO)
    for _ in range(10):
        area = height * width * draw.uniform(*AREA)
        ratio = math.exp(draw.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(draw.randint(0, height - h), draw.randint(0, width - w), h, w)
    h = min(
        height, round(width / RATIO[0])
    )  # no box fits a very long image: take the centre, as large as the ratios allow
    w = min(width, round(height * RATIO[1]))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def resized(pixels: np.ndarray, box: Box, size: int, reduction: int = 1) -> Tensor:
    """The box at size × size pixels. `box` is in pixels of the full image, `pixels` may be reduced by `reduction`."""
    top, left, height, width = box
    if reduction > 1:  # torch cannot crop at fractions of pixels
        edges = left / reduction, top / reduction, (left + width) / reduction, (top + height) / reduction
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=edges)
        return torch.from_numpy(np.array(image))
    part = torch.from_numpy(pixels[top : top + height, left : left + width]).permute(2, 0, 1)[None]
    part = part.contiguous(memory_format=torch.channels_last)  # torch's code is fastest in this layout
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def _shape(data: bytes) -> tuple[int, int, bool]:
    """Height, width, and whether the image is a JPEG that libjpeg converts to RGB.

    ImageNet also contains CMYK images, and a PNG whose name ends in JPEG.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        with opened(data) as image:
            return image.height, image.width, False
    if Image.MAX_IMAGE_PIXELS and height * width > 2 * Image.MAX_IMAGE_PIXELS:
        opened(data)  # raises the error that says so
    return height, width, colours in ("YCbCr", "Gray", "RGB")


def _decoded(data: bytes, reduction: int = 1, rows: int | None = None) -> tuple[np.ndarray, int]:
    """Pixels, height × width × RGB, and their reduction factor. A plain JPEG may end after `rows` rows."""
    height, width, is_plain = _shape(data)
    if is_plain:
        cut = _cut_below(rows, data) if rows and rows < height else None
        shape = -(-(rows if rows and cut else height) // reduction), -(-width // reduction)
        pixels = np.empty((*shape, 3), np.uint8)
        try:
            simplejpeg.decode_jpeg(cut or data, min_height=shape[0], min_width=shape[1], buffer=pixels)
            return pixels, reduction
        except ValueError as warning:  # libjpeg's first one, after it has decoded all it could
            if cut and LEFT_OVER in str(warning):
                return pixels, reduction
            _refuse_lost(warning)  # anything else is left to PIL
    with opened(data) as image:
        return np.array(image.convert("RGB")), 1


def refuse_damaged(data: bytes) -> None:
    """Raise OSError if libjpeg misses a part of a JPEG, which PIL would fill without a word."""
    try:
        simplejpeg.decode_jpeg(data, min_height=1, min_width=1)  # an eighth: the data are read all the same
    except ValueError as warning:
        _refuse_lost(warning)


def _refuse_lost(warning: ValueError) -> None:
    if any(word in str(warning) for word in LOST) and LEFT_OVER not in str(warning):
        raise OSError(str(warning)) from None


def _cut_below(rows: int, data: bytes) -> bytes | None:
    """The JPEG with its height set to `rows`, so that libjpeg stops there; None if libjpeg must read the whole file.

    It must read files that do not store the image from top to bottom in one scan, and files without an end marker,
    which may be truncated.
    """
    frame, place = 0, 2
    while data.endswith(b"\xff\xd9"):
        marker = data[place : place + 2]
        if marker in (b"\xff\xc0", b"\xff\xc1"):  # sequential
            frame = place
        elif marker == b"\xff\xda":  # the first scan: does it contain all colours?
            is_only_one = frame and data[frame + 9] == data[place + 4]
            return data[: frame + 5] + rows.to_bytes(2, "big") + data[frame + 7 :] if is_only_one else None
        elif marker[:1] != b"\xff" or marker[1:] not in TABLES:
            return None
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def opened(data: bytes) -> Image.Image:
    """The image, opened by PIL, which refuses more than twice `Image.MAX_IMAGE_PIXELS` pixels."""
    try:
        image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise OSError("no image of a known format") from None  # PIL's message contains a memory address
    if image.mode.startswith(("I", "F")):  # which PIL would cut to white and black
        raise OSError(f"more than 8 bits a channel (mode {image.mode}): convert it to 8 bits")
    return image
