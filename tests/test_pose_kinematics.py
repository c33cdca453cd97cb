"""Rotations, hierarchies and forward kinematics: closed forms, inverses, gradients, and what is refused."""

import math

import pytest
import torch

from framefill.errors import BadInput, NotInstalled
from framefill.pose import extra, kinematics, rotations
from framefill.pose.skeleton import Skeleton

RNG = torch.Generator().manual_seed(0)


def turns(*shape: int) -> torch.Tensor:
    """Random rotations (*shape, 3, 3), by QR: not by the code under test."""
    q, r = torch.linalg.qr(torch.randn(*shape, 3, 3, generator=RNG, dtype=torch.float64))
    q = q * r.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
    return q * torch.linalg.det(q)[..., None, None]


def about(axis: int, angle: float) -> torch.Tensor:
    c, s = math.cos(angle), math.sin(angle)
    matrix = torch.eye(3, dtype=torch.float64)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix[i, i] = matrix[j, j] = c
    matrix[i, j], matrix[j, i] = -s, s
    return matrix


def arm() -> Skeleton:
    """Shoulder, elbow and hand along x; joints stand out of order on purpose."""
    offsets = torch.tensor([[0.25, 0, 0], [9, 9, 9], [0.3, 0, 0]], dtype=torch.float64)
    return Skeleton(("hand", "shoulder", "elbow"), (2, -1, 1), offsets)


@pytest.mark.parametrize(
    ("there", "back"),
    [
        (rotations.to_six, rotations.from_six),
        (rotations.to_quaternion, rotations.from_quaternion),
        (rotations.to_axis_angle, rotations.from_axis_angle),
        *((lambda r, o=o: rotations.to_euler(r, o), lambda e, o=o: rotations.from_euler(e, o)) for o in ("zxy", "xyz")),
    ],
)
def test_rotation_forms_round_trip(there, back):
    given = turns(50)
    torch.testing.assert_close(back(there(given)), given, atol=1e-9, rtol=0)


def test_conventions_are_the_stated_ones():
    quarter = about(2, math.pi / 2)
    torch.testing.assert_close(rotations.to_six(quarter), torch.tensor([0.0, -1, 0, 1, 0, 0], dtype=torch.float64))
    half = math.sqrt(0.5)
    torch.testing.assert_close(rotations.from_quaternion(3 * torch.tensor([half, 0, 0, half]).double()), quarter)
    torch.testing.assert_close(rotations.from_axis_angle(torch.tensor([0, 0, math.pi / 2]).double()), quarter)
    angles = torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)
    product = about(2, 0.3) @ about(0, -0.5) @ about(1, 0.8)
    torch.testing.assert_close(rotations.from_euler(angles, "zxy"), product)
    assert (rotations.to_quaternion(turns(100))[:, 0] >= 0).all()


def test_six_numbers_need_not_be_orthonormal():
    made = rotations.from_six(torch.randn(20, 6, generator=RNG, dtype=torch.float64))
    torch.testing.assert_close(made @ made.mT, torch.eye(3).double().expand(20, 3, 3))
    torch.testing.assert_close(torch.linalg.det(made), torch.ones(20, dtype=torch.float64))


def test_nearest_rotation_undoes_small_noise():
    given = turns(10)
    torch.testing.assert_close(rotations.nearest(given * 1.3), given)


@pytest.mark.parametrize("size", [0.0, 1e-9, 1e-3, 1.0, math.pi - 1e-6, math.pi])
def test_angle_and_its_gradient(size):
    base = turns()
    moved = (base @ about(1, size)).requires_grad_()
    found = rotations.angle(moved, base)
    assert found.item() == pytest.approx(size, abs=1e-12 if size < 3 else 1e-9)
    found.backward()
    assert torch.isfinite(moved.grad).all()
    assert moved.grad.abs().max() < 2


def test_angle_decreases_along_its_gradient():
    vector = torch.tensor([0.4, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    rotations.angle(rotations.from_axis_angle(vector), torch.eye(3).double()).backward()
    torch.testing.assert_close(vector.grad, (vector / vector.norm()).detach())


def test_cross_matrix_is_the_cross_product():
    a, b = torch.randn(2, 7, 3, generator=RNG)
    torch.testing.assert_close((rotations.cross_matrix(a) @ b[..., None])[..., 0], torch.linalg.cross(a, b))


def test_an_arm_bends_where_it_should():
    local = torch.stack([torch.eye(3).double(), about(2, math.pi / 2), about(2, -math.pi / 2)])
    positions, turned = kinematics.forward(arm(), local, torch.tensor([1.0, 2, 3]).double())
    expected = torch.tensor([[1.25, 2.3, 3], [1, 2, 3], [1, 2.3, 3]], dtype=torch.float64)
    torch.testing.assert_close(positions, expected)
    torch.testing.assert_close(turned[0], torch.eye(3).double())
    assert kinematics.rest(arm())[0].tolist() == [0.55, 0, 0]


def test_local_from_global_is_the_inverse():
    skeleton, local = arm(), turns(4, 3)
    turned = kinematics.forward(skeleton, local, torch.zeros(3).double())[1]
    torch.testing.assert_close(kinematics.local_from_global(skeleton, turned), local)


def test_bones_keep_their_length_and_shapes_may_differ():
    skeleton, local = arm(), turns(5, 3)
    own = skeleton.offsets * torch.linspace(1, 2, 5).double()[:, None, None]
    positions, _ = kinematics.forward(skeleton, local, torch.randn(5, 3, generator=RNG).double(), offsets=own)
    torch.testing.assert_close(
        (positions[:, 0] - positions[:, 2]).norm(dim=-1), 0.25 * torch.linspace(1, 2, 5).double()
    )
    assert skeleton.lengths.tolist() == [0.25, 0, 0.3]


def test_kinematics_are_differentiable():
    vectors = torch.randn(3, 3, generator=RNG, dtype=torch.float64, requires_grad=True)
    root = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    place = lambda v, r: kinematics.forward(arm(), rotations.from_axis_angle(v), r)[0]  # noqa: E731
    assert torch.autograd.gradcheck(place, (vectors, root))


def test_hierarchy_questions():
    skeleton = arm()
    assert skeleton.root == 1
    assert [jump.tolist() for jump in skeleton.jumps] == [[2, 3, 1, 3], [1, 3, 3, 3]]
    assert skeleton.above(0) == [2, 1]
    assert skeleton.children(2) == [0]
    assert skeleton.carries.tolist() == [[False, True, True], [False] * 3, [False, True, False]]
    assert skeleton.index("elbow") == 2
    assert skeleton.renamed({"hand": "wrist"}).names == ("wrist", "shoulder", "elbow")


def test_unknown_joint_lists_the_nearest():
    with pytest.raises(BadInput, match="no joint 'shouldr'; the nearest are shoulder"):
        arm().index("shouldr")


@pytest.mark.parametrize(
    ("names", "parents", "offsets", "message"),
    [
        ("abc", (1, 2, 0), torch.ones(3, 3), "own ancestor"),
        ("abc", (-1, 2, 1), torch.ones(3, 3), "own ancestor"),
        ("abc", (-1, -1, 0), torch.ones(3, 3), "2 roots .a, b."),
        ("abc", (-1, 0, 7), torch.ones(3, 3), "-1 to 7 among 3"),
        ("aba", (-1, 0, 0), torch.ones(3, 3), "called a;"),
        ("ab", (-1, 0, 0), torch.ones(3, 3), "2 joint names, 3 parents"),
        ("ab", (-1, 0), torch.zeros(2, 3), "from 'a' to 'b' has length zero"),
        ("ab", (-1, 0), torch.ones(2, 2), "give finite metres"),
        ("ab", (-1, 0), torch.full((2, 3), math.nan), "give finite metres"),
    ],
)
def test_broken_hierarchies_are_refused_in_one_line(names, parents, offsets, message):
    with pytest.raises(BadInput, match=message) as caught:
        Skeleton(tuple(names), parents, offsets)
    assert "\n" not in str(caught.value)


def test_rotations_of_other_skeletons_are_refused():
    with pytest.raises(BadInput, match="for 3 joints"):
        kinematics.forward(arm(), torch.eye(3).expand(4, 3, 3), torch.zeros(3))
    with pytest.raises(BadInput, match="for 3 joints"):
        kinematics.local_from_global(arm(), torch.eye(3))


def test_without_the_library_there_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "roma", None)
    with pytest.raises(NotInstalled, match=r"pip install 'framefill\[pose\]'"):
        extra.rotation_library()
