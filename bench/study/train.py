"""Training, after section 3 of the paper: RMSProp with momentum, a decaying rate, light augmentation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .digits import Digits
from .networks import EPSILON, SIDE, Init, Network, State


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long to train, and how.

    Attributes:
        epochs: passes over the training images.
        every: epochs between two checkpoints; there is one before the first epoch and one after the last.
        rate, decay: learning rate of the first epoch, and its factor from one epoch to the next.
        batch: images a step.
    """

    epochs: int
    every: int
    rate: float = 0.045
    decay: float = 0.93
    batch: int = 64


class TorchOps:
    """Runs a network on tensors; parameters come into being when they are first used.

    Attributes:
        training: whether BatchNormalization uses and records the statistics of the batch, and dropout drops.
        parameters: trained values by name.
        buffers: all other values by name: running statistics, and gammas that are not trained.
    """

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network
        self.training = False
        self.random = torch.Generator().manual_seed(seed)
        self.parameters: dict[str, Tensor] = {}
        self.buffers: dict[str, Tensor] = {}

    def run(self, images: Tensor) -> Tensor:
        """The network's logits."""
        logits = self.network.build(self, images)
        assert isinstance(logits, Tensor)
        return logits

    def state(self) -> State:
        """A copy of every value."""
        return {name: value.detach().numpy().copy() for name, value in {**self.parameters, **self.buffers}.items()}

    def conv(
        self,
        x: Tensor,
        name: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
    ) -> Tensor:
        inputs = int(x.shape[1])
        taps = kernel * kernel
        # TensorFlow 1.15 takes a depthwise kernel [3, 3, C, 1] for one from C channels to 1.
        fans = (taps * inputs, taps if depthwise else taps * channels)
        shape = (channels, 1 if depthwise else inputs, kernel, kernel)
        weight = self._weight(f"{name}.weight", shape, *fans)
        shift = self._filled(f"{name}.bias", channels, 0.0) if bias else None
        groups = inputs if depthwise else 1
        return functional.conv2d(x, weight, shift, stride=stride, padding=kernel // 2, groups=groups)

    def norm(self, x: Tensor, name: str) -> Tensor:
        channels = int(x.shape[1])
        return functional.batch_norm(
            x,
            self._filled(f"{name}.mean", channels, 0.0, trained=False),
            self._filled(f"{name}.variance", channels, 1.0, trained=False),
            self._filled(f"{name}.gamma", channels, 1.0, trained=self.network.gamma),
            self._filled(f"{name}.beta", channels, 0.0),
            training=self.training,
            eps=EPSILON,
        )

    def activation(self, x: Tensor, name: str, kind: str) -> Tensor:
        match kind:
            case "relu":
                return functional.relu(x)
            case "relu6":
                return functional.relu6(x)
            case "silu":
                return functional.silu(x)
            case _:
                return torch.sigmoid(x)

    def add(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        return x + y

    def mul(self, x: Tensor, y: Tensor, name: str) -> Tensor:
        return x * y

    def pool(self, x: Tensor, name: str) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)

    def flatten(self, x: Tensor, name: str) -> Tensor:
        return x.flatten(1)

    def dense(self, x: Tensor, name: str, units: int) -> Tensor:
        inputs = int(x.shape[1])
        weight = self._weight(f"{name}.weight", (units, inputs), inputs, units)
        return functional.linear(x, weight, self._filled(f"{name}.bias", units, 0.0))

    def dropout(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = torch.rand(x.shape, generator=self.random) < 0.5
        return x * kept * 2

    def _weight(self, name: str, shape: tuple[int, ...], fan_in: int, fan_out: int) -> Tensor:
        if name not in self.parameters:
            if self.network.init is Init.HE_NORMAL:
                values = torch.randn(shape, generator=self.random) * math.sqrt(2 / fan_in)
            else:
                limit = math.sqrt(6 / (fan_in + fan_out))
                values = (torch.rand(shape, generator=self.random) * 2 - 1) * limit
            self.parameters[name] = values.requires_grad_()
        return self.parameters[name]

    def _filled(self, name: str, size: int, value: float, trained: bool = True) -> Tensor:
        kept = self.parameters if trained else self.buffers
        if name not in kept:
            kept[name] = torch.full((size,), value, requires_grad=trained)
        return kept[name]


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network after `epoch` epochs: mean loss over the last one (NaN before the first), accuracy on test images."""

    epoch: int
    state: State
    loss: float
    accuracy: float


def train(network: Network, digits: Digits, recipe: Recipe, seed: int) -> Iterator[Checkpoint]:
    """Train, and give each checkpoint, from the untrained network to the finished one."""
    ops = TorchOps(network, seed)
    images, labels = torch.from_numpy(digits.train), torch.from_numpy(digits.train_labels)
    start = _accuracy(ops, digits)  # the first run also creates the parameters
    yield Checkpoint(0, ops.state(), math.nan, start)
    optimiser = torch.optim.RMSprop(ops.parameters.values(), lr=recipe.rate, alpha=0.9, eps=1.0, momentum=0.9)
    for epoch in range(1, recipe.epochs + 1):
        optimiser.param_groups[0]["lr"] = recipe.rate * recipe.decay ** (epoch - 1)
        losses = []
        ops.training = True
        order = torch.randperm(len(images), generator=ops.random)
        for first in range(0, len(order), recipe.batch):
            chosen = order[first : first + recipe.batch]
            loss = functional.cross_entropy(ops.run(_augmented(images[chosen], ops.random)), labels[chosen])
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            optimiser.step()
            losses.append(float(loss.detach()))
        ops.training = False
        if epoch % recipe.every == 0 or epoch == recipe.epochs:
            yield Checkpoint(epoch, ops.state(), float(np.mean(losses)), _accuracy(ops, digits))


def _accuracy(ops: TorchOps, digits: Digits) -> float:
    with torch.no_grad():
        logits = ops.run(torch.from_numpy(digits.test))
    return float((logits.argmax(dim=1).numpy() == digits.test_labels).mean())


def _augmented(images: Tensor, random: torch.Generator) -> Tensor:
    """Rotated by up to 15 degrees, zoomed by up to 10 %, shifted by up to an eighth of the side; no flips."""
    count = len(images)
    draw = torch.rand((4, count), generator=random) * 2 - 1
    angle, zoom = draw[0] * math.radians(15), 1 + 0.1 * draw[1]
    turn = torch.stack([torch.cos(angle), -torch.sin(angle), torch.sin(angle), torch.cos(angle)], 1).reshape(-1, 2, 2)
    move = draw[2:].T.reshape(count, 2, 1) / 4
    grid = functional.affine_grid(torch.cat([turn * zoom[:, None, None], move], 2), [count, 1, SIDE, SIDE], False)
    return functional.grid_sample(images, grid, align_corners=False)
