"""Which joint is the knee, told from names of several rigs and, without names, from where joints are."""

import pytest
import torch

from framefill.errors import BadInput
from framefill.pose import deepmimic, roles
from framefill.pose.body import NAMES
from framefill.pose.human import human
from framefill.pose.skeleton import Skeleton

BODY = human().tree
# What other programs call the joints of framefill's body, in its order.
MIXAMO = (
    "Hips", "LeftUpLeg", "RightUpLeg", "Spine", "LeftLeg", "RightLeg", "Spine1", "LeftFoot", "RightFoot", "Spine2",
    "LeftToeBase", "RightToeBase", "Neck", "LeftShoulder", "RightShoulder", "Head", "LeftArm", "RightArm",
    "LeftForeArm", "RightForeArm", "LeftHand", "RightHand", "LeftHandMiddle1", "RightHandMiddle1",
)  # fmt: skip
BLENDER = (
    "hips", "thigh.L", "thigh.R", "spine", "shin.L", "shin.R", "spine.001", "foot.L", "foot.R", "chest", "toe.L",
    "toe.R", "neck", "shoulder.L", "shoulder.R", "head", "upper_arm.L", "upper_arm.R", "forearm.L", "forearm.R",
    "hand.L", "hand.R", "f_middle.01.L", "f_middle.01.R",
)  # fmt: skip
ACCLAIM = (
    "root", "lfemur", "rfemur", "lowerback", "ltibia", "rtibia", "upperback", "lankle", "rankle", "thorax", "ltoes",
    "rtoes", "lowerneck", "lclavicle", "rclavicle", "head", "lhumerus", "rhumerus", "lelbow", "relbow", "lwrist",
    "rwrist", "lhand", "rhand",
)  # fmt: skip


def renamed(names) -> Skeleton:
    return Skeleton(tuple(names), BODY.parents, BODY.offsets)


@pytest.mark.parametrize("names", [NAMES, MIXAMO, BLENDER, ACCLAIM, [f"mixamorig:{n}" for n in MIXAMO]], ids=len)
def test_roles_of_rigs_that_name_their_joints(names):
    found = roles.roles(renamed(names))
    wrong = {role: names[joint] for role, joint in found.items() if NAMES[joint] != role}
    assert not wrong
    assert set(NAMES) - set(found) <= {"left_hand", "right_hand"}  # a rig may have only fingers there


@pytest.mark.parametrize("turn", [0.0, 1.0, 2.5])
def test_roles_of_a_rig_without_names_come_from_places(turn):
    about_y = torch.tensor([[0.0, 0, turn], [0, 0, 0], [-turn, 0, 0]]).matrix_exp()
    skeleton = Skeleton(tuple(f"bone{i}" for i in range(24)), BODY.parents, BODY.offsets @ about_y.T)
    found = roles.roles(skeleton)
    assert {role: NAMES[joint] for role, joint in found.items()} == {role: role for role in found}
    assert len(found) == 24
    expected = about_y.double().numpy()
    rest = human().rest().double().numpy() @ expected.T
    assert abs(roles.frame(rest, found) - expected).max() < 1e-6


def test_deepmimic_has_fifteen_roles():
    skeleton = deepmimic.humanoid()
    found = roles.roles(skeleton)
    assert {skeleton.names[joint] for joint in found.values()} == set(skeleton.names)
    assert skeleton.names[found["spine3"]] == "chest"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LeftForeArm", {"left", "fore", "arm"}), ("mixamorig:RightUpLeg", {"right", "up", "leg"}),
        ("lfemur", {"left", "femur"}), ("R_Hip", {"right", "hip"}), ("LHip", {"left", "hip"}), ("arm", {"arm"}),
        ("leg", {"leg"}), ("toe.L.001", {"toe", "left"}),
    ],
)  # fmt: skip
def test_words_of_names(name, expected):
    assert roles.words(name) == expected


def test_a_rig_without_limbs_says_what_it_lacks():
    pole = Skeleton(("a", "b", "c"), (-1, 0, 1), torch.eye(3))
    assert roles.roles(pole) == {"pelvis": 0}
    with pytest.raises(BadInput, match="could be taken for left_knee; it has a, b, c"):
        roles.need(pole, ("pelvis", "left_knee"))
    assert roles.need(BODY, ("left_knee",)) == [4]
    assert (roles.frame(torch.zeros(3, 3).numpy(), {}) == torch.eye(3).numpy()).all()
