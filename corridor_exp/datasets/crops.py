"""From an encoded image to a square crop of it: size × size × RGB, uint8. Does no more of the decoding than it needs.

Errors are those of the decoders: see `UNREADABLE`.
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

AREA, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # of a random crop: its share of the image, and width by height
REDUCTIONS = (8, 4, 2)  # by which a JPEG can be decoded smaller, at less cost
MARGIN = 4  # decoded rows: where libjpeg ends, it lets the last row of colours stand for those that follow
GAP = 2  # what must be left to resize after that; tests/datasets/test_crops.py bounds the error
TABLES = bytes([0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)])  # JPEG's markers of what may come before an image
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # of what is cut short, or no image


class Box(NamedTuple):
    top: int
    left: int
    height: int
    width: int


def random_crop(data: bytes, size: int, draw: Random) -> Tensor:
    """Inception's crop (Szegedy et al. 2015), resized, and flipped or not: torchvision's RandomResizedCrop.

    A crop that is large enough for it comes from the image at half (a quarter, an eighth of) its size, which libjpeg
    makes from fewer coefficients. What lies below the crop is not decoded.
    """
    height, width, is_plain = _shape(data)
    box = random_box(height, width, draw)
    flipped = draw.random() < 0.5
    wanted = next((r for r in REDUCTIONS if is_plain and min(box.height, box.width) >= GAP * r * size), 1)
    needed = box.top + box.height + MARGIN * wanted + box.height // size  # the filter looks a little beyond the box
    pixels, reduction = _decoded(data, wanted, needed)
    crop = resized(pixels, box, size, reduction)
    return crop.flip(1) if flipped else crop


def central_crop(data: bytes, size: int) -> Tensor:
    """The shorter side resized to 256/224 of `size`, and the centre of that; never from a reduced image."""
    image = torch.from_numpy(_decoded(data)[0]).permute(2, 0, 1)
    return center_crop(resize(image, [round(size * 256 / 224)], antialias=True), [size]).permute(1, 2, 0)


def random_box(height: int, width: int, draw: Random) -> Box:
    """A part of an image, distributed as torchvision's; drawn by Python's generator, which is a tenth of the work."""
    low, high = (math.log(ratio) for ratio in RATIO)
    for _ in range(10):
        area = height * width * draw.uniform(*AREA)
        ratio = math.exp(draw.uniform(low, high))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return Box(draw.randint(0, height - h), draw.randint(0, width - w), h, w)
    h = min(height, round(width / RATIO[0]))  # a long image: as much of its centre as the ratios allow
    w = min(width, round(height * RATIO[1]))
    return Box((height - h) // 2, (width - w) // 2, h, w)


def resized(pixels: np.ndarray, box: Box, size: int, reduction: int = 1) -> Tensor:
    """A box of the image, whose pixels may be those of the image reduced, at size × size."""
    top, left, height, width = box
    if reduction > 1:  # torch cannot cut between pixels
        edges = left / reduction, top / reduction, (left + width) / reduction, (top + height) / reduction
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=edges)
        return torch.from_numpy(np.array(image))
    part = torch.from_numpy(pixels[top : top + height, left : left + width]).permute(2, 0, 1)[None]
    part = part.contiguous(memory_format=torch.channels_last)  # for which torch has its fastest code
    return F.interpolate(part, (size, size), mode="bilinear", antialias=True)[0].permute(1, 2, 0)


def _shape(data: bytes) -> tuple[int, int, bool]:
    """Height, width, and whether it is a JPEG that libjpeg turns into RGB itself.

    ImageNet has some in CMYK, and a PNG under a JPEG's name.
    """
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        with opened(data) as image:
            return image.height, image.width, False
    if Image.MAX_IMAGE_PIXELS and height * width > 2 * Image.MAX_IMAGE_PIXELS:
        opened(data)  # which says that it is too large
    return height, width, colours in ("YCbCr", "Gray", "RGB")


def _decoded(data: bytes, reduction: int = 1, rows: int | None = None) -> tuple[np.ndarray, int]:
    """Height × width × RGB, and by how much it is reduced; of a plain JPEG perhaps no more than the upper `rows`."""
    height, width, is_plain = _shape(data)
    if is_plain:
        cut = _cut_below(rows, data) if rows and rows < height else None
        shape = -(-(rows if rows and cut else height) // reduction), -(-width // reduction)
        try:
            # Not strict where it is cut: that there is data left to decode is no fault.
            pixels = simplejpeg.decode_jpeg(cut or data, min_height=shape[0], min_width=shape[1], strict=not cut)
            if pixels.shape[:2] == shape:
                return pixels, reduction
        except ValueError:
            pass  # PIL knows what is wrong, and forgives what can be forgiven
    with opened(data) as image:
        return np.array(image.convert("RGB")), 1


def _cut_below(rows: int, data: bytes) -> bytes | None:
    """The JPEG with a height of `rows`, after which libjpeg stops; None where it must read all of it.

    That is one whose data does not go from top to bottom once, and one without an end: whether that comes too early
    is to be found out.
    """
    frame, place = 0, 2
    while data.endswith(b"\xff\xd9"):
        marker = data[place : place + 2]
        if marker in (b"\xff\xc0", b"\xff\xc1"):  # sequential
            frame = place
        elif marker == b"\xff\xda":  # the first scan: is it that of all colours?
            is_only_one = frame and data[frame + 9] == data[place + 4]
            return data[: frame + 5] + rows.to_bytes(2, "big") + data[frame + 7 :] if is_only_one else None
        elif marker[:1] != b"\xff" or marker[1:] not in TABLES:
            return None
        place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None


def opened(data: bytes) -> Image.Image:
    """An encoded image, by PIL, which refuses one of more than twice `Image.MAX_IMAGE_PIXELS`."""
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise OSError("no image of a known format") from None  # PIL's own words have an address in memory
