"""The core without video: coloured noise, any schedule, target, sampler and guidance, on a toy in one dimension."""

import torch

from framefill.arrays import Rng
from framefill.diffusion.denoiser import Denoiser
from framefill.diffusion.guide import ClassifierFree
from framefill.diffusion.noise import GaussianFreeField
from framefill.diffusion.sample import DDPM, DPMSolver, Heun
from framefill.diffusion.schedule import cosine, uniform_times
from framefill.diffusion.target import V
from framefill.diffusion.weight import velocity
from framefill.nets.unet import UNet

torch.manual_seed(0)
network = UNet(1, 1, width=16, multipliers=(1, 2), blocks=1, attention=(False, True), head_width=16, dropout=0.0)
model = Denoiser(network, cosine(-12, 12), V(), noise=GaussianFreeField(0.5))
adam = torch.optim.Adam(model.parameters(), 2e-3)

# Signals: a bright column whose place is given by the condition.
for step in range(120):
    rng = Rng.batch(0, 16, step)
    place = rng.integers(16)
    x = torch.nn.functional.one_hot(place, 16).float()[:, None, None, :].expand(-1, 1, 16, 16) * 2 - 1
    cond = x[:, :, :1].expand_as(x) * (rng.uniform() > 0.2)[:, None, None, None]  # sometimes withheld: for guidance
    loss = model.loss(x, uniform_times(rng), cond, velocity, rng).mean()
    adam.zero_grad()
    loss.backward()
    adam.step()
print(f"loss after {step + 1} steps: {loss.item():.3f}")

wanted = -torch.ones(4, 1, 16, 16)
wanted[:, :, :, 5] = 1
guided = ClassifierFree(model.eval(), scale=2.0)
for sampler in (DPMSolver(10), DDPM(50, variance=1.0), Heun(8)):
    made = sampler(guided, wanted, wanted, Rng.batch(1, 4))
    hits = (made.mean(dim=2).argmax(dim=-1) == 5).float().mean()
    print(
        f"{type(sampler).__name__:10s} {sampler.calls:3d} calls: the bright column is where it was asked in {hits:.0%}"
    )
