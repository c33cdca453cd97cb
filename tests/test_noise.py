"""Noises: every property over every member and over square, odd and long images, against dense matrices."""

import numpy as np
import pytest
import torch

from framefill.arrays import Rng
from framefill.diffusion import noise
from framefill.diffusion.noise import GaussianFreeField, Noise, White
from framefill.errors import BadInput
from gaussian import NOISES, noise_power, public, table, wavenumbers, white

SIZES = [(8, 8), (7, 7), (6, 9), (9, 4), (5, 2), (1, 7), (6, 1), (1, 1)]
every_noise = pytest.mark.parametrize("kind", **table(NOISES))
every_size = pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")


def dense(apply, height, width):
    """The matrix (HW, HW) of a linear map on images, column by column."""
    basis = torch.eye(height * width, dtype=torch.float64).reshape(-1, height, width)
    return apply(basis).reshape(height * width, height * width).T


def test_the_table_has_every_member():
    assert {type(kind).__name__ for kind in NOISES.values()} == public(noise, Noise)


@every_noise
@every_size
def test_the_root_is_the_spectral_filter(kind, size):
    # Built from its definition: W^-1 K^-power W over its norm, with dense Fourier matrices.
    rows, columns = (np.fft.fft(np.eye(n)) for n in size)
    fourier = np.kron(rows, columns)
    gain = noise_power(kind, *size).sqrt().numpy().ravel()
    expected = (fourier.conj().T @ np.diag(gain) @ fourier).real / np.prod(size)
    np.testing.assert_allclose(dense(kind.color, *size).numpy(), expected, atol=1e-13)


@every_noise
@every_size
def test_the_root_is_symmetric_and_positive_definite(kind, size):
    root = dense(kind.color, *size)
    torch.testing.assert_close(root, root.T, atol=1e-14, rtol=0)
    gains = noise_power(kind, *size).sqrt().flatten().sort().values
    torch.testing.assert_close(torch.linalg.eigvalsh(root), gains, atol=1e-12, rtol=1e-12)
    assert gains[0] > 0


@every_noise
@every_size
def test_every_pixel_has_unit_variance(kind, size):
    root = dense(kind.color, *size)
    torch.testing.assert_close(root.square().sum(1), torch.ones(len(root), dtype=torch.float64), atol=1e-13, rtol=0)


@every_noise
@every_size
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_whiten_inverts_color(kind, size, dtype, tolerance):
    z = white(0, 3, 2, *size).to(dtype)
    torch.testing.assert_close(kind.whiten(kind.color(z)), z, atol=tolerance, rtol=0)
    torch.testing.assert_close(kind.color(kind.whiten(z)), z, atol=tolerance, rtol=0)


@every_noise
@pytest.mark.parametrize("size", [(64, 64), (65, 48), (33, 128)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_whiten_inverts_color_on_real_images(kind, size, dtype, tolerance):
    z = white(1, *size).to(dtype)
    torch.testing.assert_close(kind.whiten(kind.color(z)), z, atol=tolerance, rtol=0)


@every_noise
@every_size
def test_log_det_is_that_of_the_dense_matrix(kind, size):
    sign, log_det = torch.linalg.slogdet(dense(kind.color, *size))
    assert sign == 1
    for leading, images in (((), 1), ((1,), 1), ((3,), 3), ((5, 3), 15)):
        assert kind.log_det((*leading, *size)) == pytest.approx(log_det.item() * images, abs=1e-10)


@every_noise
def test_images_are_independent_and_the_law_is_stationary(kind):
    z = white(2, 4, 3, 6, 9)
    n = kind.color(z)
    for i in range(4):
        for j in range(3):
            torch.testing.assert_close(n[i, j], kind.color(z[i, j]), atol=1e-14, rtol=0)
    torch.testing.assert_close(kind.color(z.roll((2, 5), (-2, -1))), n.roll((2, 5), (-2, -1)), atol=1e-13, rtol=0)


@every_noise
@pytest.mark.parametrize("size", [(8, 6), (5, 7)])
def test_draws_have_the_spectrum_of_the_noise(kind, size):
    n = 6000
    draws = kind.like(torch.empty(4, n // 4, *size, dtype=torch.float64), Rng.batch(3, 4)).flatten(0, 1)
    expected = noise_power(kind, *size)
    power = (torch.fft.fft2(draws).abs().square() / np.prod(size)).mean(0)
    # A mode that is its own conjugate is one squared normal, the others are the mean of two.
    own = torch.zeros(size, dtype=torch.bool)
    for i in range(size[0]):
        for j in range(size[1]):
            own[i, j] = (2 * i) % size[0] == 0 and (2 * j) % size[1] == 0
    error = expected * torch.where(own, 2.0, 1.0).sqrt() / n**0.5
    assert ((power - expected).abs() / error).max() < 4
    assert abs(draws.mean()) < 4 * (expected[0, 0] / (n * np.prod(size))) ** 0.5


@every_noise
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_draw_follows_its_example_and_its_own_stream(kind, dtype):
    x = torch.empty(3, 2, 6, 5, dtype=dtype)
    draw = kind.like(x, Rng([5, 6, 7]))
    assert draw.dtype == dtype
    for i, seed in enumerate([5, 6, 7]):
        z = torch.randn((2, 6, 5), generator=torch.Generator().manual_seed(seed)).to(dtype)
        torch.testing.assert_close(draw[i], kind.color(z))


@pytest.mark.parametrize("size", [(8, 8), (7, 4)])
def test_power_zero_is_white(size):
    z = white(4, *size)
    torch.testing.assert_close(GaussianFreeField(0.0).color(z), z, atol=1e-14, rtol=0)
    torch.testing.assert_close(GaussianFreeField(0.0).whiten(z), z, atol=1e-14, rtol=0)
    assert GaussianFreeField(0.0).log_det(size) == 0
    assert White().color(z) is z


@pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
def test_negative_power_is_the_inverse_filter_up_to_scale(size):
    z = white(5, *size)
    blue, back = GaussianFreeField(-1.0).color(z), GaussianFreeField(1.0).whiten(z)
    scale = (wavenumbers(*size) ** -2).mean() ** 0.5 * (wavenumbers(*size) ** 2).mean() ** 0.5
    torch.testing.assert_close(blue * scale, back, atol=1e-12, rtol=1e-12)


def test_the_published_numbers():
    # Facts of thesis 001, section 4.1: n = 8 and n = 32, power 1.
    root = dense(GaussianFreeField(1.0).color, 8, 8)
    covariance = (root @ root)[0].reshape(8, 8)
    assert covariance[0, 0].item() == pytest.approx(1, abs=1e-12)
    assert covariance[0, 1].item() == pytest.approx(0.485729, abs=1e-6)
    assert covariance[1, 1].item() == pytest.approx(0.315324, abs=1e-6)
    eigenvalues = torch.linalg.eigvalsh(root @ root)
    assert eigenvalues[0].item() == pytest.approx(0.154636, abs=1e-6)
    assert eigenvalues[-1].item() == pytest.approx(4.948353, abs=1e-6)
    assert GaussianFreeField(1.0).log_det((8, 8)) == pytest.approx(-15.832192, abs=1e-6)
    impulse = torch.zeros(32, 32, dtype=torch.float64)
    impulse[0, 0] = 1
    large = GaussianFreeField(1.0).color(GaussianFreeField(1.0).color(impulse))
    assert large[0, 1].item() == pytest.approx(0.683514, abs=1e-6)
    assert torch.fft.fft2(large).real.max().item() == pytest.approx(47.20, abs=0.005)
    assert torch.fft.fft2(large).real.min().item() == pytest.approx(0.0922, abs=5e-5)


@pytest.mark.parametrize("shape", [(), (8,)])
def test_log_det_needs_images(shape):
    with pytest.raises(BadInput, match=r"shapes \(\.\.\., H, W\), got \(" + ("8" if shape else "")):
        GaussianFreeField(1.0).log_det(shape)
