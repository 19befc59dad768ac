"""Crops have torchvision's distribution, and torchvision's pixels up to a bounded error."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as F

from corridor_exp.datasets import crops
from corridor_exp.datasets.crops import Box, central_crop, random_box, random_crop, resized


def picture(height: int, width: int, seed: int = 0) -> Image.Image:
    """An image that is smooth, as photographs are, so that its JPEG is close to it."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def torchvisions(data: bytes, box: Box, size: int) -> np.ndarray:
    """The crop of `box` by torchvision's RandomResizedCrop, from the whole image, decoded by PIL."""
    return np.asarray(F.resized_crop(Image.open(io.BytesIO(data)).convert("RGB"), *box, [size, size])).astype(int)


@pytest.fixture(scope="module")
def photographs() -> list[bytes]:
    file = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample.tar"
    if not file.exists():
        pytest.skip(f"the real images are not here: {file} is missing")
    with tarfile.open(file) as archive:
        return [archive.extractfile(m).read() for m in archive if m.isfile()]  # type: ignore[union-attr]


# ------------------------------------------------------------------------- the box


def differs(height: int, width: int, count: int = 4000) -> float:
    """The smallest p of Kolmogorov–Smirnov tests between our boxes and torchvision's, on eight properties."""
    draw = Random(0)
    mine = np.array([random_box(height, width, draw) for _ in range(count)])
    torch.manual_seed(0)
    image = torch.empty(()).expand(height, width)
    theirs = np.array([RandomResizedCrop.get_params(image, [0.08, 1.0], [3 / 4, 4 / 3]) for _ in range(count)])

    def facts(boxes: np.ndarray) -> np.ndarray:
        area, ratio = boxes[:, 2] * boxes[:, 3], boxes[:, 3] / boxes[:, 2]
        return np.column_stack([boxes, area, ratio, [height, width] - boxes[:, :2] - boxes[:, 2:]])

    return min(ks_2samp(a, b).pvalue for a, b in zip(facts(mine).T, facts(theirs).T, strict=True))


@pytest.mark.parametrize(("height", "width"), [(375, 500), (40, 30), (333, 1000), (100, 600)])
def test_boxes_are_distributed_as_torchvisions(height: int, width: int) -> None:
    """Also in long images, where many draws are rejected."""
    assert differs(height, width) > 1e-3


@pytest.mark.parametrize(("name", "value"), [("AREA", (0.12, 1.0)), ("RATIO", (0.8, 4 / 3))])
def test_a_slightly_other_distribution_would_be_noticed(monkeypatch, name: str, value: tuple[float, float]) -> None:
    monkeypatch.setattr(crops, name, value)
    assert differs(375, 500) < 1e-3


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("F", "TIFF"), ("I", "TIFF")])
def test_more_than_eight_bits_are_refused_instead_of_cut(mode: str, kind: str) -> None:
    data = encoded(Image.new(mode, (8, 8)), kind)
    for read in (lambda: crops.opened(data), lambda: central_crop(data, 8)):
        with pytest.raises(OSError, match="more than 8 bits a channel"):
            read()


def test_an_image_too_long_for_any_crop_gives_torchvisions_centre() -> None:
    for shape in [(10, 1000), (1000, 10)]:
        image = torch.empty(()).expand(*shape)
        theirs = RandomResizedCrop.get_params(image, [0.9, 1.0], [3 / 4, 4 / 3])
        assert random_box(*shape, Random(0)) == tuple(theirs)


# ---------------------------------------------------------------------- the pixels


def test_a_crop_at_full_size_is_within_a_level_of_torchvisions(photographs: list[bytes]) -> None:
    for seed, data in enumerate(photographs):
        image = Image.open(io.BytesIO(data))
        box = random_box(image.height, image.width, Random(seed))
        crop = resized(crops._decoded(data)[0], box, 224).numpy().astype(int)
        assert np.abs(crop - torchvisions(data, box, 224)).max() <= 1


@pytest.mark.parametrize(("size", "reduced", "worst"), [(224, 0, 0.6), (64, 60, 3.0), (32, 180, 4.0)])
def test_the_error_of_decoding_smaller_is_bounded(
    photographs: list[bytes], size: int, reduced: int, worst: float
) -> None:
    """The difference from torchvision's crop of the whole image: root mean square over an image, in levels of 255."""
    errors, used = [], 0
    for seed, data in enumerate(photographs):
        image = Image.open(io.BytesIO(data))
        draw = Random(seed)
        box = random_box(image.height, image.width, draw)
        flipped = draw.random() < 0.5
        used += min(box.height, box.width) >= 2 * crops.GAP * size
        expected = torchvisions(data, box, size)
        crop = random_crop(data, size, Random(seed)).numpy()
        errors.append(np.sqrt(np.square(crop - (expected[:, ::-1] if flipped else expected)).mean()))
    assert used >= reduced  # of 200
    assert max(errors) < worst
    assert np.mean(errors) < 1.2


def test_a_reduced_crop_lies_where_the_whole_one_does() -> None:
    """A ramp with odd edges and an odd size, at each reduction. A shift by one pixel would be an error of one level."""
    ramp = np.add.outer(np.arange(801), np.arange(801)) / 1600 * 255
    data = encoded(Image.fromarray(np.repeat(ramp[..., None], 3, 2).round().astype(np.uint8)), quality=98)
    box = Box(13, 27, 701, 655)
    expected = torchvisions(data, box, 33)
    for reduction in (2, 4, 8):
        pixels, got = crops._decoded(data, reduction)
        assert got == reduction
        crop = resized(pixels, box, 33, reduction).numpy().astype(int)
        assert np.abs(crop - expected)[1:-1, 1:-1].max() <= 2
        assert abs((crop - expected).mean()) < 0.3


@given(
    height=st.integers(33, 140),
    width=st.integers(1, 90),
    kind=st.sampled_from(["4:2:0", "4:2:2", "4:4:4", "grey", "progressive", "restarts"]),
    reduction=st.sampled_from([1, 2, 4, 8]),
    share=st.floats(0, 1),
)
@settings(max_examples=200, deadline=None)
def test_what_is_decoded_of_a_jpeg_has_the_bits_of_the_whole(
    height: int, width: int, kind: str, reduction: int, share: float
) -> None:
    """The last few rows may differ, because no crop uses them."""
    options = {"progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 2}, "grey": {}}
    image = picture(height, width).convert("L" if kind == "grey" else "RGB")
    data = encoded(image, **options.get(kind, {"subsampling": kind}))
    rows = round(17 + share * (height - 17))
    part, whole = crops._decoded(data, reduction, rows)[0], crops._decoded(data, reduction)[0]
    assert len(part) == (len(whole) if kind == "progressive" or rows >= height else -(-rows // reduction))
    sure = max(rows // reduction - crops.MARGIN, 0)
    assert np.array_equal(part[:sure], whole[:sure])


def test_crops_of_real_images_have_the_bits_of_those_from_whole_ones(photographs: list[bytes], monkeypatch) -> None:
    with_less = [random_crop(data, size, Random(i)) for i, data in enumerate(photographs) for size in (32, 224)]
    monkeypatch.setattr(crops, "_cut_below", lambda rows, data: None)
    with_all = [random_crop(data, size, Random(i)) for i, data in enumerate(photographs) for size in (32, 224)]
    assert all(torch.equal(a, b) for a, b in zip(with_less, with_all, strict=True))


def test_a_jpeg_of_several_scans_is_decoded_as_a_whole(photographs: list[bytes]) -> None:
    data = photographs[0]
    scan = data.index(b"\xff\xda")
    assert crops._cut_below(20, data) is not None
    assert crops._cut_below(20, data[: scan + 4] + b"\x01" + data[scan + 5 :]) is None  # a scan of one colour of three
    assert crops._cut_below(20, data[:-2]) is None  # no end marker


def test_the_evaluation_crop_is_torchvisions(photographs: list[bytes]) -> None:
    for data in photographs[:20]:
        image = Image.open(io.BytesIO(data)).convert("RGB")
        expected = np.asarray(F.center_crop(F.resize(image, [256]), [224])).astype(int)
        assert np.abs(central_crop(data, 224).numpy() - expected).max() <= 1


# ----------------------------------------------------------------- kinds of images


@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {}),
        ("RGB", "JPEG", {"progressive": True}),
        ("RGB", "JPEG", {"subsampling": "4:2:0"}),
        ("RGBA", "PNG", {}),
        ("P", "PNG", {}),
        ("RGB", "WEBP", {}),
    ],
)
def test_every_kind_of_image_is_read_as_pil_reads_it(mode: str, kind: str, options: dict[str, object]) -> None:
    data = encoded(picture(120, 170).convert(mode), kind, **options)
    pixels, reduction = crops._decoded(data)
    assert reduction == 1
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert random_crop(data, 24, Random(1)).shape == central_crop(data, 24).shape == (24, 24, 3)


def test_a_crop_is_a_function_of_the_draws_alone() -> None:
    data = encoded(picture(200, 300))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one, two, three = (random_crop(data, 32, Random(seed)) for seed in (5, 5, 6))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    assert torch.equal(before, torch.get_rng_state())


def test_half_of_the_crops_are_flipped() -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (256, 1))).convert("RGB")
    data = encoded(ramp)
    flips = [bool((c := random_crop(data, 16, Random(i)).int())[8, 0, 0] > c[8, 15, 0]) for i in range(400)]
    assert 160 < sum(flips) < 240


@pytest.mark.parametrize(
    "data", [b"", b"no image", encoded(picture(90, 90))[:500], encoded(picture(90, 90), "PNG")[:300]]
)
def test_what_is_no_image_or_cut_short_cannot_be_read(data: bytes) -> None:
    for crop in (lambda: random_crop(data, 8, Random(0)), lambda: central_crop(data, 8)):
        with pytest.raises(crops.UNREADABLE) as error:
            crop()
        assert "0x" not in str(error.value)


def damaged(kind: str) -> bytes:
    """A photograph of which a part is lost, or of which nothing is lost although libjpeg warns."""
    data = encoded(picture(400, 500))
    middle = len(data) // 2
    restarts = encoded(picture(400, 500), restart_marker_rows=1)
    first = restarts.index(b"\xff\xd0")
    return {
        "a file that was not downloaded whole": data[:middle] + bytes(100_000),
        "a hole": data[:middle] + data[middle + 200 :],
        "half, with an end marker": data[:middle] + data[-2:],
        "bytes left over, then nothing": restarts[:first] + b"??" + restarts[first : len(restarts) // 2],
        "bytes left over": data[:-2] + b"left over" + data[-2:],
        "bytes behind the end": data + b"behind",
    }[kind]


@pytest.mark.parametrize("kind", ["a file that was not downloaded whole", "a hole", "half, with an end marker"])
def test_row_8_a_jpeg_of_which_a_part_is_lost_is_refused_where_pil_would_fill_it(kind: str) -> None:
    data = damaged(kind)
    assert Image.open(io.BytesIO(data)).convert("RGB").size == (500, 400)
    for refuses in (central_crop, lambda data, _: crops.refuse_damaged(data)):
        with pytest.raises(OSError, match=r"remature end of"):
            refuses(data, 64)
    refused = 0
    for seed in range(40):
        try:
            random_crop(data, 224, Random(seed))
        except OSError:
            refused += 1
    assert refused >= (8 if kind == "a hole" else 36)  # the others do not reach down to the damage


def test_row_8_bytes_that_are_left_over_do_not_hide_that_the_rest_is_missing() -> None:
    data = damaged("bytes left over, then nothing")
    for crop in (lambda: central_crop(data, 64), lambda: random_crop(data, 64, Random(0))):
        with pytest.raises(OSError, match="truncated"):
            crop()


@pytest.mark.parametrize("kind", ["bytes left over", "bytes behind the end"])
def test_a_jpeg_with_more_bytes_than_it_needs_is_read(kind: str) -> None:
    """ImageNet has such files."""
    data, whole = damaged(kind), encoded(picture(400, 500))
    crops.refuse_damaged(data)
    assert torch.equal(central_crop(data, 64), central_crop(whole, 64))
    assert torch.equal(random_crop(data, 64, Random(1)), random_crop(whole, 64, Random(1)))
