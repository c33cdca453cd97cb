"""Tokenizers: what sees what, exactly; both layouts of time; codes that are given; the paper's size."""

import importlib.util
import math

import pytest
import torch
from torch import nn

import paper_tokens as presets
from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.adversarial import Adversarial
from framefill.latents.distance import on_last_frame, over_frames, squared
from framefill.latents.lattice import FiniteScalar, LookupFree
from framefill.latents.quantiser import Quantiser, perplexity
from framefill.latents.tokenizer import Tokenizer, draw, together
from framefill.nets.clips import ClipTransformer, Patches
from framefill.nets.convolved import ClipConvolutions
from framefill.nets.patches import EveryFrame, PatchDiscriminator
from framefill.video.pseudo.blur import Blur
from framefill.video.pseudo.kind import Still

LIBRARY = importlib.util.find_spec("vector_quantize_pytorch")
SIZE = {"width": 16, "heads": 2, "head_width": 8, "spatial": 1, "temporal": 2}
NETWORKS = {
    "even": lambda: ClipTransformer(2, Patches(2, 4), **SIZE),
    "first alone": lambda: ClipTransformer(2, Patches(2, 4, first_alone=True), **SIZE),
    "convolutions": lambda: ClipConvolutions(2, Patches(2, 4), width=12, blocks=2),
    "convolutions, first alone": lambda: ClipConvolutions(2, Patches(2, 4, first_alone=True), width=12, blocks=1),
    "frame by frame": lambda: ClipTransformer(2, Patches(1, 4), **SIZE),
}
QUANTISERS = {
    "learned": lambda: Quantiser(16, 4),
    "lookup-free": lambda: LookupFree(4),
    "finite scalar": lambda: FiniteScalar((4, 2, 3)),
}


def seeded(module: nn.Module, size: float = 0.05) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(size * torch.randn_like(parameter))
    return module.double().eval()


def clips(frames: int, seed: int = 0, count: int = 2) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.rand(count, frames, 2, 8, 12, generator=g, dtype=torch.float64) * 2 - 1


def length(network) -> int:
    return network.patches.frames(4 if network.patches.time == 2 else 6)


def rng(size: int = 2) -> Rng:
    return Rng.batch(0, size)


@pytest.fixture(params=NETWORKS)
def network(request):
    return seeded(NETWORKS[request.param]())


@pytest.fixture(params=QUANTISERS)
def quantiser(request):
    return seeded(QUANTISERS[request.param]())


# ---- layouts and causality -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("patches", [Patches(2, 4), Patches(2, 4, True), Patches(1, 2), Patches(3, 4, True)], ids=str)
def test_cutting_and_joining_are_inverse_and_put_pixels_where_they_belong(patches):
    T = patches.frames(3)
    x = clips(T)
    cut = patches.cut(x)
    assert cut.shape[1:4] == patches.grid(T, 8, 12)
    assert torch.equal(patches.join(cut), x)
    last = cut[1, 2, 1, 0].view(patches.time, 2, patches.side, patches.side)[-1]
    assert torch.equal(last, x[1, T - 1, :, patches.side : 2 * patches.side, : patches.side])
    if patches.first_alone:
        assert torch.equal(patches.cut(x[:, :1]), cut[:, :1])


def test_later_frames_change_no_earlier_feature_and_do_change_their_own(network):
    x, patches = clips(length(network)), network.patches
    features = network.encode(x)
    for t in range(1, features.shape[1]):
        other = x.clone()
        other[:, patches.frames(t) :] = clips(x.shape[1], seed=t)[:, patches.frames(t) :]
        changed = network.encode(other)
        assert torch.equal(changed[:, :t], features[:, :t])
        assert float((changed[:, t:] - features[:, t:]).detach().abs().amax((0, 2, 3, 4)).min()) > 1e-3


def test_earlier_frames_do_reach_later_features(network):
    x = clips(length(network))
    other = x.clone()
    other[:, 0] = -x[:, 0]
    apart = (network.encode(other) - network.encode(x)).detach().abs().amax((0, 2, 3, 4))
    assert float(apart.min()) > 1e-6


def test_later_features_change_no_earlier_frame(network):
    features = torch.randn(2, 4, 2, 3, network.width, dtype=torch.float64)
    made = network.decode(features)
    for t in range(1, 4):
        other = features.clone()
        other[:, t:] = torch.randn_like(other[:, t:])
        changed = network.decode(other)
        edge = network.patches.frames(t)
        assert torch.equal(changed[:, :edge], made[:, :edge])
        assert float((changed[:, edge:] - made[:, edge:]).detach().abs().amax((0, 2, 3, 4)).min()) > 1e-3


def test_a_clip_has_the_tokens_of_its_beginning(network):
    x = clips(length(network))
    tokenizer = seeded(Tokenizer(network, Quantiser(64, 4)))
    with torch.no_grad():
        tokenizer.quantiser.codebook.normal_()
    short = network.patches.frames(2)
    assert torch.equal(tokenizer.tokens(x[:, :short]), tokenizer.tokens(x)[:, :2])


def test_brightness_and_contrast_are_seen(network):
    """The published layer normalises patches and sees neither: 2e-4 apart and none at all (facts, section 1.2)."""
    x = clips(length(network))
    features = network.encode(x)
    for other in (x + 0.5, 0.3 * x + 0.5, 0.3 * x, -x):
        apart = (network.encode(other) - features).square().mean().sqrt() / features.square().mean().sqrt()
        assert float(apart.detach()) > 0.05


def test_the_papers_sizes():
    """50.9 million in the published program, whose first frame has layers of its own; 50.8 million for images."""
    with torch.device("meta"):
        kinds = {frames: presets.tokenizer(frames) for frames in (1, 8, 9)}
    for frames, parameters in ((1, 50.8e6), (8, 50.9e6), (9, 50.9e6)):
        codes = sum(p.numel() for p in kinds[frames].quantiser.parameters())
        assert sum(p.numel() for p in kinds[frames].parameters()) - codes == pytest.approx(parameters, rel=0.003)
    assert [kinds[8].grid(T, 32, 32) for T in (8, 18)] == [(4, 8, 8), (9, 8, 8)]
    assert [kinds[8].bits(T, 32, 32) for T in (8, 18)] == [2560, 5760]
    assert kinds[9].grid(9, 32, 32) == (5, 8, 8)
    assert kinds[1].bits(1, 32, 32) == 640
    with torch.device("meta"):
        for make in (presets.autoregressive, presets.masked, presets.criticised):
            prior = make((4, 8, 8), classes=10)
            together(kinds[8], prior.vocabulary, prior.grid, 8, 32, 32)


@pytest.mark.parametrize("frames", [1, 2, 8, 18])
def test_pseudo_videos_go_through(frames):
    images = torch.rand(2, 2, 12, 8, dtype=torch.float64) * 2 - 1
    kind = Still() if frames == 1 else Blur(frames)
    patches = Patches(1 if frames == 1 else 2, 4)
    tokenizer = seeded(Tokenizer(ClipTransformer(2, patches, **SIZE), LookupFree(4)))
    x = kind(images, rng())
    tokens = tokenizer.tokens(x)
    assert tokens.shape[1:] == (max(frames // 2, 1), 3, 2)
    assert tokenizer.clips(tokens).shape == x.shape


# ---- the contract --------------------------------------------------------------------------------------------------


def test_tokens_are_names_of_what_is_decoded(network, quantiser):
    tokenizer = seeded(Tokenizer(network, quantiser))
    x = clips(length(network))
    z, tokens = tokenizer.encode(x), tokenizer.tokens(x)
    assert tokens.shape[1:] == tokenizer.grid(x.shape[1], 8, 12)
    assert 0 <= int(tokens.min()) <= int(tokens.max()) < tokenizer.vocabulary
    assert torch.equal(tokens, tokenizer.indices(z))
    torch.testing.assert_close(tokenizer.clips(tokens), tokenizer.decode(z), check_dtype=False)
    torch.testing.assert_close(
        tokenizer.decode(z), tokenizer.reconstruct(x, rng())[0], check_dtype=False, rtol=1e-4, atol=1e-4
    )
    assert float(draw(tokenizer, tokens).abs().max()) <= 1
    latents = tokenizer.latents(tokens)
    assert torch.equal(tokenizer.latents(tokens.flip(3)), latents.flip(4))  # axes are where they should be
    assert torch.equal(tokenizer.latents(tokens.flip(1)), latents.flip(2))


def test_the_loss_is_the_distance_and_the_penalty(network, quantiser):
    tokenizer, x = seeded(Tokenizer(network, quantiser)), clips(length(network))
    made, penalty = tokenizer.reconstruct(x, rng())
    torch.testing.assert_close(
        tokenizer.loss(x, rng(), over_frames(squared)), (made - x).square().mean((1, 2, 3, 4)) + penalty
    )
    torch.testing.assert_close(on_last_frame(squared)(made, x), squared(made[:, -1], x[:, -1]))
    tokenizer.loss(x, rng(), over_frames(squared)).sum().backward()
    silent = [n for n, p in tokenizer.named_parameters() if p.requires_grad and (p.grad is None or not p.grad.any())]
    assert not silent


@pytest.mark.parametrize("frames", [1, 3])
def test_the_adversary_weighs_the_layer_in_use_for_any_number_of_frames(frames):
    """The published weight is zero for one frame: it looks at a layer that one frame never passes."""
    tokenizer = Tokenizer(ClipTransformer(2, Patches(2, 4, first_alone=True), **SIZE), Quantiser(16, 4)).train()
    both = Adversarial(tokenizer, EveryFrame(PatchDiscriminator(2, width=8, layers=1))).train()
    x = clips(frames).float()
    both.loss(x, rng(), over_frames(squared)).mean().backward()
    assert 1e-4 < both.notes()["adaptive_weight"] < 1e4
    assert {"perplexity", "codes_in_use"} <= set(both.notes())
    judged = both.discriminator(x)
    alone = both.discriminator.discriminator(x[:, -1])
    torch.testing.assert_close(judged[:, -1], alone[:, 0])


def test_a_short_training_halves_the_error_with_every_quantiser(quantiser):
    torch.manual_seed(0)
    tokenizer = Tokenizer(
        ClipTransformer(1, Patches(1, 4), width=16, heads=2, head_width=8, spatial=1, temporal=0), quantiser
    )
    tokenizer = tokenizer.float().train()
    level = torch.linspace(-1, 1, 16)[:, None, None, None, None].expand(-1, 1, 1, 4, 4)
    optimiser = torch.optim.Adam([p for p in tokenizer.parameters() if p.requires_grad], 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        tokenizer.loss(level, rng(16), over_frames(squared)).mean().backward()
        optimiser.step()
    error = over_frames(squared)(tokenizer.eval().decode(tokenizer.encode(level)), level).mean()
    assert float(error.detach()) < 0.5 * float(level.square().mean())
    assert len(tokenizer.tokens(level).unique()) >= 3


# ---- given codes ---------------------------------------------------------------------------------------------------

LATTICES = {"four": FiniteScalar((4, 4, 4, 4, 4)), "mixed": FiniteScalar((8, 5, 3)), "signs": LookupFree(5)}


@pytest.mark.parametrize("lattice", LATTICES.values(), ids=LATTICES)
def test_every_code_of_a_lattice_has_one_index_and_is_nearest_to_itself(lattice):
    indices = torch.arange(lattice.size).view(1, 1, -1)
    codes = lattice.codes(indices)
    assert len(codes[0, :, 0].T.unique(dim=0)) == lattice.size
    assert codes.abs().max() <= 1
    if isinstance(lattice, LookupFree):
        assert torch.equal(lattice.indices(codes), indices)
    else:  # the bounded numbers of these are the codes
        halves = torch.tensor([n // 2 for n in lattice.levels])[:, None, None]
        reach = torch.tensor([(n - 1) * 1.001 / 2 for n in lattice.levels])[:, None, None]
        lower = torch.tensor([0.0 if n % 2 else 0.5 for n in lattice.levels])[:, None, None]
        z = torch.atanh((codes * halves + lower) / reach) - torch.atanh(lower / reach)
        assert torch.equal(lattice.indices(z), indices)
    far = torch.full((1, lattice.width, 1, 1), 50.0)
    assert lattice.indices(far).item() == lattice.size - 1
    assert lattice.indices(-far).item() == 0


def test_the_penalty_of_a_lookup_free_quantiser_by_brute_force():
    quantiser = LookupFree(5, entropy=0.3, diversity=0.7, sharpness=0.4, commitment=0.25)
    z = torch.randn(2, 5, 3, 4, dtype=torch.float64)
    codes = quantiser.codes(torch.arange(32).view(1, 1, 32))[0, :, 0].double()  # (5, 32)
    p = (2 * 0.4 * torch.einsum("bdhw,dk->bhwk", z, codes)).softmax(3)
    sure = torch.special.entr(p).sum(3).mean((1, 2))
    spread = torch.special.entr(p.mean((0, 1, 2))).sum()
    held = (z - z.sign()).square().mean((1, 2, 3))
    torch.testing.assert_close(quantiser(z).penalty, 0.3 * (sure - 0.7 * spread) + 0.25 * held)


@pytest.mark.skipif(LIBRARY is None, reason="vector-quantize-pytorch is not installed")
def test_the_library_says_the_same():
    from vector_quantize_pytorch import FSQ, LFQ

    z = torch.randn(2, 5, 6, 4)
    for ours, theirs in (
        (FiniteScalar((8, 5, 5, 5, 3)), FSQ([8, 5, 5, 5, 3])),
        (LookupFree(5), LFQ(codebook_size=32, dim=5, commitment_loss_weight=0.25)),
    ):
        a, b = z.clone().requires_grad_(), z.clone().requires_grad_()
        found, (codes, indices, *penalty) = ours.train()(a), theirs.train()(b)
        torch.testing.assert_close(found.codes, codes)
        if isinstance(ours, FiniteScalar):
            assert torch.equal(found.indices, indices.long())
        else:  # their first bit is the highest
            flipped = sum(((indices.long() >> (4 - d)) & 1) << d for d in range(5))
            assert torch.equal(found.indices, flipped)
        push = torch.randn_like(z)
        (found.codes * push).sum().backward()
        (codes * push).sum().backward()
        torch.testing.assert_close(a.grad, b.grad)
        if penalty:
            torch.testing.assert_close(found.penalty.mean(), penalty[0], rtol=1e-4, atol=1e-5)


def test_use_of_given_codes_is_counted():
    lattice = LookupFree(3, patience=2).train()
    all_of_them = lattice.codes(torch.arange(8).view(1, 2, 4))
    lattice(all_of_them)
    assert lattice.notes() == {"perplexity": pytest.approx(8), "codes_in_use": 1.0, "codes_revived": 0}
    for _ in range(3):
        lattice(all_of_them[..., :1, :2])
    assert lattice.notes()["codes_in_use"] == 0.25
    assert lattice.notes()["perplexity"] == pytest.approx(float(perplexity(torch.tensor([1, 1]))))
    lattice.eval()(all_of_them)
    assert lattice.notes()["codes_in_use"] == 0.25


# ---- refusals ------------------------------------------------------------------------------------------------------


def made(name: str = "even") -> Tokenizer:
    return Tokenizer(NETWORKS[name](), Quantiser(16, 4)).double()


@pytest.mark.parametrize("wrong", [
    lambda: made().tokens(clips(1)), lambda: made().tokens(clips(3)), lambda: made("first alone").tokens(clips(2)),
    lambda: made().tokens(clips(2)[..., :7, :]), lambda: made().tokens(clips(2)[..., :10]),
    lambda: made().tokens(clips(2)[:, :, :1]), lambda: made().tokens(clips(2)[:, 0]), lambda: made().tokens(clips(0)),
    lambda: made().tokens(clips(2)[:0]), lambda: made().clips(torch.full((1, 1, 2, 2), 16)),
    lambda: made().clips(torch.full((1, 1, 2, 2), -1)), lambda: made().clips(torch.zeros(1, 2, 2).long()),
    lambda: made().clips(torch.zeros(1, 1, 2, 2)), lambda: made().decode(torch.zeros(1, 4, 2, 2).double()),
    lambda: made().decode(torch.zeros(1, 3, 1, 2, 2).double()), lambda: Patches(0), lambda: Patches(2, 0),
    lambda: ClipTransformer(0), lambda: ClipTransformer(spatial=0), lambda: ClipTransformer(temporal=-1),
    lambda: ClipConvolutions(patches=Patches(2, 3)), lambda: ClipConvolutions(width=0),
    lambda: ClipConvolutions(blocks=-1), lambda: presets.tokenizer(0),
    lambda: Tokenizer(NETWORKS["convolutions"](), Quantiser(16, 4)).tokens(clips(3).float()),
    lambda: Tokenizer(NETWORKS["convolutions"](), Quantiser(16, 4)).tokens(clips(2)[:, :, :1].float()),
    lambda: FiniteScalar(()), lambda: FiniteScalar((4, 1)), lambda: FiniteScalar((1000, 1000)), lambda: LookupFree(0),
    lambda: LookupFree(19), lambda: LookupFree(4, entropy=-1.0), lambda: LookupFree(4, sharpness=0.0),
    lambda: LookupFree(4, patience=-1), lambda: LookupFree(4)(torch.zeros(1, 3, 2, 2)),
    lambda: LookupFree(4).codes(torch.tensor([[[16]]])), lambda: LookupFree(4).codes(torch.tensor([[[0.5]]])),
    lambda: together(made(), 17, (1, 2, 3), 2, 8, 12), lambda: together(made(), 16, (2, 2, 3), 2, 8, 12),
])  # fmt: skip
def test_what_tokenizers_refuse(wrong):
    with pytest.raises(BadInput):
        wrong()


def test_refusals_say_what_is_allowed():
    with pytest.raises(BadInput, match="1 frames for patches of 2; their lengths are multiples of 2"):
        made().tokens(clips(1))
    with pytest.raises(BadInput, match=r"2 frames for patches of 2; their lengths are 1 \+ k 2"):
        made("first alone").tokens(clips(2))
    with pytest.raises(BadInput, match=r"16 codes and a grid of .* take the prior that was trained on this tokenizer"):
        together(made(), 1024, (1, 2, 3), 2, 8, 12)
    together(made(), 16, (1, 2, 3), 2, 8, 12)
    assert math.isclose(made().bits(2, 8, 12), 24)
