"""The quantiser: against brute force and the library, its two gradients, the upkeep of its codes."""

import importlib.util
import math

import pytest
import torch

from framefill.errors import BadInput
from framefill.latents import quantiser
from framefill.latents.quantiser import Quantiser, nearest, perplexity

LIBRARY = importlib.util.find_spec("vector_quantize_pytorch")


def filled(codes: int = 16, width: int = 4, **options) -> Quantiser:
    """A quantiser whose codes are all alive and somewhere."""
    torch.manual_seed(0)
    made = Quantiser(codes, width, **options)
    with torch.no_grad():
        made.codebook.normal_()
        made.idle.zero_()
    return made


def latents(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_the_nearest_code_is_the_nearest_one_however_it_is_cut(monkeypatch):
    vectors, codes = latents(70, 5).detach(), latents(33, 5).detach().flip(0) * 2
    brute = (vectors[:, None].double() - codes[None].double()).square().sum(2).argmin(1)
    assert torch.equal(nearest(vectors, codes), brute)
    monkeypatch.setattr(quantiser, "CHUNK", 40)  # one row at a time
    assert torch.equal(nearest(vectors, codes), brute)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(nearest(vectors, codes), brute)


def test_codes_and_indices_are_each_others_names():
    book = filled()
    indices = torch.arange(16).view(1, 2, 8)
    codes = book.codes(indices)
    assert torch.equal(codes[0, :, 1, 3], book.codebook[11])
    assert torch.equal(book.indices(codes), indices)
    found = book.eval()(codes)
    torch.testing.assert_close(found.codes, codes)
    assert torch.equal(found.indices, indices)
    assert float(found.penalty.detach().max()) == 0


def test_the_gradient_passes_straight_through():
    book, z, push = filled().eval(), latents(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    (book(z).codes * push).sum().backward()
    assert torch.equal(z.grad, push)
    assert book.codebook.grad is None


def test_the_weight_of_commitment_is_on_the_latents():
    """The gradients of |z - q|^2 with respect to z and to q are opposite; beta scales the first alone."""
    for beta in (0.25, 1.0, 4.0):
        book, z = filled(commitment=beta).eval(), latents(1, 4, 3, 5)
        found = book(z)
        found.penalty.sum().backward()
        apart = (z - book.codes(found.indices)).detach() * 2 / z.numel()
        torch.testing.assert_close(z.grad, beta * apart)
        to_codes = torch.zeros_like(book.codebook)
        to_codes.index_add_(0, found.indices.flatten(), -apart.movedim(1, -1).flatten(0, 2))
        torch.testing.assert_close(book.codebook.grad, to_codes)
        assert float(found.penalty.detach()) == pytest.approx(
            (1 + beta) * float((z - found.codes).detach().square().mean()), rel=1e-5
        )


@pytest.mark.skipif(LIBRARY is None, reason="vector-quantize-pytorch is not installed")
def test_the_library_says_the_same():
    from vector_quantize_pytorch import VectorQuantize

    # Their learned codebook weighs both terms alike and counts the sum once; their averaged one has the second alone.
    for beta, learned in ((1.0, True), (0.25, False)):
        book, z = filled(commitment=beta).eval(), latents(2, 4, 6, 5)
        theirs = VectorQuantize(dim=4, codebook_size=16, accept_image_fmap=True, commitment_weight=beta,
                                learnable_codebook=learned, ema_update=not learned, rotation_trick=False)  # fmt: skip
        theirs.train()._codebook.embed.data.copy_(book.codebook.detach()[None])
        y = z.detach().clone().requires_grad_()
        codes, indices, penalty = theirs(y)
        found = book(z)
        assert torch.equal(indices, found.indices)
        torch.testing.assert_close(codes, found.codes)
        (codes.sum() + penalty).backward()
        (found.codes.sum() + found.penalty.mean()).backward()
        torch.testing.assert_close(z.grad, y.grad)
        if learned:
            torch.testing.assert_close(book.codebook.grad, theirs._codebook.embed.grad[0])


def test_perplexity_counts_the_codes_in_even_use():
    assert float(perplexity(torch.full((64,), 3))) == pytest.approx(64)
    assert float(perplexity(torch.tensor([0, 9, 0]))) == pytest.approx(1)
    assert float(perplexity(torch.tensor([1, 1, 0, 2]))) == pytest.approx(2**1.5)
    assert float(perplexity(torch.zeros(5))) == pytest.approx(1)
    book = filled()
    book.train()(book.codes(torch.arange(16).repeat(2).view(1, 4, 8)).detach())
    assert book.notes() == {"perplexity": pytest.approx(16), "codes_in_use": 1.0, "codes_revived": 0}


def test_a_new_codebook_is_filled_with_vectors_that_occur():
    book, z = Quantiser(8, 4), latents(1, 4, 4, 4).detach()
    book.train()(z)
    rows = z.movedim(1, -1).flatten(0, 2)
    gaps = (book.codebook[:, None] - rows[None]).abs().amax(2).amin(1)
    assert float(gaps.detach().max()) == 0
    assert len(book.codebook.unique(dim=0)) == 8
    assert book.notes()["codes_in_use"] == 1


def test_few_vectors_revive_few_codes_the_longest_idle_first():
    book = filled(patience=5)
    with torch.no_grad():
        book.idle.copy_(torch.arange(16))
    before = book.codebook.detach().clone()
    z = latents(1, 4, 1, 3).detach() + 50
    book.train()(z)
    moved = (book.codebook != before).any(1)
    assert moved.nonzero().flatten().tolist() == [13, 14, 15]
    assert sorted(book.idle[13:].tolist()) == [0, 0, 0]
    assert book.idle[:13].tolist() == list(range(1, 14))


def test_only_codes_that_are_dead_are_moved_and_only_in_training():
    book = filled(codes=3, width=1, patience=4)
    with torch.no_grad():
        book.codebook.copy_(torch.tensor([[0.0], [1.0], [99.0]]))
    z = torch.tensor([0.1, 0.9]).view(1, 1, 1, 2)
    for step in range(5):
        book.train()(z)
        assert float(book.codebook[2].detach()) == 99
        assert book.idle.tolist() == [0, 0, step + 1]
    book.eval()(z)
    assert float(book.codebook[2].detach()) == 99
    book.train()(z)  # five steps unused: more than four
    assert min(abs(float(book.codebook[2].detach()) - v) for v in (0.1, 0.9)) < 1e-6
    assert book.codebook[:2].flatten().tolist() == [0, 1]


def test_no_code_is_moved_without_patience_or_onto_what_is_not_a_number():
    for book, z in ((Quantiser(4, 2, patience=0), torch.ones(1, 2, 2, 2)),
                    (Quantiser(4, 2), torch.full((1, 2, 2, 2), math.nan))):  # fmt: skip
        before = book.codebook.detach().clone()
        book.train()(z)
        assert torch.equal(book.codebook, before)


def test_idleness_fits_into_sixteen_bits():
    book = Quantiser(4, 2, patience=0)
    for _ in range(3):
        book.train()(torch.zeros(1, 2, 1, 1))
    assert book.idle.half().isfinite().all()
    assert float(book.idle.max()) == quantiser.UNBORN


@pytest.mark.parametrize("words", [
    lambda: Quantiser(1, 4), lambda: Quantiser(8, 0), lambda: Quantiser(8, 4, commitment=-1.0),
    lambda: Quantiser(8, 4, patience=-1), lambda: Quantiser(8, 4, patience=10**6),
    lambda: filled()(torch.zeros(1, 3, 2, 2)), lambda: filled()(torch.zeros(4, 2, 2)),
    lambda: filled().codes(torch.tensor([[[16]]])), lambda: filled().codes(torch.tensor([[[-1]]])),
    lambda: filled().codes(torch.tensor([[[0.5]]])),
])  # fmt: skip
def test_what_a_quantiser_refuses(words):
    with pytest.raises(BadInput):
        words()


def test_sixteen_bit_latents_are_told_apart_in_thirty_two():
    book, z = filled().eval(), latents(1, 4, 3, 5).bfloat16()
    found = book(z)
    torch.testing.assert_close(found.penalty, book(z.float()).penalty)
    assert found.codes.dtype == torch.float32
