"""Continuous flows against autograd Jacobians, closed forms of linear fields, and statistics of the trace."""

import math

import pytest
import torch
from torch import nn

from framefill.arrays import Rng
from framefill.errors import BadInput, Stiff
from framefill.flows.cnf import CNF
from framefill.flows.flow import Apart, LogProb, normal_log_density
from framefill.flows.maps import Affine, Logit
from framefill.flows.ode import Solver
from framefill.flows.trace import Exact, Gaussian, Rademacher
from framefill.nets.fields import ConvField, DenseField

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
TIGHT = Solver(rtol=1e-9, atol=1e-9)
A = torch.tensor([[0.5, 1.0, 0.0], [-0.7, -0.2, 0.3], [0.0, 0.4, 0.9]], dtype=torch.float64)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def stirred(field, scale=0.15, seed=0):
    """The field with random weights, small enough that the flow does not stretch a hundredfold."""
    generator = torch.Generator().manual_seed(seed)
    for p in field.parameters():
        p.data = scale * torch.randn(p.shape, generator=generator)
    return field.double()


class Linear(nn.Module):
    """dv/dt = A v + (1 - 2 t) b: the matrix exponential, and at t = 1 the push of b with its own closed form."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(matrix.clone())

    def forward(self, t, v, cond):
        return v @ self.matrix.T


SHAPES = {
    "vector": (5,),
    "image": (2, 3, 2),
    "video": (1, 2, 3, 2),
}


def net(shape, cond=0):
    return (
        DenseField(shape[0], cond, hidden=(8,))
        if len(shape) == 1
        else ConvField(shape[0], cond, hidden=(4,), axes=len(shape) - 1)
    )


def flow_of(shape, *, blocks=2, cond=0, **settings):
    return CNF([stirred(net(shape, cond), seed=b) for b in range(blocks)], **settings).double()


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_inverse_to_1e_4_at_rtol_1e_5(shape):
    flow, x, cond = flow_of(shape, cond=3), noise(6, *shape), noise(6, 3, *shape[1:], seed=1)
    z, _ = flow.encode(x, cond)
    assert (z - x).abs().max() > 0.1
    torch.testing.assert_close(flow.decode(z, cond), x, rtol=0, atol=1e-4)
    assert (flow.decode(z, cond + 1) - x).abs().max() > 1e-2


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_log_det_is_that_of_the_autograd_jacobian(shape):
    """The Jacobian of `decode`, which carries no trace, is the inverse of that of `encode`."""
    flow = flow_of(shape, cond=1, solver=Solver(rtol=1e-7, atol=1e-7), before=Logit(-6.0, 6.0))
    x, cond = noise(2, *shape), noise(2, 1, *shape[1:], seed=1)
    with torch.no_grad():
        z, log_det = flow.encode(x, cond)
    jacobian = torch.autograd.functional.jacobian(lambda v: flow.decode(v, cond).sum(0), z).movedim(len(shape), 0)
    for i, block in enumerate(jacobian):
        expected = -torch.linalg.slogdet(block.reshape(z[0].numel(), -1)).logabsdet
        assert log_det[i].item() == pytest.approx(expected.item(), abs=1e-5)
    assert (log_det[0] - log_det[1]).abs() > 0.01


def test_linear_flow_to_1e_4_nats_per_dimension():
    """z = e^A x: x is Gaussian with covariance (e^A^T e^A)^-1."""
    x = noise(50, 3)
    nats, error = CNF([Linear(A)]).log_prob(x)
    push = torch.linalg.matrix_exp(A)
    expected = torch.distributions.MultivariateNormal(torch.zeros(3).double(), precision_matrix=push.T @ push).log_prob(
        x
    )
    assert (nats - expected).abs().max() / 3 < 1e-4
    assert (error == 0).all()


def test_gaussian_flow_to_1e_4_nats_per_dimension():
    """A time-dependent field whose flow is x -> (x - mean) / deviation."""
    mean, deviation = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.3, 4.0]).double()

    class Standardise(nn.Module):
        def forward(self, t, v, cond):
            # v(t) = m (1 - t) + (x - m) s^-t
            t = t[:, None]
            return -mean - (v - mean * (1 - t)) * deviation.log()

    x = mean + deviation * noise(50, 2)
    nats = CNF([Standardise()]).log_prob(x).nats
    expected = torch.distributions.Normal(mean, deviation).log_prob(x).sum(1)
    assert (nats - expected).abs().max() / 2 < 1e-4


@pytest.mark.parametrize("law", [Rademacher, Gaussian])
def test_hutchinson_is_within_two_standard_errors_in_93_of_100_trials(law):
    flow, x = flow_of((5,), blocks=1, solver=Solver(rtol=1e-6, atol=1e-6)), noise(1, 5).expand(200, 5)
    exact = flow.log_prob(x[:1]).nats
    flow.trace = law(40)
    nats, error = flow.log_prob(x, rng=Rng.batch(3, 200))
    assert ((nats - exact).abs() < 2 * error).sum() >= 186
    # the error bar is not just wide: it is the scatter of the estimates
    assert error.mean().item() == pytest.approx(nats.std().item(), rel=0.15)


def test_probe_laws_have_the_variances_of_theory():
    """For e^T A e: Rademacher 2 (|S|^2 - |diag S|^2), Gaussian 2 |S|^2, S the symmetric part (Avron, Toledo 2011)."""
    symmetric = (A + A.T) / 2
    off = symmetric.square().sum() - symmetric.diagonal().square().sum()
    x = torch.zeros(1, 3).double()
    for law, expected in ((Rademacher, 2 * off), (Gaussian, 2 * symmetric.square().sum())):
        end = CNF([Linear(A)], trace=law(4000)).follow(x, rng=Rng.batch(0, 1))
        assert (end.error**2 * 4000).item() == pytest.approx(expected.item(), rel=0.1)
        assert end.log_det.item() == pytest.approx(A.trace().item(), abs=4 * end.error.item())


def test_probes_of_blocks_add_in_quadrature_and_one_probe_has_no_error_bar():
    x, rng = torch.zeros(1, 3).double(), Rng.batch(0, 1)
    one = CNF([Linear(A)], trace=Rademacher(2000)).follow(x, rng=rng).error
    four = CNF([Linear(A)] * 4, trace=Rademacher(2000)).follow(x, rng=rng).error
    assert (four / one).item() == pytest.approx(2, rel=0.1)
    assert CNF([Linear(A)], trace=Rademacher(1)).log_prob(x, rng=rng).error.isnan().all()


@pytest.mark.parametrize("trace", [Exact(), Rademacher(2000), Gaussian(2000)])
def test_regularisers_of_a_linear_field(trace):
    """Kinetic energy: the integral of |A e^{At} x|^2 / 2D by a Lyapunov-like sum; Jacobian: |A|_F^2 / D."""
    x = noise(1, 3)
    end = CNF([Linear(A)], trace=trace, solver=TIGHT).follow(x, rng=Rng.batch(0, 1))
    times = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    speed = torch.stack([x @ (A @ torch.linalg.matrix_exp(A * t)).T for t in times])
    assert end.kinetic.item() == pytest.approx((speed.square().sum() / 2000 / 6).item(), rel=1e-5)
    assert end.jacobian.item() == pytest.approx((A.square().sum() / 3).item(), rel=1e-9 if trace == Exact() else 0.1)


def test_loss_is_bits_plus_a_hundredth_of_the_regularisers_in_nats():
    x, flow = noise(4, 3), CNF([Linear(A)])
    end = flow.follow(x)
    bits = flow.bits(x, width=1.0).nats
    published = bits + 0.01 * end.kinetic + 0.01 * end.jacobian
    torch.testing.assert_close(flow.loss(x), published * math.log(2))
    torch.testing.assert_close(flow.loss(x, kinetic=0, jacobian=0), bits * math.log(2))


@pytest.mark.parametrize("trace", [Exact(), Gaussian(2)])
def test_adjoint_trains_as_direct_gradients_do(trace):
    found = []
    for gradients in ("direct", "adjoint"):
        flow = flow_of((2, 4, 3), cond=1, trace=trace, solver=Solver(rtol=1e-8, atol=1e-8, gradients=gradients))
        cond = noise(2, 1, 4, 3, seed=1).requires_grad_()
        flow.loss(noise(2, 2, 4, 3), cond, Rng.batch(0, 2)).sum().backward()
        found.append([cond.grad, *(p.grad for p in flow.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("trace", [Exact(), Rademacher(1)])
def test_gradients_of_the_loss_are_finite_differences(trace):
    flow, x = flow_of((2, 3, 2), blocks=2, trace=trace, solver=Solver("rk4", step=0.25)), noise(2, 2, 3, 2)

    def loss():
        return flow.loss(x, rng=Rng.batch(0, 2)).sum()

    loss().backward()
    for p in flow.parameters():
        along = noise(*p.shape, seed=5)
        with torch.no_grad():
            p += 1e-5 * along
            up = loss()
            p -= 2e-5 * along
            down = loss()
            p += 1e-5 * along
        assert (p.grad * along).sum().item() == pytest.approx(((up - down) / 2e-5).item(), rel=1e-4, abs=1e-7)


def test_a_result_does_not_depend_on_the_batch():
    """Together within the solver's rtol 1e-5 (stated: 1e-4 nats), apart to the bit."""
    flow = flow_of((2, 4, 3), trace=Rademacher(3))
    x = noise(8, 2, 4, 3) * torch.linspace(0.1, 4, 8).double()[:, None, None, None]
    batch, single = flow.follow(x, rng=Rng.batch(0, 8)), flow.follow(x[2:3], rng=Rng.batch(0, 8).pick([2]))
    torch.testing.assert_close(batch.z[2:3], single.z, rtol=0, atol=1e-5)
    torch.testing.assert_close(batch.log_det[2:3], single.log_det, rtol=0, atol=1e-4)
    apart = Apart(flow)
    ends = apart.follow(x, rng=Rng.batch(0, 8)), apart.follow(x[2:3], rng=Rng.batch(0, 8).pick([2]))
    for all_of, one in zip(ends[0][:5], ends[1][:5], strict=True):
        assert torch.equal(all_of[2:3], one)
    assert torch.equal(apart.decode(ends[0].z)[2:3], apart.decode(ends[0].z[2:3]))
    assert ends[0].evaluations >= ends[1].evaluations == single.evaluations


def test_conditions_meet_their_own_samples_apart():
    flow, x, cond = flow_of((3,), cond=2), noise(3, 3), noise(3, 2, seed=1)
    torch.testing.assert_close(Apart(flow).encode(x, cond), flow.encode(x, cond), rtol=0, atol=1e-4)


def test_temperature_scales_the_noise():
    flow = CNF([Linear(A)]).double()
    warm, cool = (flow.sample((3,), Rng.batch(0, 5), temperature=T) for T in (1.0, 0.5))
    torch.testing.assert_close(cool, warm / 2, rtol=1e-4, atol=1e-4)
    push = torch.linalg.matrix_exp(-A)
    torch.testing.assert_close(warm, Rng.batch(0, 5).normal((3,)).double() @ push.T, rtol=1e-4, atol=1e-4)


def test_bits_of_dequantised_values_bound_their_entropy():
    """16 equally likely levels under a standard normal: the exact integral of the density's log over each bin."""
    levels = torch.arange(-8, 8, dtype=torch.float64) * 0.25 + 0.125
    fine = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000 - 0.5
    x = (levels[:, None] + 0.25 * fine).reshape(-1, 1)
    got = CNF([Linear(torch.zeros(1, 1).double())]).bits(x, width=0.25)
    expected = (math.log(2 * math.pi) + (2.0**2 / 3)) / 2 / math.log(2) + 2
    assert isinstance(got, LogProb)
    assert got.nats.mean().item() == pytest.approx(expected, abs=1e-4)
    assert got.nats.mean() > 4


def test_matching_loss_is_zero_for_a_straight_field_and_splits_over_blocks():
    """Point data at m: the velocity to z at u is (v - m) / u, which no other field matches."""

    class Straight(nn.Module):
        def __init__(self, first, n):
            super().__init__()
            self.first, self.n = first, n

        def forward(self, t, v, cond):
            return (v - 2.0) / ((self.first + t) / self.n)[:, None] / self.n

    x = torch.full((64, 3), 2.0, dtype=torch.float64)
    for n in (1, 3):
        flow = CNF([Straight(b, n) for b in range(n)])
        assert flow.matching(x, rng=Rng.batch(0, 64)).max() < 1e-6
    swapped = CNF([Straight(b, 3) for b in (2, 1, 0)])
    assert swapped.matching(x, rng=Rng.batch(0, 64)).mean() > 0.1
    with pytest.raises(BadInput, match="pass rng"):
        flow.matching(x)


def test_stiff_blocks_are_named():
    class Explosive(nn.Module):
        def forward(self, t, v, cond):
            return 4 * v.square() * (v > 2)

    x = torch.tensor([[0.5], [0.1], [9.0]], dtype=torch.float64)
    with pytest.raises(Stiff, match=r"the ODE of block 2 of 2 stopped at t = 0\.0\d+ in sample 2"):
        CNF([Linear(torch.zeros(1, 1).double()), Explosive()]).log_prob(x)
    with pytest.raises(
        Stiff, match="of block 1 of 1, backwards, stopped at t = 1 in sample 0: the field is not finite"
    ):
        CNF([Linear(torch.full((1, 1), torch.nan).double())]).decode(x)


@pytest.mark.parametrize(
    ("act", "told"),
    [
        (lambda: CNF([]), "at least one field"),
        (lambda: CNF([Linear(A)]).encode(noise(2, 3), noise(3, 1)), "2 samples with 3 conditions"),
        (lambda: CNF([Linear(A)]).decode(noise(0, 3)), "0 samples"),
        (lambda: CNF([Linear(A)], trace=Rademacher(2)).encode(noise(2, 3)), "got none; pass rng"),
        (lambda: CNF([Linear(A)], trace=Gaussian(2)).encode(noise(2, 3), rng=Rng.batch(0, 1)), "2 samples .* got 1"),
        (lambda: Rademacher(0), "at least 1 probe"),
        (lambda: CNF([Linear(A)]).sample((3,), Rng.batch(0, 1), temperature=-1), "temperature"),
        (lambda: DenseField(2, 3)(torch.zeros(1), torch.zeros(1, 2)), "condition of 3 channels, got 0"),
        (lambda: ConvField(2, axes=4), "1, 2 or 3 axes"),
    ],
)
def test_bad_input(act, told):
    with pytest.raises(BadInput, match=told):
        act()


def clusters(n, seed):
    """Four round Gaussians of deviation 0.3 at (+-2, +-2): an entropy of log 4 + log(2 pi e 0.09) = 1.82 nats."""
    generator = torch.Generator().manual_seed(seed)
    corner = 4 * torch.randint(2, (n, 2), generator=generator) - 2
    return corner + 0.3 * torch.randn(n, 2, generator=generator)


def train(flow, data, steps, loss):
    optimizer = torch.optim.Adam(flow.parameters(), lr=1e-2)
    for step in range(steps):
        x = data[torch.randint(len(data), (256,))]
        optimizer.zero_grad()
        loss(x, Rng.batch(step, 256)).mean().backward()
        optimizer.step()


@pytest.mark.slow
def test_a_short_training_beats_a_gaussian_by_a_nat_and_likelihood_polishes_flow_matching():
    torch.manual_seed(0)
    data, test = clusters(2000, 0), clusters(500, 1)
    flow = CNF([DenseField(2)], before=Affine(data.mean(0), data.std(0)), solver=Solver("rk4", step=0.25))
    fit = torch.distributions.MultivariateNormal(data.mean(0), torch.cov(data.T))

    def nats():
        flow.solver, before = Solver(rtol=1e-4, atol=1e-4), flow.solver
        with torch.no_grad():
            value = -flow.log_prob(test).nats.mean().item()
        flow.solver = before
        return value

    train(flow, data, 300, lambda x, rng: flow.matching(x, rng=rng))
    matched = nats()
    train(flow, data, 30, lambda x, rng: flow.loss(x))
    polished = nats()
    assert matched < -fit.log_prob(test).mean().item() - 0.8
    assert 1.7 < polished < min(matched - 0.1, -fit.log_prob(test).mean().item() - 1)


def test_normal_log_density():
    x = noise(4, 2, 3)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(x).sum((1, 2))
    torch.testing.assert_close(normal_log_density(x), expected)
