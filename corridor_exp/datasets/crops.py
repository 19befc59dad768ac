"""From an encoded image to a square crop of it: size × size × RGB, uint8. Reads no more of a JPEG than the crop needs.

Errors are those of the decoders: see `UNREADABLE`.
"""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2.functional import center_crop, resize

AREA, RATIO = [0.08, 1.0], [3 / 4, 4 / 3]  # of RandomResizedCrop
REDUCTIONS = (8, 4, 2)  # by which a JPEG can be decoded smaller at less cost
GAP = 2  # a crop is resized by at least so much after that: see the error in tests/datasets/test_crops.py
UNREADABLE = (OSError, SyntaxError, ValueError)  # PIL's, for what is cut short or no image at all


def random_crop(data: bytes, size: int) -> Tensor:
    """torchvision's RandomResizedCrop and RandomHorizontalFlip, with the same draws from torch's generator.

    A crop that is large enough for it comes from the image at half (a quarter, an eighth of) its size, which libjpeg
    makes from fewer coefficients.
    """
    height, width = _shape(data)
    box = RandomResizedCrop.get_params(torch.empty(()).expand(height, width), AREA, RATIO)
    top, left, rows, columns = box
    flipped = torch.rand(1).item() < 0.5
    reduction = next((r for r in REDUCTIONS if min(rows, columns) >= GAP * r * size), 1)
    pixels = _decoded(data, reduction)
    if reduction > 1 and pixels.shape[:2] == (-(-height // reduction), -(-width // reduction)):
        edges = tuple(edge / reduction for edge in (left, top, left + columns, top + rows))
        image = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR, box=edges)
        crop = torch.from_numpy(np.array(image))
    else:
        part = torch.from_numpy(pixels)[top : top + rows, left : left + columns]
        crop = F.interpolate(part.permute(2, 0, 1)[None], (size, size), mode="bilinear", antialias=True)[0]
        crop = crop.permute(1, 2, 0)
    return crop.flip(1) if flipped else crop


def central_crop(data: bytes, size: int) -> Tensor:
    """The shorter side resized to 256/224 of `size`, and the centre of that; never from a reduced image."""
    image = torch.from_numpy(_decoded(data)).permute(2, 0, 1)
    return center_crop(resize(image, [round(size * 256 / 224)], antialias=True), [size]).permute(1, 2, 0)


def _shape(data: bytes) -> tuple[int, int]:
    """Height and width."""
    if _is_plain_jpeg(data):
        return simplejpeg.decode_jpeg_header(data)[:2]
    with Image.open(io.BytesIO(data)) as image:
        return image.height, image.width


def _decoded(data: bytes, reduction: int = 1) -> np.ndarray:
    """Height × width × RGB. A reduction is a wish, which only a JPEG grants."""
    if _is_plain_jpeg(data):
        height, width = (-(-n // reduction) for n in simplejpeg.decode_jpeg_header(data)[:2])
        try:
            return simplejpeg.decode_jpeg(data, min_height=height, min_width=width, min_factor=reduction)
        except ValueError:
            pass  # PIL knows better what is wrong, and forgives what can be forgiven
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def _is_plain_jpeg(data: bytes) -> bool:
    """Whether libjpeg turns it into RGB itself. ImageNet has CMYK too, and a PNG under a JPEG's name."""
    try:
        return simplejpeg.decode_jpeg_header(data)[2] in ("YCbCr", "Gray", "RGB")
    except ValueError:
        return False
