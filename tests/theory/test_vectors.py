import pytest
import torch

from corridor_exp.theory.vectors import inner, squared_norm


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
