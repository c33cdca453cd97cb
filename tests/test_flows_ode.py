"""The Neural ODE layer against matrix exponentials, and how it stops."""

import math
import sys

import pytest
import torch
from torch import nn

from framefill.errors import BadInput, NotInstalled, Stiff
from framefill.flows import ode
from framefill.flows.ode import ADAPTIVE, FIXED, NeuralODE, Solver, Status

pytest.importorskip("torchdiffeq", reason="pip install 'framefill[flows]'")
A = torch.tensor([[-0.3, 1.1, 0.0], [-0.9, 0.1, 0.4], [0.2, 0.0, -0.5]], dtype=torch.float64)


def linear(t, y):
    return y @ A.T


def start(n=4, seed=0):
    return torch.randn(n, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def exact(y, t):
    return y @ torch.linalg.matrix_exp(A * t).T


@pytest.mark.parametrize("method", ADAPTIVE)
def test_every_adaptive_method_reaches_its_tolerance(method):
    solution = Solver(method, rtol=1e-6, atol=1e-6, most_steps=10**6).solve(linear, start(), [0.0, 0.7, 2.0])
    allowed = 1e-3 if method == "fehlberg2" else 3e-5
    for k, t in enumerate((0.0, 0.7, 2.0)):
        torch.testing.assert_close(solution.path[k], exact(start(), t), rtol=0, atol=allowed)
    assert solution.status.done


@pytest.mark.parametrize("method", FIXED)
def test_every_fixed_method_converges(method):
    error = [
        (Solver(method, step=step).solve(linear, start(), [0.0, 1.0]).path[-1] - exact(start(), 1.0)).abs().max().item()
        for step in (0.05, 0.025)
    ]
    assert error[1] < 0.6 * error[0]
    assert error[1] < 0.03


def test_backwards_is_the_inverse_and_nothing_is_called_outside_the_span():
    called = []

    def field(t, y):
        called.append(float(t))
        return linear(t, y)

    solver = Solver(rtol=1e-9, atol=1e-9)
    there = solver.solve(field, start(), [0.0, 1.0]).path[-1]
    back = solver.solve(field, there, [1.0, 0.0]).path[-1]
    torch.testing.assert_close(back, start(), rtol=0, atol=1e-7)
    assert min(called) >= 0
    assert max(called) <= 1 + 1e-12


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3).double()

    def forward(self, t, y, cond):
        return torch.tanh(self.layer(torch.cat([y, t.to(y.dtype)[:, None]], 1))) + (0 if cond is None else cond)


def gradients(solver):
    net, y, cond = Net(), start().requires_grad_(), (0.1 * start(seed=1)).requires_grad_()
    layer = NeuralODE(net, solver)
    layer(y, [0.0, 0.5, 1.0], cond)[1:].square().sum().backward()
    return [y.grad, cond.grad, *(p.grad for p in net.parameters())], layer.counts


def test_adjoint_gradients_equal_direct_ones_for_state_condition_and_weights():
    direct, counts = gradients(Solver(rtol=1e-9, atol=1e-9))
    assert counts.forward > 20
    assert counts.backward == 0
    adjoint, counts = gradients(Solver(rtol=1e-9, atol=1e-9, gradients="adjoint"))
    assert counts.backward > 20
    for a, b in zip(adjoint, direct, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_adjoint_keeps_no_graph():
    def saved(solver):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.numel()) or x, lambda x: x):
            NeuralODE(Net(), solver)(start(), [0.0, 1.0])
        return sum(sizes)

    tight = {"rtol": 1e-10, "atol": 1e-10}
    assert saved(Solver(**tight, gradients="adjoint")) < 60 < 1000 < saved(Solver(**tight))


TIGHT = {"rtol": 1e-9, "atol": 1e-9}


def test_automatic_gradients_are_the_direct_ones_to_the_bit_where_memory_suffices():
    solver = Solver(**TIGHT, gradients="auto")
    direct, counts = gradients(Solver(**TIGHT))
    found, chosen = gradients(solver)
    assert all(torch.equal(a, b) for a, b in zip(found, direct, strict=True))
    assert chosen == counts
    assert (solver.taken, solver.adjoints) == ({"direct": 1}, {"adjoint_solves": 0.0})
    with torch.no_grad():
        NeuralODE(Net(), solver)(start(), [0.0, 1.0])  # nothing to choose
    assert solver.taken == {"direct": 1}


def test_automatic_gradients_are_the_adjoint_where_the_graph_would_outgrow_its_share(monkeypatch):
    solver = Solver(**TIGHT, gradients="auto")
    direct, counts = gradients(solver)
    (bytes_each,) = solver._kept.values()
    enough = bytes_each * counts.forward / ode.SHARE
    for free, way in ((enough + 2 * bytes_each, "direct"), (enough - 4 * bytes_each, "adjoint"), (0, "adjoint")):
        monkeypatch.setattr(ode, "free_memory", lambda device, free=free: int(free))
        solver.taken.clear()
        found, chosen = gradients(solver)
        assert solver.taken == {way: 1}
        assert (chosen.backward > 0) == (way == "adjoint")
        for a, b in zip(found, direct, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert chosen.forward == counts.forward  # nothing was begun where there is no memory at all


def test_what_an_evaluation_keeps_is_near_what_a_whole_solve_keeps():
    """Bytes of distinct storages, without the weights, of a solve by Runge-Kutta in 40 evaluations."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 256), nn.Tanh(), nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 64))
    y, solver, kept = torch.randn(32, 64), Solver("rk4", step=0.1, gradients="auto"), {}
    mine = {p.untyped_storage().data_ptr() for p in net.parameters()}

    def note(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage()
        return x.detach()

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        Solver("rk4", step=0.1).solve(lambda t, v: net(v), y, [0.0, 1.0], parameters=[*net.parameters()])
    whole = sum(s.nbytes() for place, s in kept.items() if place not in mine)
    solver.solve(lambda t, v: net(v), y, [0.0, 1.0], parameters=[*net.parameters()])
    (each,) = solver._kept.values()
    assert whole <= 40 * each <= 2 * whole


def test_free_memory_is_some_and_no_more_than_a_container_may_take(monkeypatch, tmp_path):
    from framefill import device

    here = device.free_memory(torch.device("cpu"))
    assert here > 1 << 20
    monkeypatch.setattr(device, "Path", lambda *parts: tmp_path.joinpath("-".join(parts).replace("/", "_")))
    assert device.free_memory(torch.device("cpu")) == 1 << 62  # where nobody says
    (tmp_path / "_proc_meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    4000000 kB\n")
    (tmp_path / "_proc_self_statm").write_text("9 1 2")
    assert device.free_memory(torch.device("cpu")) == 4_000_000 * 1024
    (tmp_path / "_sys_fs_cgroup-memory.max").write_text("1000000000\n")
    assert device.free_memory(torch.device("cpu")) == 1_000_000_000 - device.os.sysconf("SC_PAGE_SIZE")


def test_evaluations_are_counted():
    calls = []
    solution = Solver("rk4", step=0.1).solve(lambda t, y: calls.append(1) or -y, start(), [0.0, 1.0])
    assert solution.counts.forward == len(calls) == 40
    assert solution.counts.steps == 10


def blow_up(rate):
    """dy/dt = y^2 rate: sample i leaves for infinity at t = 1 / (y_i rate_i)."""
    return lambda t, y: rate[:, None] * y.square()


def test_a_singularity_is_a_status_with_sample_time_and_last_state():
    rate = torch.tensor([0.1, 0.1, 2.0, 0.1], dtype=torch.float64)
    solution = Solver().solve(blow_up(rate), torch.ones(4, 1, dtype=torch.float64), [0.0, 1.0])
    assert solution.status.sample == 2
    assert solution.status.t == pytest.approx(0.5, abs=1e-3)
    assert solution.path.shape[0] == 2
    assert solution.path[-1].isfinite().all()
    assert solution.path[-1, 0].item() == pytest.approx(1 / (1 - 0.05), abs=1e-3)
    with pytest.raises(Stiff, match=r"the ODE of the test stopped at t = 0\.\d+ in sample 2: .*; raise rtol") as told:
        solution.checked("of the test")
    assert "\n" not in str(told.value)


def test_a_field_that_is_not_finite_names_its_sample():
    def field(t, y):
        hole = torch.tensor([1.0, 1.0, 1.0, torch.nan if t > 0.3 else 1.0], dtype=torch.float64)
        return -y * hole[:, None]

    status = Solver().solve(field, start(), [0.0, 1.0]).status
    assert (status.reason, status.sample) == ("the field is not finite", 3)
    assert 0.2 < status.t <= 0.3


def test_a_start_or_a_fixed_step_that_is_not_finite():
    bad = start()
    bad[1, 0] = torch.inf
    assert Solver().solve(linear, bad, [0.0, 1.0]).status == Status("the state is not finite", 0.0, 1)
    fast = Solver("euler", step=0.05).solve(lambda t, y: 1e80 * y, start(), [0.0, 1.0])
    assert fast.status.reason == "the state is not finite"
    assert fast.path.isfinite().all()
    last = Solver("euler", step=1.0).solve(lambda t, y: y * torch.inf, start(), [0.0, 1.0])
    assert (last.status.reason, last.status.sample) == ("the state is not finite", 0)


def test_stiff_dynamics_stop_after_the_steps_allowed():
    rate = torch.tensor([1.0, 1.0, 1e6, 1.0], dtype=torch.float64)
    solution = Solver(most_steps=50).solve(lambda t, y: -rate[:, None] * (y - t.cos()), start(), [0.0, 1.0])
    assert "50 steps" in solution.status.reason
    assert solution.status.sample == 2
    assert str(solution.status).startswith("stopped at t = 0.0")
    assert str(Status()) == "done"


def test_a_step_that_ends_a_hair_before_a_time_asked_for_is_no_stop():
    # 6 * 0.1 is not 0.6: what is left is the least step there is, and the kink lets the next one grow by little
    def kinked(t, y):
        return torch.full_like(y, 1e10 if t > 0.6 else 0.0)

    solution = Solver(first=0.6).solve(kinked, start(), [0.0, 6 * 0.1, 1.0])
    assert solution.status.done
    assert solution.path[-1] == pytest.approx(torch.full_like(start(), 4e9), rel=1e-6)


def test_the_adjoint_says_why_it_stops():
    class Sudden(nn.Module):
        back = False
        weight = nn.Parameter(torch.ones(()))

        def forward(self, t, y, cond):
            return self.weight * y * (torch.nan if self.back and t[0] < 0.5 else 1.0)

    field = Sudden()
    out = NeuralODE(field, Solver(gradients="adjoint"))(start().requires_grad_(), [0.0, 1.0])
    field.back = True
    with pytest.raises(Stiff, match=r"the ODE of the adjoint stopped at t = -?0\.[56]\d* in sample 0"):
        out.sum().backward()


@pytest.mark.parametrize("times", [[0.0, 1.0], [1.0, 0.0]])
def test_one_step_is_tried_first_and_taken_only_where_it_keeps_the_tolerance(times):
    y = start()
    for rate, tried in ((1e-3, (8, 7)), (1.0, None), (30.0, None)):

        def field(t, y, rate=rate):
            return rate * linear(t, y)

        guess, whole = (Solver(first=first).solve(field, y, times) for first in (None, 1.0))
        truth = y @ torch.linalg.matrix_exp(A * rate * (times[1] - times[0])).T
        if rate * (times[1] - times[0]) > -2:  # backwards the fast one grows beyond measure
            scale = 1 + truth.abs().max().item()
            torch.testing.assert_close(whole.path[-1], truth, rtol=0, atol=1e-4 * scale)
        assert whole.status.done
        if tried:
            assert guess.counts.forward > tried[0]
            assert whole.counts.forward == tried[1]


def test_only_counted_elements_choose_the_step():
    def field(t, y):
        return torch.cat([-y[:, :1], 300 * torch.cos(300 * t) * torch.ones_like(y[:, 1:])], 1)

    y = torch.ones(2, 2, dtype=torch.float64)
    calm, careful = (Solver().solve(field, y, [0.0, 1.0], counted=n) for n in (1, None))
    assert calm.counts.forward < 40 < careful.counts.forward
    assert calm.path[-1, 0, 0].item() == pytest.approx(math.exp(-1), abs=1e-5)


def test_a_hard_sample_is_not_averaged_away_and_a_batch_changes_little():
    """The rtol of 1e-5 bounds what neighbours may change; the mean over a batch of 200 would let 14 times more pass."""
    rate = torch.ones(200, dtype=torch.float64)
    rate[7] = 30.0

    def field(rate):
        return lambda t, y: torch.stack([y[:, 1], -rate.square() * y[:, 0]], 1)

    y = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(200, 2)
    together = Solver().solve(field(rate), y, [0.0, 1.0]).path[-1]
    alone = Solver().solve(field(rate[7:8]), y[7:8], [0.0, 1.0]).path[-1]
    torch.testing.assert_close(together[7:8], alone, rtol=0, atol=1e-5)
    assert together[7, 0].item() == pytest.approx(math.cos(30), abs=2e-3)
    easy = Solver().solve(field(rate[:1]), y[:1], [0.0, 1.0]).path[-1]
    torch.testing.assert_close(together[:1], easy, rtol=0, atol=1e-5)


def test_tighter_tolerances_move_the_answer_by_the_solver_error():
    layer = NeuralODE(Net(), Solver(rtol=1e-4, atol=1e-4))
    loose, tight = layer(start(), [0.0, 1.0])[-1], layer.tight(1e-3)(start(), [0.0, 1.0])[-1]
    assert 1e-9 < (loose - tight).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"method": "magic"}, "no ODE method 'magic'; there are dopri5"),
        ({"rtol": 0.0}, "must be positive"),
        ({"gradients": "none"}, "'direct', 'adjoint' or 'auto'"),
        ({"first": 0.0}, "first step tried must be positive"),
    ],
)
def test_bad_settings(fields, told):
    with pytest.raises(BadInput, match=told):
        Solver(**fields)


@pytest.mark.parametrize("times", [[0.0], [0.0, 1.0, 0.5], [0.0, 0.0], [0.0, math.nan]])
def test_bad_times(times):
    with pytest.raises(BadInput, match="all rise or all fall"):
        Solver().solve(linear, start(), times)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    ode._torchdiffeq.cache_clear()
    with pytest.raises(NotInstalled, match=r"pip install 'framefill\[flows\]'"):
        Solver().solve(linear, start(), [0.0, 1.0])
    ode._torchdiffeq.cache_clear()
