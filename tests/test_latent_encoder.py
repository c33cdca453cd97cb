"""The encoder of the diffusion autoencoder, and the network of images inside it."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from framefill.codec.encoder import LatentEncoder, Lite0Features, V2Features, pretrained_v2, shrunk
from framefill.errors import BadInput, CheckpointError
from framefill.nets.batch_norm import BatchNorm, adopt
from framefill.nets.efficientnet_lite import EfficientNetLite0
from framefill.nets.efficientnet_v2 import DROPPED, Block, EfficientNetV2S, Squeeze


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return EfficientNetV2S().eval()


class Means(nn.Module):
    """Stands in for an image network: the means of 32x32 pixels, 1280 times."""

    def __init__(self):
        super().__init__()
        self.norm = BatchNorm(1280)

    def forward(self, x):
        return self.norm(nn.functional.avg_pool2d(x, 32).repeat(1, 427, 1, 1)[:, :1280])


def test_size_and_names_are_torchvisions(network):
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 20_177_488
    state = network.state_dict()
    # as torchvision 0.20 lists them
    for name, shape in {
        "features.0.0.weight": (24, 3, 3, 3),
        "features.1.1.block.0.0.weight": (24, 24, 3, 3),
        "features.2.0.block.0.0.weight": (96, 24, 3, 3),
        "features.2.0.block.1.0.weight": (48, 96, 1, 1),
        "features.4.0.block.1.0.weight": (256, 1, 3, 3),
        "features.4.0.block.2.fc1.weight": (16, 256, 1, 1),
        "features.4.0.block.2.fc2.bias": (256,),
        "features.6.14.block.3.1.running_var": (256,),
        "features.7.0.weight": (1280, 256, 1, 1),
        "features.7.1.running_mean": (1280,),
    }.items():
        assert tuple(state[name].shape) == shape, name


def test_maps_are_a_32nd_and_nearly_local(network):
    x = torch.randn(1, 3, 64, 96)
    assert network(x).shape == (1, 1280, 2, 3)
    assert network(x[..., :33, :33]).shape == (1, 1280, 2, 2)
    with pytest.raises(BadInput, match="at least 32x32"):
        network(x[..., :31])
    gate = Squeeze(8, 2)
    with torch.no_grad():
        gate.fc2.weight.zero_()
        gate.fc2.bias.fill_(1.0)
    y = torch.randn(2, 8, 3, 3)
    assert torch.allclose(gate(y), y * torch.tensor(1.0).sigmoid())


def test_residual_branches_are_left_out_in_training():
    block = Block(nn.Sequential(nn.Identity()), adds=True, dropped=0.5).train()
    torch.manual_seed(0)
    found = block(torch.ones(4000, 1, 1, 1)).flatten()
    assert set(found.tolist()) == {1.0, 3.0}
    assert found.mean().item() == pytest.approx(2.0, abs=0.06)
    assert torch.equal(block.eval()(torch.ones(1, 1, 1, 1)), torch.full((1, 1, 1, 1), 2.0))
    rates = [m.dropped for m in EfficientNetV2S().modules() if isinstance(m, Block)]
    assert rates == pytest.approx([DROPPED * i / 40 for i in range(40)])


def test_a_users_weights_come_in(network, tmp_path):
    state = {k: torch.randn_like(v).abs() for k, v in network.state_dict().items()}
    more = {"classifier.1.weight": torch.zeros(3), "features.0.1.num_batches_tracked": torch.tensor(7)}
    save_file(state | more, tmp_path / "v2.safetensors")
    found = pretrained_v2(tmp_path / "v2.safetensors").network.state_dict()
    assert all(torch.equal(found[k], state[k]) for k in state)
    with pytest.raises(CheckpointError, match=r"cannot be read as \.safetensors"):
        pretrained_v2(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"\x80\x02nonsense")
    with pytest.raises(CheckpointError, match="cannot be read"):
        pretrained_v2(tmp_path / "bad.safetensors")
    wrong = state | {"features.0.0.weight": torch.zeros(24, 3, 5, 5)}
    with pytest.raises(BadInput, match=r"see features\.0\.0\.weight"):
        network.fill(wrong)
    wrong.pop("features.0.0.weight")
    with pytest.raises(BadInput, match="not the weights of torchvision"):
        network.fill(wrong)


def test_batch_norm_is_torchs_without_buffers():
    own, theirs = BatchNorm(5), nn.BatchNorm2d(5)
    for _ in range(3):
        x = torch.randn(4, 5, 3, 3) * 2 + 1
        assert torch.allclose(own(x), theirs(x), atol=1e-6)
    assert not list(own.buffers())
    assert torch.allclose(own.running_var, theirs.running_var, atol=1e-6)
    assert torch.allclose(own.eval()(x), theirs.eval()(x), atol=1e-6)
    single = torch.randn(1, 5, 1, 1)
    assert torch.allclose(own.train()(single), theirs(single), atol=1e-6)  # as in evaluation
    torch.manual_seed(0)
    plain, x = EfficientNetLite0().eval(), torch.randn(1, 3, 32, 32)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.uniform_(0.5, 2)
    before = plain(x)[0]
    assert torch.equal(adopt(plain)(x)[0], before)
    assert not list(plain.buffers())


def test_latents_are_standardised_and_the_statistics_follow():
    torch.manual_seed(0)
    encoder = LatentEncoder(Means(), 4).train()
    x = torch.rand(64, 3, 64, 64) * 2 - 1 + torch.randn(64, 3, 1, 1)
    for _ in range(200):
        z = encoder(x)
    assert z.shape == (64, 4, 2, 2)
    assert z.mean((0, 2, 3)).abs().max() < 1e-5
    assert (z.var((0, 2, 3), correction=0) - 1).abs().max() < 1e-2
    assert torch.allclose(encoder.eval()(x), z, atol=0.06)  # variances of n - 1


def test_frozen_features_stay():
    encoder = LatentEncoder(Means(), 4, frozen=True).train()
    before = encoder.features.norm.running_mean.clone()
    encoder(torch.rand(4, 3, 64, 64)).sum().backward()
    assert torch.equal(encoder.features.norm.running_mean, before)
    assert encoder.features.norm.weight.grad is None
    assert encoder.narrow.weight.grad is not None
    learning = LatentEncoder(Means(), 4).train()
    learning(torch.rand(4, 3, 64, 64)).square().sum().backward()
    assert learning.features.norm.weight.grad is not None
    assert not learning.features.norm.running_mean.requires_grad


def test_pictures_are_shrunk_to_multiples():
    x = torch.rand(1, 3, 128, 160)
    assert shrunk(x, 1.0) is x
    assert shrunk(x, 0.5).shape == (1, 3, 64, 64)  # 80 is not a multiple
    assert shrunk(x, 0.8).shape == (1, 3, 96, 128)
    assert shrunk(x[..., :40, :40], 0.5).shape == (1, 3, 32, 32)
    assert torch.allclose(shrunk(torch.full((1, 3, 128, 128), 0.3), 0.5), torch.tensor(0.3))
    with pytest.raises(BadInput, match=r"0.5 to 1 of their sides"):
        shrunk(x, 0.4)
    with pytest.raises(BadInput, match="1 channel or more"):
        LatentEncoder(Means(), 0)


def test_normalisation_is_imagenets():
    features = V2Features(None)
    features.network.features = nn.Identity()
    x = torch.full((1, 3, 32, 32), 2 * 0.485 - 1)
    seen = features(x)
    assert seen[0, 0].abs().max() < 1e-6
    assert seen[0, 1, 0, 0].item() == pytest.approx((0.485 - 0.456) / 0.224, rel=1e-4)
    lite = Lite0Features(EfficientNetLite0()).eval()
    lite.network.maps = lambda y: [y]
    lite.network.head = nn.Identity()
    level = torch.full((1, 3, 32, 32), 200 / 127.5 - 1)
    assert lite(level)[0, 0, 0, 0].item() == pytest.approx((200 - 127) / 128, rel=1e-4)
