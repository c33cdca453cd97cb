"""Our I3D and EfficientNet-Lite0: padding and layers against plain NumPy, weights, real answers."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from framefill.errors import BadInput, NotInstalled
from framefill.features import imagenet, kinetics
from framefill.nets.efficientnet_lite import Bottleneck, EfficientNetLite0
from framefill.nets.i3d import BLOCKS, I3D, MaxPool, Mixed, Unit
from framefill.nets.same import pad_same
from framefill.video.files import read_clip

GOLDEN = json.loads((Path(__file__).parent / "golden" / "networks.json").read_text())
CUP = Path(kinetics.__file__).parents[1] / "data" / "cup.mp4"


def windows(x, size, stride, fill):
    """TensorFlow's SAME windows over axes 1 to 3 of x (C, T, H, W), from its definition: {position: values}."""
    found = {}
    counts = [-(-n // s) for n, s in zip(x.shape[1:], stride, strict=True)]
    for place in np.ndindex(*counts):
        values = np.full((len(x), *size), fill)
        for offset in np.ndindex(*size):
            at = []
            for n, o, p, k, s in zip(x.shape[1:], offset, place, size, stride, strict=True):
                before = max((-(-n // s) - 1) * s + k - n, 0) // 2
                at.append(p * s + o - before)
            if all(0 <= a < n for a, n in zip(at, x.shape[1:], strict=True)):
                values[(slice(None), *offset)] = x[(slice(None), *at)]
        found[place] = values
    return found


@pytest.mark.parametrize(
    ("shape", "size", "stride"),
    [((4, 6, 5), 3, 2), ((5, 4, 7), 7, 2), ((4, 5, 6), 3, 1), ((1, 2, 3), 1, 1), ((5, 7, 4), 2, 2)],
)
def test_a_unit_is_a_convolution_with_same_padding(shape, size, stride):
    torch.manual_seed(0)
    unit, x = Unit(2, 3, size, stride=stride), torch.randn(2, *shape)
    weight, bias = (p.detach().numpy() for p in (unit.conv.weight, unit.conv.bias))
    made = unit(x[None])[0].detach().numpy()
    for place, values in windows(x.numpy(), (size,) * 3, (stride,) * 3, 0.0).items():
        expected = np.maximum(np.einsum("octhw,cthw->o", weight, values) + bias, 0)
        assert made[(slice(None), *place)] == pytest.approx(expected, abs=1e-5)
    assert made.shape[1:] == tuple(-(-n // stride) for n in shape)


@pytest.mark.parametrize(("size", "stride"), [((1, 3, 3), (1, 2, 2)), ((3, 3, 3), (2, 2, 2)), ((2, 2, 2), (2, 2, 2))])
def test_the_padding_of_a_pool_never_wins(size, stride):
    x = torch.randn(2, 3, 6, 5) - 10
    made = MaxPool(size, stride)(x[None])[0].numpy()
    for place, values in windows(x.numpy(), size, stride, -np.inf).items():
        assert (made[(slice(None), *place)] == values.reshape(2, -1).max(1)).all()


def test_an_odd_pixel_of_padding_goes_behind():
    assert pad_same(torch.ones(1, 1, 4), (3,), (2,)).tolist() == [[[1, 1, 1, 1, 0]]]
    assert pad_same(torch.ones(1, 1, 5), (3,), (2,)).tolist() == [[[0, 1, 1, 1, 1, 1, 0]]]
    x = torch.ones(1, 1, 3, 3)
    assert pad_same(x, (1, 1), (2, 2)) is x


def variables(seed=0):
    """Random variables of the package's layout, made from its plan and not from our network."""
    rng = np.random.default_rng(seed)
    params, statistics = {}, {}

    def unit(place, size, inputs, outputs):
        params[place] = {
            "Conv_0": {
                "kernel": rng.normal(size=(size,) * 3 + (inputs, outputs)).astype("f4") / (size**3 * inputs) ** 0.5
            },
            "BatchNorm_0": {"bias": rng.normal(size=outputs).astype("f4")},
        }
        statistics[place] = {"BatchNorm_0": {
            "mean": rng.normal(size=(1, 1, 1, 1, outputs)).astype("f4"),
            "var": rng.uniform(0.001, 2, size=(1, 1, 1, 1, outputs)).astype("f4"),
        }}  # fmt: skip
        return params.pop(place), statistics.pop(place)

    def put(block, branch, size, inputs, outputs):
        made, known = unit("x", size, inputs, outputs)
        params.setdefault(block, {})[branch] = made
        statistics.setdefault(block, {})[branch] = known

    for place, size, inputs, outputs in (("Conv3d_1a_7x7", 7, 3, 64), ("Conv3d_2b_1x1", 1, 64, 64),
                                         ("Conv3d_2c_3x3", 3, 64, 192)):  # fmt: skip
        params[place], statistics[place] = unit("x", size, inputs, outputs)
    features = 192
    for block, (a, b, c, d, e, f) in BLOCKS.items():
        put(block, "Branch_0/Conv3d_0a_1x1", 1, features, a)
        put(block, "Branch_1/Conv3d_0a_1x1", 1, features, b)
        put(block, "Branch_1/Conv3d_0b_3x3", 3, b, c)
        put(block, "Branch_2/Conv3d_0a_1x1", 1, features, d)
        put(block, "Branch_2/Conv3d_0b_3x3", 3, d, e)
        put(block, "Branch_3/Conv3d_0b_1x1", 1, features, f)
        features = a + c + e + f
    kernel, bias = rng.normal(size=(1, 1, 1, features, 400)).astype("f4"), rng.normal(size=400).astype("f4")
    params["Logits/Conv3d_0c_1x1"] = {"Conv_0": {"kernel": kernel, "bias": bias}}
    return {"params": params, "batch_stats": statistics}


def normalised_unit(x, params, statistics):
    """Convolution, then batch normalisation without scale, then ReLU, each by itself in float64."""
    kernel = torch.from_numpy(params["Conv_0"]["kernel"]).double().permute(4, 3, 0, 1, 2)
    h = nn.functional.conv3d(x, kernel, padding=kernel.shape[-1] // 2)
    known = {k: torch.from_numpy(v).double().permute(0, 4, 1, 2, 3) for k, v in statistics["BatchNorm_0"].items()}
    bias = torch.from_numpy(params["BatchNorm_0"]["bias"]).double()[:, None, None, None]
    return ((h - known["mean"]) / (known["var"] + 1e-3).sqrt() + bias).relu()


def test_weights_of_the_packages_layout_make_our_network():
    given = variables()
    network = I3D()
    network.load_state_dict(kinetics.convert(given))
    assert sum(p.numel() for p in network.parameters()) == 12_689_984
    x = torch.randn(1, 192, 2, 5, 4)
    params, statistics = given["params"]["Mixed_3b"], given["batch_stats"]["Mixed_3b"]

    def unit(h, place):
        return normalised_unit(h, params[place], statistics[place])

    pooled = nn.functional.max_pool3d(x.double(), 3, 1, 1)
    expected = torch.cat(
        [
            unit(x.double(), "Branch_0/Conv3d_0a_1x1"),
            unit(unit(x.double(), "Branch_1/Conv3d_0a_1x1"), "Branch_1/Conv3d_0b_3x3"),
            unit(unit(x.double(), "Branch_2/Conv3d_0a_1x1"), "Branch_2/Conv3d_0b_3x3"),
            unit(pooled, "Branch_3/Conv3d_0b_1x1"),
        ],
        1,
    )
    block = network.body.get_submodule("Mixed_3b")
    assert isinstance(block, Mixed)
    with torch.no_grad():
        assert torch.allclose(block(x).double(), expected, atol=1e-4, rtol=1e-4)


def test_the_last_pooling_sees_two_steps_at_a_time_and_logits_are_means_over_time():
    class Body(nn.Module):
        def forward(self, x):
            return h

    torch.manual_seed(0)
    h, network = torch.randn(1, 1024, 4, 7, 7), I3D()
    network.body = Body()
    with torch.no_grad():
        features, logits = network(torch.zeros(1, 25, 3, 224, 224))
        steps = [h[:, :, t : t + 2].mean((2, 3, 4)) for t in range(3)]
        assert torch.allclose(features, torch.stack(steps).mean(0), atol=1e-6)
        assert torch.allclose(logits, torch.stack([network.logits(step) for step in steps]).mean(0), atol=1e-6)


def test_clips_and_pictures_that_the_networks_do_not_take():
    with torch.device("meta"):
        for shape in ((1, 8, 3, 224, 224), (1, 9, 3, 112, 112), (1, 3, 9, 224, 224), (9, 3, 224, 224)):
            with pytest.raises(BadInput, match="at least 9 frames"):
                I3D()(torch.empty(shape))
        for shape in ((1, 1, 224, 224), (1, 3, 31, 224), (3, 224, 224)):
            with pytest.raises(BadInput, match="at least 32x32"):
                EfficientNetLite0()(torch.empty(shape))


def test_efficientnet_has_its_parameters_and_every_layer_a_name_in_the_file():
    network = EfficientNetLite0()
    assert sum(p.numel() for p in network.parameters()) == 4_652_008
    layers = imagenet._layers()
    ours = {name.rpartition(".")[0] for name in network.state_dict()}
    theirs = {name for name in layers if "_blocks.0._expand" not in name and not name.startswith("_blocks.0._bn0")}
    assert {layers[name] for name in theirs} == ours
    back = {ours: theirs for theirs, ours in layers.items()}
    given = {}
    for name, tensor in network.state_dict().items():
        layer, _, last = name.rpartition(".")
        given[f"{back[layer]}.{last}"] = tensor
    assert {"_conv_stem.weight", "_blocks.15._bn2.running_var", "_bn1.bias", "_fc.bias"} <= set(given)
    EfficientNetLite0().load_state_dict(imagenet.convert(given))


def test_a_bottleneck_widens_filters_narrows_and_adds():
    torch.manual_seed(0)
    block = Bottleneck(4, 4, 3, stride=1, expansion=6).eval()
    for norm in (m for m in block.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 4, 5, 6)

    def layer(part, h):
        pad = part.conv.kernel_size[0] // 2
        h = nn.functional.conv2d(h, part.conv.weight, padding=pad, groups=part.conv.groups)
        mean, variance = part.norm.running_mean[:, None, None], part.norm.running_var[:, None, None]
        return (h - mean) / (variance + 1e-3).sqrt()

    h = layer(block.widen, x).clamp(0, 6)
    expected = x + layer(block.narrow, layer(block.filter, h).clamp(0, 6))
    with torch.no_grad():
        assert torch.allclose(block(x), expected, atol=1e-5)
        assert Bottleneck(4, 4, 5, stride=2, expansion=1)(x).shape == (1, 4, 3, 3)


@pytest.fixture(scope="module")
def cup():
    frames = read_clip(CUP, limit=16).frames
    if hashlib.sha256(frames.tobytes()).hexdigest() != GOLDEN["frames"]:
        pytest.skip("this PyAV decodes cup.mp4 to other levels than the one of the golden file")
    return torch.from_numpy(frames).movedim(-1, -3)[None]


def weights(load):
    try:
        return load()
    except NotInstalled as error:
        pytest.skip(str(error))


def test_i3d_answers_as_the_packages_own_network_does(cup):
    network = weights(kinetics.load)
    with torch.inference_mode():
        for count in (16, 9):
            made = network(kinetics.resized(cup[:, :count]))[1][0].numpy()
            assert np.abs(made - GOLDEN[f"i3d, {count} frames"]).max() < 1e-4


def test_efficientnet_answers_as_the_packages_own_network_does(cup):
    network = weights(imagenet.load)
    with torch.inference_mode():
        made = network(imagenet.resized(cup[:, 0]))[1][0].numpy()
    assert np.abs(made - GOLDEN["efficientnet, frame 0"]).max() < 1e-4
