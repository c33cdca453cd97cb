"""Pose metrics on examples worked by hand, and what they must not change under."""

import math

import numpy as np
import pytest

from framefill.errors import BadInput
from framefill.metrics import pose

RNG = np.random.default_rng(3)
SQUARE = np.array([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0.5]])


def about_z(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def test_mpjpe_is_the_mean_distance_in_millimetres():
    made = SQUARE.copy()
    made[1] += [0.003, 0.004, 0]
    made[2] += [0, 0, 0.011]
    assert pose.mpjpe(made, SQUARE) == pytest.approx((5 + 11) / 4)


def test_the_pelvis_alignment_is_the_difference_the_facts_warn_of():
    made = SQUARE + np.array([0.3, 0, 0.4])
    made[2] += [0, 0.02, 0]
    assert pose.mpjpe(made, SQUARE) == pytest.approx((3 * 500 + math.hypot(300, 20, 400)) / 4)
    assert pose.aligned_mpjpe(made, SQUARE) == pytest.approx(5)
    assert pose.aligned_mpjpe(made, SQUARE, pelvis=2) == pytest.approx(15)


def test_procrustes_undoes_place_turn_and_size():
    made = 2.5 * SQUARE @ about_z(1.1).T + [1, 2, 3]
    assert pose.procrustes_mpjpe(made, SQUARE) == pytest.approx(0, abs=1e-9)


def test_procrustes_does_not_mirror():
    assert pose.procrustes_mpjpe(SQUARE * [1, 1, -1], SQUARE) > 50


def test_procrustes_is_the_least_squares_fit():
    made, truth = RNG.normal(size=(2, 9, 3))
    fitted = pose.procrustes(made, truth)
    best = np.square(fitted - truth).sum()
    centre = fitted.mean(0)
    for change in (1.01 * (fitted - centre) + centre, (fitted - centre) @ about_z(0.02) + centre, fitted + 0.01):
        assert np.square(change - truth).sum() > best


def test_procrustes_of_one_point_is_the_centre():
    np.testing.assert_allclose(pose.procrustes(np.ones((4, 3)), SQUARE), np.tile(SQUARE.mean(0), (4, 1)))


def test_geodesic_is_the_mean_angle():
    truth = np.stack([np.eye(3), about_z(0.5), about_z(-1)])
    made = np.stack([about_z(0.3), about_z(0.5), about_z(math.pi - 1)])
    assert pose.geodesic(made, truth) == pytest.approx((0.3 + 0 + math.pi) / 3, abs=1e-12)
    assert pose.geodesic(truth, truth) == 0  # arccos of a rounded trace would give 1e-8


def test_every_pose_of_a_batch_is_scored_alone():
    made, truth = RNG.normal(size=(2, 5, 7, 3))
    for score in (pose.mpjpe, pose.aligned_mpjpe, pose.procrustes_mpjpe):
        np.testing.assert_allclose(score(made, truth)[3], score(made[3], truth[3]))
    assert (pose.procrustes_mpjpe(made, truth) <= pose.mpjpe(made, truth) * 1.3).all()


def test_other_shapes_are_refused():
    with pytest.raises(BadInput, match="give the same"):
        pose.mpjpe(np.zeros((4, 3)), np.zeros((5, 3)))
    with pytest.raises(BadInput, match="give the same"):
        pose.geodesic(np.zeros((4, 3)), np.zeros((4, 3)))
