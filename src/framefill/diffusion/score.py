"""The score, grad log p_t, and the estimates x_hat and n_hat: one fact in three forms.

For x_t = alpha x + sigma n with n of covariance Sigma, grad log p_t(x_t) = -Sigma^-1 n_hat / sigma, and the expected
denoised sample is x_hat = (x_t + sigma^2 Sigma grad log p_t) / alpha.
"""

from collections.abc import Callable

from torch import Tensor

from framefill.arrays import expand
from framefill.diffusion.denoiser import Model
from framefill.diffusion.noise import Noise
from framefill.diffusion.schedule import Schedule

Score = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x_t (B, ...), t (B,), condition) to grad log p_t at x_t."""


def score(model: Model, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
    """grad log p_t at x_t (B, ...) for times t (B,): -Sigma^-1 (x_t - alpha x_hat) / sigma^2 (thesis 001, 6.2.4)."""
    alpha, sigma = (expand(v, x_t).to(x_t.dtype) for v in model.schedule(t))
    n_hat = (x_t - alpha * model(x_t, t, cond)) / sigma
    # The root is symmetric, so whitening twice is Sigma^-1.
    return -model.noise.whiten(model.noise.whiten(n_hat)) / sigma


def expected_denoised(score: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, noise: Noise) -> Tensor:
    """E[x | x_t] from the score at x_t; alpha and sigma broadcast to x_t.

    Paper: eqs. 2.4.41 to 2.4.43 and 6.2.30 to 6.2.32 leave out the division by alpha; on standard normal data that
    gives 0.39 where the mean is 0.72. For SMLD (alpha = 1) the printed form is right.
    """
    return (x_t + sigma**2 * noise.color(noise.color(score))) / alpha


class ScoreModel:
    """A model, for every sampler, from a function that gives the score."""

    def __init__(self, score: Score, schedule: Schedule, noise: Noise):
        self.score = score
        self.schedule = schedule
        self.noise = noise

    def __call__(self, x_t: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """The expected denoised sample."""
        alpha, sigma = (expand(v, x_t).to(x_t.dtype) for v in self.schedule(t))
        return expected_denoised(self.score(x_t, t, cond), x_t, alpha, sigma, self.noise)
