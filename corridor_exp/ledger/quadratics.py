"""Appendix C: a quadratic that has a corridor is linear there."""

from __future__ import annotations

import torch
from torch import Tensor

from corridor_exp.ledger.examples import largest
from corridor_exp.ledger.rows import claim
from corridor_exp.theory import surfaces

SIZE, RANK = 5, 3
DRAWN = torch.randn(SIZE, RANK + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
A, B, C = DRAWN[:, :RANK] @ DRAWN[:, :RANK].T, DRAWN[:, RANK], 0.7  # A has rank 3
THETA = torch.randn(20, SIZE, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
EIGENVALUES, EIGENVECTORS = torch.linalg.eigh(A)  # rising, so that the first SIZE − RANK are 0
KERNEL = EIGENVECTORS[:, : SIZE - RANK]


def corridor() -> Tensor:
    """Points of {Hg = 0}: a minimum of the part of E that is not linear, and the kernel of A."""
    return -torch.linalg.pinv(A) @ B + THETA[:, : SIZE - RANK] @ KERNEL.T


@claim("Appendix C", "as printed, E = ½θᵀAθ + bθ + c is a number: its entries but one", at_most=0, misprint=True)
def linear_term_as_printed() -> float:
    return (THETA[0] @ A @ THETA[0] / 2 + B * THETA[0] + C).numel() - 1


@claim("Appendix C", "corrected, E = ½θᵀAθ + bᵀθ + c: E as a double sum, ∇E = Aθ + b", at_most=1e-12)
def quadratic() -> float:
    E = surfaces.quadratic(A, B, C)
    summed = torch.einsum("ni,ij,nj->n", THETA, A, THETA) / 2 + torch.einsum("i,ni->n", B, THETA) + C
    return max(largest(E(THETA) - summed), largest(surfaces.gradient(E, THETA) - (THETA @ A + B)))


@claim("Eq. 21", "Hg = A(Aθ + b) on a quadratic", at_most=1e-10)
def hg_of_a_quadratic() -> float:
    return largest(surfaces.hessian_gradient(surfaces.quadratic(A, B), THETA) - surfaces.quadratic_hg(A, B, THETA))


@claim("Eq. 21", "A(Aθ + b) = Σ (λ_i² u_iᵀθ + λ_i u_iᵀb) u_i", at_most=1e-10)
def hg_by_eigenvectors() -> float:
    parts = EIGENVALUES**2 * (THETA @ EIGENVECTORS) + EIGENVALUES * (B @ EIGENVECTORS)
    return largest(surfaces.quadratic_hg(A, B, THETA) - parts @ EIGENVECTORS.T)


@claim("Appendix C", "{Hg = 0} has codimension rank A", at_most=0)
def codimension() -> float:
    """{Hg = 0} is where an affine map vanishes; its matrix is read off the function itself."""
    origin = surfaces.quadratic_hg(A, B, torch.zeros(SIZE, dtype=torch.float64))
    M = torch.stack([surfaces.quadratic_hg(A, B, e) - origin for e in torch.eye(SIZE, dtype=torch.float64)])
    return abs(torch.linalg.matrix_rank(M, rtol=1e-9).item() - RANK)


@claim("Appendix C", "Hg = 0 there", at_most=1e-10)
def hg_in_the_corridor() -> float:
    return largest(surfaces.quadratic_hg(A, B, corridor()))


@claim("Eq. 22", "∇E = Σ (λ_i θᵀu_i + bᵀu_i) u_i everywhere", at_most=1e-10)
def gradient_by_eigenvectors() -> float:
    parts = EIGENVALUES * (THETA @ EIGENVECTORS) + B @ EIGENVECTORS
    return largest(surfaces.gradient(surfaces.quadratic(A, B), THETA) - parts @ EIGENVECTORS.T)


@claim("Eq. 22", "on {Hg = 0} it is the constant Σ_{λ_i = 0} bᵀu_i u_i, and E is affine", at_most=1e-10)
def gradient_in_the_corridor() -> float:
    g = surfaces.gradient(surfaces.quadratic(A, B), corridor())
    return largest(g - KERNEL @ (KERNEL.T @ B))
