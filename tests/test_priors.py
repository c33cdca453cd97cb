"""Token priors: exact likelihoods, caches, draws; known distributions come out as they are."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.errors import BadInput
from framefill.latents.priors.autoregressive import Autoregressive
from framefill.latents.priors.choice import Choice
from framefill.latents.priors.masked import Criticised, Masked, schedule
from framefill.latents.priors.orders import Confidence, Draft, Halton, Judged, Scattered, halton
from framefill.latents.priors.prior import UNDECIDED
from framefill.nets.tokens import CausalTokens, MaskedTokens

GRID = (2, 2, 3)
ORDERS = {"confidence": Confidence(), "halton": Halton(), "scattered": Scattered()}


def seeded(model: nn.Module, size: float = 0.3) -> nn.Module:
    """Weights that say something: heads and labels are zero at first."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return model.double().eval()


def causal(vocabulary: int = 5, grid=GRID, *, classes: int = 0, **options) -> Autoregressive:
    return seeded(
        Autoregressive(CausalTokens(vocabulary, grid, classes=classes, width=8, layers=2, heads=2, **options))
    )


def masked(vocabulary: int = 5, grid=GRID, *, classes: int = 0) -> Masked:
    return seeded(Masked(MaskedTokens(vocabulary, grid, classes=classes, width=8, layers=2, heads=2, head_width=4)))


def criticised(vocabulary: int = 5, grid=GRID, *, classes: int = 0) -> Criticised:
    shape = {"width": 8, "layers": 1, "heads": 2, "head_width": 4, "classes": classes}
    return seeded(
        Criticised(MaskedTokens(vocabulary, grid, **shape), MaskedTokens(vocabulary, grid, **shape, outputs=1))
    )


PRIORS = {"causal": causal, "masked": masked, "criticised": criticised}


@pytest.fixture(params=PRIORS)
def make(request):
    return PRIORS[request.param]


def tokens(*shape: int, vocabulary: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randint(vocabulary, shape, generator=torch.Generator().manual_seed(seed))


def rng(size: int, seed: int = 0) -> Rng:
    return Rng.batch(seed, size)


def last(steps):
    *_, final = steps
    return final


def every(vocabulary: int, grid) -> torch.Tensor:
    """All clips of tokens there are, (vocabulary^N, *grid)."""
    return torch.tensor([*product(range(vocabulary), repeat=math.prod(grid))]).view(-1, *grid)


# ---- draws ---------------------------------------------------------------------------------------------------------


def test_choices_against_sorting_by_hand():
    logits = torch.randn(40, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for temperature, k, p in product((0.5, 1.0, 2.0), (0, 1, 3, 9), (1.0, 0.9, 0.3)):
        found = Choice(temperature, k, p).probabilities(logits)
        for row, got in zip(logits.tolist(), found.tolist(), strict=True):
            weights = sorted(((math.exp(x / temperature), i) for i, x in enumerate(row)), reverse=True)[: k or None]
            total, kept, so_far = sum(w for w, _ in weights), [], 0.0
            for w, i in weights:
                if so_far >= p:
                    break
                kept.append((w / total, i))
                so_far += w / total
            expected = [0.0] * 7
            for w, i in kept:
                expected[i] = w / sum(v for v, _ in kept)
            assert got == pytest.approx(expected, abs=1e-12)


def test_temperature_zero_takes_the_likeliest():
    logits = torch.tensor([[0.0, 3.0, 1.0], [2.0, 2.0, -1.0]])
    assert Choice(0).probabilities(logits).tolist() == [[0, 1, 0], [0.5, 0.5, 0]]
    assert Choice(0).draw(logits, rng(2))[0] == 1


def test_draws_have_the_stated_frequencies_and_never_probability_zero():
    logits = torch.tensor([-math.inf, 0.0, math.log(3), -math.inf]).expand(1, 20000, 4)
    drawn = Choice().draw(logits, rng(1)).flatten()
    share = torch.bincount(drawn, minlength=4) / len(drawn)
    assert share.tolist() == pytest.approx([0, 0.25, 0.75, 0], abs=0.01)
    assert share[0] == share[3] == 0

    class Lowest:
        def uniform(self, shape, like):
            return torch.zeros(1, *shape)

    assert Choice().draw(logits[:, :1], Lowest()).item() == 1


@pytest.mark.parametrize("wrong", [
    lambda: Choice(-1), lambda: Choice(math.nan), lambda: Choice(top_k=-1), lambda: Choice(top_p=0.0),
    lambda: Choice(top_p=1.1), lambda: Confidence(-1), lambda: Judged(nn.Identity(), -1.0), lambda: schedule(8, 0),
])  # fmt: skip
def test_what_choices_and_orders_refuse(wrong):
    with pytest.raises(BadInput):
        wrong()


# ---- autoregressive ------------------------------------------------------------------------------------------------


def test_the_likelihood_sums_to_one():
    for classes, grid in ((0, (2, 1, 2)), (2, (1, 2, 2))):
        prior, clips = causal(3, grid, classes=classes), every(3, grid)
        for name in [None, *range(classes)]:
            labels = None if name is None else torch.full((len(clips),), name)
            assert float(prior.log_likelihood(clips, labels).exp().sum().detach()) == pytest.approx(1, abs=1e-10)
    part = causal(3, (3, 1, 2))
    assert float(part.log_likelihood(every(3, (1, 1, 2))).exp().sum().detach()) == pytest.approx(1, abs=1e-10)


def test_the_loss_is_the_likelihood_per_token():
    prior, clips = causal(), tokens(4, *GRID)
    torch.testing.assert_close(prior.loss(clips, None, rng(4)) * 12, -prior.log_likelihood(clips))


def test_cached_and_uncached_logits_are_equal():
    prior, clips = causal(classes=2), tokens(3, *GRID)
    labels = torch.tensor([0, 2, 1])
    whole = prior.network(clips, labels)
    memories, before = prior.network.memories(GRID), None
    for n in range(12):
        logits = prior.network.following(before, labels, GRID, n, memories)
        torch.testing.assert_close(logits, whole[:, n], rtol=0, atol=1e-12)
        before = clips.flatten(1)[:, n]
    with pytest.raises(BadInput, match="room for 12"):
        prior.network.blocks[0].attention(torch.zeros(3, 1, 8).double(), memory=memories[0])


def test_logits_depend_on_earlier_tokens_only():
    prior, clips = causal(), tokens(2, *GRID)
    other = clips.flatten(1).clone()
    other[:, 7:] = (other[:, 7:] + 1 + tokens(2, 5, vocabulary=4)) % 5
    a, b = (prior.network(t.view(2, *GRID), torch.zeros(2, dtype=torch.int64)) for t in (clips, other))
    assert torch.equal(a[:, :8], b[:, :8])
    assert bool((a[:, 8:] != b[:, 8:]).any(2).all())


def chain() -> tuple[torch.Tensor, torch.Tensor]:
    """First probabilities (3,) and transitions (3, 3)."""
    g = torch.Generator().manual_seed(4)
    draw = torch.rand(4, 3, generator=g, dtype=torch.float64) + 0.1
    draw = draw / draw.sum(1, keepdim=True)
    return draw[0], draw[1:]


def chain_likelihood(clips: torch.Tensor) -> torch.Tensor:
    first, steps = chain()
    flat = clips.flatten(1)
    return first[flat[:, 0]].log() + steps[flat[:, :-1], flat[:, 1:]].log().sum(1)


def test_a_head_that_is_solved_for_makes_it_a_markov_chain():
    """No layers, no places: what the head reads is the token before. Four of them, four rows of probabilities."""
    grid = (1, 2, 2)
    prior = causal(3, grid)
    network = prior.network
    network.blocks = nn.ModuleList()
    with torch.no_grad():
        for axis in network.inputs.axes:
            axis.zero_()
        network.inputs.label.weight.zero_()
        read = network.norm(torch.cat([network.first[None], network.inputs.token.weight]))
        wanted = torch.cat([chain()[0][None], chain()[1]]).log()
        solved = torch.linalg.lstsq(torch.cat([read, torch.ones(4, 1).double()], 1), wanted).solution
        network.head.weight.copy_(solved[:-1].T)
        network.head.bias.copy_(solved[-1])
    clips = every(3, grid)
    torch.testing.assert_close(prior.log_likelihood(clips), chain_likelihood(clips))
    drawn = last(prior.sample(grid, None, rng(3000)))
    index = (drawn.flatten(1) * torch.tensor([27, 9, 3, 1])).sum(1)
    share = torch.bincount(index, minlength=81) / 3000
    expected = chain_likelihood(clips).exp()
    assert float(((share - expected).square() / expected).sum() * 3000) < 80 + 4 * math.sqrt(160)  # chi squared


def test_a_short_training_finds_the_markov_chain():
    grid = (1, 2, 2)
    torch.manual_seed(0)
    prior = Autoregressive(CausalTokens(3, grid, width=16, layers=1, heads=2, dropout=0.0)).train()
    clips = every(3, grid)
    truth = chain_likelihood(clips)
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)
    for _ in range(120):
        optimiser.zero_grad()
        (-prior.log_likelihood(clips) * truth.exp().float()).sum().backward()
        optimiser.step()
    apart = float((truth.exp() * (truth - prior.log_likelihood(clips).detach().double())).sum())
    assert 0 <= apart < 0.003, "nats of divergence"


def test_a_start_is_kept_and_continued_as_it_would_be():
    prior = causal()
    free = last(prior.sample(GRID, None, rng(3), choice=Choice(0)))
    start = free.flatten(1)[:, :5]
    assert torch.equal(last(prior.sample(GRID, None, rng(3), choice=Choice(0), start=start)), free)
    other = (start + 1) % 5
    assert torch.equal(last(prior.sample(GRID, None, rng(3), start=other)).flatten(1)[:, :5], other)


# ---- masked --------------------------------------------------------------------------------------------------------


def test_the_cosine_schedule_ends_and_always_moves():
    assert schedule(256, 18)[:3] == [round(256 * math.cos(math.pi * k / 36)) for k in (1, 2, 3)]
    for total, steps in product((1, 2, 7, 64, 576), (1, 2, 8, 18, 1000)):
        counts = schedule(total, steps)
        assert counts[-1] == 0
        assert len(counts) == min(steps, total)
        assert all(a > b for a, b in zip([total, *counts], counts, strict=False))


def test_training_hides_the_share_of_the_cosine():
    prior = masked(grid=(1, 8, 8))
    hidden = prior.hidden(tokens(4000, 1, 8, 8), rng(4000))
    assert float(hidden.double().mean()) == pytest.approx(2 / math.pi, abs=0.01)
    assert int(hidden.sum(1).min()) >= 1
    assert hidden.double().mean(0).std() < 0.02  # every place alike
    alone = prior.hidden(tokens(1, 1, 8, 8), Rng([rng(4).seeds[2]]))
    assert torch.equal(alone[0], prior.hidden(tokens(4, 1, 8, 8), rng(4))[2])


def test_the_loss_counts_hidden_tokens_only():
    prior, clips = masked(), tokens(4, *GRID)
    hidden = prior.hidden(clips, rng(4))
    covered = torch.where(hidden.view(clips.shape), 5, clips)
    nats = -prior.network(covered, torch.zeros(4, dtype=torch.int64)).log_softmax(2).detach()
    expected = [float(nats[i, hidden[i]].gather(1, clips[i].flatten()[hidden[i]][:, None]).mean()) for i in range(4)]
    assert prior.loss(clips, None, rng(4)).tolist() == pytest.approx(expected)
    visible = clips.flatten(1).clone()
    i, n = (~hidden).nonzero()[0].tolist()
    visible[i, n] = (visible[i, n] + 1) % 5
    assert not torch.equal(prior.loss(visible.view(clips.shape), None, rng(4)), prior.loss(clips, None, rng(4)))


class Known(nn.Module):
    """Not a network: the exact conditionals of a joint distribution over three tokens of `vocabulary`."""

    vocabulary, grid, classes, mask = 3, (1, 1, 3), 0, 3

    def __init__(self, joint: torch.Tensor):
        super().__init__()
        self.joint = nn.Parameter(joint.double())

    def forward(self, clips, labels):
        made = []
        for clip in clips.flatten(1).tolist():
            table = self.joint
            for axis, token in enumerate(clip):
                if token != self.mask:
                    keep = torch.zeros(3, dtype=torch.float64)
                    keep[token] = 1
                    table = table * keep.view([-1 if a == axis else 1 for a in range(3)])
            made.append(torch.stack([table.sum([b for b in range(3) if b != axis]) for axis in range(3)]))
        return torch.stack(made).log()


def joint(*, independent: bool) -> torch.Tensor:
    g = torch.Generator().manual_seed(3)
    if independent:
        a, b, c = torch.rand(3, 3, generator=g) + 0.1
        table = a[:, None, None] * b[:, None] * c
    else:
        table = torch.rand(3, 3, 3, generator=g) ** 3
    return table / table.sum()


def shares(prior: Masked, count: int = 2500, **options) -> torch.Tensor:
    drawn = last(prior.sample((1, 1, 3), None, rng(count), **options)).flatten(1)
    return torch.bincount((drawn * torch.tensor([9, 3, 1])).sum(1), minlength=27) / count


def chi(found: torch.Tensor, expected: torch.Tensor, count: int = 2500) -> float:
    expected = expected.flatten().double()
    return float(((found - expected) ** 2 / expected).sum() * count)


LIMIT = 26 + 4 * math.sqrt(52)


@pytest.mark.parametrize("order", [Halton(), Scattered()], ids=["halton", "scattered"])
def test_any_distribution_comes_out_one_token_at_a_time(order):
    table = joint(independent=False)
    assert chi(shares(Masked(Known(table)), steps=3, order=order), table) < LIMIT
    assert chi(shares(Masked(Known(table)), steps=1, order=order), table) > 2 * LIMIT  # all at once are independent


@pytest.mark.parametrize(("order", "steps"), [(Halton(), 1), (Halton(), 2), (Scattered(), 2), (Confidence(), 1)])
def test_independent_tokens_come_out_in_any_number_of_steps(order, steps):
    table = joint(independent=True)
    assert chi(shares(Masked(Known(table)), steps=steps, order=order), table) < LIMIT


def test_confidence_favours_what_is_likely():
    """Why the orders above exist: keeping the confident ones is not a draw from the distribution."""
    table = joint(independent=True)
    biased = shares(Masked(Known(table)), steps=3, order=Confidence(0))
    assert chi(biased, table) > 2 * LIMIT
    assert float(biased @ table.flatten().log()) > float(table.flatten() @ table.flatten().log())


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_tokens_once_kept_stay_and_masks_are_never_sampled(order):
    prior = masked()
    before = torch.full((4, *GRID), UNDECIDED)
    counts = schedule(12, 5)
    for step, count in zip(prior.sample(GRID, None, rng(4), steps=5, order=order), counts, strict=True):
        kept = before != UNDECIDED
        assert torch.equal(step[kept], before[kept])
        assert (step == UNDECIDED).flatten(1).sum(1).tolist() == [count] * 4
        before = step
    assert 0 <= int(before.min()) <= int(before.max()) < 5


def test_halton_visits_every_place_once_and_spreads_out():
    for shape in ((1, 8, 8), (4, 8, 8), (1, 1, 1), (1, 5, 7), (9, 3, 1)):
        assert sorted(halton(shape).tolist()) == list(range(math.prod(shape)))
    first = halton((1, 16, 16))[:64]
    rows, columns = first // 16, first % 16
    corners = torch.bincount((rows // 8) * 2 + columns // 8, minlength=4)
    assert corners.tolist() == pytest.approx([16] * 4, abs=2)
    draft = Draft(tokens(2, 64), torch.zeros(2, 64), torch.zeros(2), (1, 8, 8), 0.5)
    assert torch.equal(Halton()(draft, rng(2)).argsort(1, descending=True)[1], halton((1, 8, 8)))


def test_the_critic_learns_which_tokens_are_not_the_true_ones():
    """A critic that knows the truth has no loss; nothing of its loss reaches the prior."""
    clips = tokens(4, *GRID)

    class Knows(nn.Module):
        def forward(self, shown, labels):
            wrong = (shown != clips).flatten(1)[..., None]
            return torch.where(wrong, 50.0, -50.0)

    prior = criticised()
    plain = Masked.loss(prior, clips, None, rng(4))
    both = prior.loss(clips, None, rng(4))
    assert bool((both > plain).all())
    prior.critic = Knows()
    torch.testing.assert_close(prior.loss(clips, None, rng(4)), plain)
    prior = criticised()
    (prior.loss(clips, None, rng(4)) - Masked.loss(prior, clips, None, rng(4))).sum().backward()
    assert max(float(p.grad.abs().max()) for p in prior.network.parameters() if p.grad is not None) < 1e-12
    assert max(float(p.grad.abs().max()) for p in prior.critic.parameters() if p.grad is not None) > 1e-3


def test_sampling_keeps_what_the_critic_doubts_least():
    class Dislikes(nn.Module):
        def forward(self, shown, labels):
            return torch.where(shown.flatten(1) == 2, 9.0, -9.0)[..., None]

    draft = Draft(tokens(2, 12), torch.zeros(2, 12), torch.zeros(2), GRID, 0.5)
    scores = Judged(Dislikes())(draft, rng(2))
    twos = draft.tokens == 2
    assert float(scores[twos].max()) < float(scores[~twos].min())
    prior = masked()
    with_critic = last(prior.sample(GRID, None, rng(64), steps=12, order=Judged(Dislikes(), noise=0.0)))
    without = last(prior.sample(GRID, None, rng(64), steps=12, order=Scattered()))
    assert int((with_critic == 2).sum()) < 0.8 * int((without == 2).sum())


# ---- labels and guidance -------------------------------------------------------------------------------------------


def test_labels_are_withheld_from_a_share_in_training_only(make):
    prior = make(classes=3)
    labels = torch.arange(3000) % 3
    assert torch.equal(prior.shown(labels, labels, rng(3000)), labels)
    shown = prior.train().shown(labels, labels, rng(3000))
    withheld = shown == 3
    assert float(withheld.double().mean()) == pytest.approx(0.1, abs=0.02)
    assert torch.equal(shown[~withheld], labels[~withheld])
    assert set(prior.shown(None, labels, rng(3000)).tolist()) == {3}


def test_guidance_moves_from_all_through_the_class_and_beyond():
    prior, clips = masked(classes=2), tokens(2, *GRID)
    names = torch.tensor([0, 1])
    label, none = prior.network(clips, names), prior.network(clips, torch.tensor([2, 2]))
    assert float((label - none).detach().abs().max()) > 0.01
    for guidance in (0.0, 1.0, 3.0):
        torch.testing.assert_close(prior.logits(clips, names, guidance), none + guidance * (label - none))


@pytest.mark.parametrize("make", [causal, masked])
def test_a_short_training_learns_both_the_classes_and_all_of_them(make):
    """Class 0 has 80 % zeros, class 1 has 20 %, at every place; so all have half. Then guidance sharpens."""
    torch.manual_seed(0)
    shape = {"classes": 2, "width": 16, "layers": 1, "heads": 2}
    prior = {
        causal: lambda: Autoregressive(CausalTokens(2, (1, 1, 2), dropout=0.0, **shape), withheld=0.3),
        masked: lambda: Masked(MaskedTokens(2, (1, 1, 2), **shape), withheld=0.3),
    }[make]().train()
    optimiser = torch.optim.Adam(prior.parameters(), 1e-2)
    for step in range(70):
        g = torch.Generator().manual_seed(step)
        labels = torch.randint(2, (256,), generator=g)
        ones = torch.rand(256, 1, 1, 2, generator=g) < torch.where(labels == 0, 0.2, 0.8)[:, None, None, None]
        optimiser.zero_grad()
        prior.loss(ones.long(), labels, rng(256, step)).mean().backward()
        optimiser.step()
    prior.eval()

    def share(labels, guidance):
        options = {} if make is causal else {"order": Scattered(), "steps": 2}
        return float(last(prior.sample((1, 1, 2), labels, rng(1500), guidance=guidance, **options)).double().mean())

    first, second = torch.zeros(1500, dtype=torch.int64), torch.ones(1500, dtype=torch.int64)
    assert share(first, 1) == pytest.approx(0.2, abs=0.06)
    assert share(second, 1) == pytest.approx(0.8, abs=0.06)
    assert share(None, 1) == pytest.approx(0.5, abs=0.08)
    assert share(second, 3) > share(second, 1) + 0.08


def test_samples_belong_to_their_streams(make):
    prior = make(classes=2)
    labels = torch.tensor([0, 1, 1])
    whole = last(prior.sample(GRID, labels, rng(3), guidance=2.0))
    for i in range(3):
        alone = last(prior.sample(GRID, labels[i : i + 1], Rng([rng(3).seeds[i]]), guidance=2.0))
        assert torch.equal(alone[0], whole[i])
    assert not torch.equal(whole, last(prior.sample(GRID, labels, rng(3, 1), guidance=2.0)))
    short = last(prior.sample((1, 2, 3), labels, rng(3)))
    assert short.shape == (3, 1, 2, 3)
    assert 0 <= int(short.min()) <= int(short.max()) < 5


def test_what_priors_refuse(make):
    prior = make(classes=2)
    good = tokens(3, *GRID)
    for clips, labels in (
        (good + 1, None), (good - 1, None), (good.float(), None), (good[0], None), (good[:, :, :1], None),
        (tokens(3, 3, 2, 3), None), (good[:0], None), (good, torch.tensor([0, 1])), (good, torch.tensor([0, 1, 2])),
        (good, torch.tensor([0.0, 1.0, 1.0])), (good, torch.tensor([-1, 0, 0])),
    ):  # fmt: skip
        with pytest.raises(BadInput):
            prior.loss(clips, labels, rng(3))
    for shape, labels, options in (
        ((3, 2, 3), None, {}), ((2, 2, 2), None, {}), ((0, 2, 3), None, {}), ((2, 3), None, {}),
        (GRID, None, {"guidance": 2.0}), (GRID, torch.zeros(3, dtype=torch.int64), {"guidance": math.nan}),
        (GRID, torch.zeros(2, dtype=torch.int64), {}), (GRID, torch.full((3,), 2), {}),
    ):  # fmt: skip
        with pytest.raises(BadInput):
            last(prior.sample(shape, labels, rng(3), **options))
    with pytest.raises(BadInput, match="vocabulary of 5; the tokenizer and the prior do not belong together"):
        prior.loss(good + 1000, None, rng(3))


@pytest.mark.parametrize("wrong", [
    lambda: causal(1), lambda: causal(grid=(2, 0, 2)), lambda: causal(classes=-1), lambda: masked(grid=(2, 2)),
    lambda: CausalTokens(4, GRID, width=10, heads=4), lambda: CausalTokens(4, GRID, heads=0),
    lambda: CausalTokens(4, GRID, width=8, heads=2, dropout=1.5),
    lambda: MaskedTokens(4, GRID, heads=0), lambda: Masked(masked().network, withheld=1.0),
    lambda: last(causal().sample(GRID, None, rng(2), start=tokens(3, 2))),
    lambda: last(causal().sample(GRID, None, rng(2), start=tokens(2, 13))),
    lambda: last(causal().sample(GRID, None, rng(2), start=tokens(2, 2).float())),
    lambda: last(causal().sample(GRID, None, rng(2), start=tokens(2, 2) + 5)),
    lambda: last(masked().sample(GRID, None, rng(2), steps=0)),
])  # fmt: skip
def test_what_cannot_be_built_or_drawn(wrong):
    with pytest.raises(BadInput):
        wrong()


def test_the_papers_sizes():
    """2.00 million in VideoGPT's stack and 20.2 million in MaskGit for 256 tokens (facts, sections 1.3 and 1.4)."""
    with torch.device("meta"):
        small, large = CausalTokens(1024, (4, 8, 8)), MaskedTokens(1024, (4, 8, 8))
    assert sum(p.numel() for p in small.blocks.parameters()) == pytest.approx(2.00e6, rel=0.01)
    assert sum(p.numel() for p in large.parameters()) == pytest.approx(20.16e6, rel=0.01)
