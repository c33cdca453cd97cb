"""Batch normalisation whose running statistics are parameters without gradient.

So they are averaged, saved and resumed with the weights like any others, which buffers are not in this house (compare
the moments of latents/autoencoder.py). Names and arithmetic are torch's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class BatchNorm(nn.Module):
    """x (B, C, ...) less its mean over its standard deviation, per channel; those of the batch in training.

    With `affine`, a learned scale and shift follow. In evaluation the running statistics serve.
    """

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1, affine: bool = True):
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight = nn.Parameter(torch.ones(channels)) if affine else None
        self.bias = nn.Parameter(torch.zeros(channels)) if affine else None
        self.running_mean = nn.Parameter(torch.zeros(channels), requires_grad=False)
        self.running_var = nn.Parameter(torch.ones(channels), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) to the same shape."""
        # one value per channel has no variance: a batch of one coarse map is taken by what was seen before
        follow = self.training and x.numel() > x.shape[1]
        return F.batch_norm(
            x, self.running_mean.data, self.running_var.data, self.weight, self.bias, follow, self.momentum, self.eps
        )


def adopt(network: nn.Module) -> nn.Module:
    """The network with every nn.BatchNorm2d in it replaced by a `BatchNorm` of the same numbers and names."""
    for name, child in network.named_children():
        if isinstance(child, nn.BatchNorm2d):
            norm = BatchNorm(child.num_features, eps=child.eps, momentum=child.momentum or 0.1, affine=child.affine)
            norm.load_state_dict({k: v for k, v in child.state_dict().items() if k != "num_batches_tracked"})
            norm.train(child.training)
            setattr(network, name, norm)
        else:
            adopt(child)
    return network
