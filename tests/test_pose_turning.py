"""The solver's own rotations against the rotation library, and its chain of joints against the kinematics."""

import math

import numpy as np
import pytest
import torch

from framefill.pose import kinematics, rotations, turning
from framefill.pose.human import human

RNG = torch.Generator().manual_seed(8)


@pytest.mark.parametrize("size", [0.0, 1e-7, 0.4, 2.0, math.pi - 1e-7])
def test_logarithm_undoes_the_exponential(size):
    vectors = size * torch.nn.functional.normalize(torch.randn(3, 40, 3, generator=RNG).double(), dim=-1).numpy()
    turned, _ = turning.exponential(vectors)
    np.testing.assert_allclose(turning.logarithm(turned), vectors, atol=2e-8)
    np.testing.assert_allclose(turning.angle(turned, np.eye(3)), np.full((3, 40), size), atol=1e-8)


def test_half_turns_have_an_axis_of_either_sign():
    axes = torch.nn.functional.normalize(torch.randn(50, 3, generator=RNG).double(), dim=-1)
    vectors = turning.logarithm(rotations.from_axis_angle(math.pi * axes).numpy())
    np.testing.assert_allclose(np.abs((vectors * axes.numpy()).sum(-1)), math.pi, atol=1e-6)


def test_the_nearest_rotation_is_the_librarys():
    matrices = torch.randn(60, 3, 3, generator=RNG, dtype=torch.float64)
    np.testing.assert_allclose(turning.nearest(matrices.numpy()), rotations.nearest(matrices).numpy(), atol=1e-9)
    a, b = turning.nearest(matrices[:30].numpy()), turning.nearest(matrices[30:].numpy())
    expected = rotations.angle(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    np.testing.assert_allclose(turning.angle(a, b), expected, atol=1e-12)


def test_cross_products_and_directions():
    a, b = np.random.default_rng(0).normal(size=(2, 5, 4, 3))
    np.testing.assert_allclose(turning.cross(a, b), np.cross(a, b), atol=1e-14)
    np.testing.assert_allclose((turning.cross_matrix(a) @ b[..., None])[..., 0], np.cross(a, b), atol=1e-14)
    np.testing.assert_allclose(np.linalg.norm(turning.unit(a), axis=-1), 1, atol=1e-14)
    assert (turning.unit(np.zeros(3)) == 0).all()


def test_the_chain_is_the_kinematics():
    skeleton = human().tree
    local = rotations.from_axis_angle(torch.randn(3, 24, 3, generator=RNG, dtype=torch.float64))
    root = torch.randn(3, 3, generator=RNG, dtype=torch.float64)
    shift = skeleton.offsets.double().expand(3, -1, 3).clone()
    shift[:, 0] = root
    jumps = tuple(jump.numpy() for jump in skeleton.jumps)
    positions, turned = turning.chain(jumps, local.numpy(), shift.numpy())
    expected = kinematics.forward(skeleton, local, root)
    np.testing.assert_allclose(positions, expected[0], atol=1e-12)
    np.testing.assert_allclose(turned, expected[1], atol=1e-12)
