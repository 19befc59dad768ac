import pytest
import torch

from corridor_exp.theory.vectors import BLOCK, inner, norm, squared_norm


def vector(dtype: torch.dtype, layout: torch.memory_format = torch.contiguous_format) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = [(4, 3, 2, 2), (5,), (2, 3), ()]
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64).to(dtype) for s in shapes]
    return [t.contiguous(memory_format=layout) if t.dim() == 4 else t for t in tensors]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_inner_is_the_sum_of_products_in_at_least_float32(dtype: torch.dtype) -> None:
    u, v = vector(dtype), [2 * t + 1 for t in vector(dtype)]
    expected = sum((a.double() * b.double()).sum() for a, b in zip(u, v, strict=True))
    result = inner(u, v)
    assert result.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(result.double(), torch.as_tensor(expected), rtol=1e-5, atol=1e-6)


def test_layouts_may_differ() -> None:
    u, v = vector(torch.float64, torch.channels_last), vector(torch.float64)
    torch.testing.assert_close(inner(u, v), squared_norm(v), rtol=1e-14, atol=0)


def test_channels_last_is_not_copied() -> None:
    t = torch.randn(8, 16, 3, 3).to(memory_format=torch.channels_last)
    with torch.profiler.profile(profile_memory=True) as profile:
        squared_norm([t])
    assert max((event.cpu_memory_usage for event in profile.events()), default=0) < t.numel()


def test_complex_counts_as_pairs_of_reals() -> None:
    t = torch.tensor([3 + 4j, 1 - 2j], dtype=torch.complex128)
    assert squared_norm([t]).item() == pytest.approx(30, rel=1e-15)


def test_the_empty_vector_is_zero() -> None:
    assert squared_norm([]).item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1 << 23,), (4096, 512, 2, 2)], ids=["flat", "channels_last"])
def test_long_sums_keep_their_digits(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """One float32 dot product of so many equal numbers is 0.1 % off."""
    layout = torch.channels_last if len(shape) == 4 else torch.contiguous_format
    t = torch.full(shape, 1e-3, dtype=dtype).contiguous(memory_format=layout)
    exact = t.numel() * t.flatten()[0].double().item() ** 2
    assert squared_norm([t]).item() == pytest.approx(exact, rel=1e-4)
    assert inner([t], [-t]).item() == pytest.approx(-exact, rel=1e-4)


def test_a_norm_in_float64_widens_no_more_than_a_block_at_a_time() -> None:
    t = torch.ones(16 * BLOCK)
    with torch.profiler.profile(profile_memory=True) as profile:
        assert norm([t]).item() == 2 * BLOCK**0.5 * 2
    assert max(event.cpu_memory_usage for event in profile.events()) <= 2 * BLOCK * 8
