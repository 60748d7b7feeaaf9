"""Networks that do not attend: recurrent ones, maps, detectors, mixers, sound, graphs."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from .tasks import FRAME, TONES, TOPICS, VOCABULARY


class RowReader(nn.Module):
    """A digit row by row; `cell` is GRU or LSTM."""

    def __init__(self, cell: str, width: int = 48, depth: int = 1, *, both: bool = False) -> None:
        super().__init__()
        self.reader = getattr(nn, cell)(16, width, depth, batch_first=True, bidirectional=both)
        self.head = nn.Linear(width * (1 + both), 10)

    def forward(self, rows: Tensor) -> Tensor:
        return self.head(self.reader(rows)[0][:, -1])


class TextReader(nn.Module):
    """Words to a topic, or to a tag each."""

    def __init__(self, cell: str, classes: int, width: int = 64, *, pooled: bool) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, 32)
        self.reader = getattr(nn, cell)(32, width, 1, batch_first=True, bidirectional=True)
        self.head = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, classes))
        self.pooled = pooled

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        kept = mask[..., None].float()
        x = self.reader(self.words(ids) * kept)[0] * kept
        return self.head(x.sum(1) / kept.sum(1) if self.pooled else x)


class UNet(nn.Module):
    """Two halvings, two doublings, skips; a probability a pixel."""

    def __init__(self, width: int = 12, *, transposed: bool = True, act: str = "ReLU") -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [_unit(1, width, act), _unit(width, 2 * width, act), _unit(2 * width, 4 * width, act)]
        )
        self.up = nn.ModuleList(
            [
                nn.ConvTranspose2d(c * width, c * width // 2, 2, 2)
                if transposed
                else nn.Sequential(nn.Upsample(scale_factor=2), nn.Conv2d(c * width, c * width // 2, 1))
                for c in (4, 2)
            ]
        )
        self.join = nn.ModuleList([_unit(4 * width, 2 * width, act), _unit(2 * width, width, act)])
        self.head = nn.Conv2d(width, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        first = self.down[0](image)
        second = self.down[1](functional.max_pool2d(first, 2))
        x = self.down[2](functional.max_pool2d(second, 2))
        for up, join, skip in zip(self.up, self.join, (second, first), strict=True):
            x = join(torch.cat([up(x), skip], 1))
        return torch.sigmoid(self.head(x))


class Detector(nn.Module):
    """Scores and offsets a cell from two heads; a depthwise or a regular backbone."""

    def __init__(self, width: int = 16, *, depthwise: bool, act: str = "SiLU") -> None:
        super().__init__()
        unit = _separable if depthwise else _unit
        self.body = nn.Sequential(
            _unit(1, width, act, 2),
            unit(width, 2 * width, act, 2),
            unit(2 * width, 4 * width, act),
            unit(4 * width, 4 * width, act),
        )
        self.classes = nn.Sequential(unit(4 * width, 2 * width, act), nn.Conv2d(2 * width, 11, 1))
        self.offsets = nn.Sequential(unit(4 * width, 2 * width, act), nn.Conv2d(2 * width, 2, 1))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.body(image)
        return self.classes(x), self.offsets(x)


class Regressor(nn.Module):
    """Three values from the pooled image; a plain layer at the end."""

    def __init__(self, width: int = 16, act: str = "ReLU", *, depthwise: bool = False) -> None:
        super().__init__()
        unit = _separable if depthwise else _unit
        self.body = nn.Sequential(
            _unit(1, width, act, 2), unit(width, 2 * width, act, 2), unit(2 * width, 2 * width, act, 2)
        )
        self.head = nn.Sequential(nn.Linear(32 * width, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(image).flatten(1))


class Mixer(nn.Module):
    """Layers across places and across channels in turn."""

    def __init__(self, width: int = 48, depth: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.across = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(depth)]
        )
        self.along = nn.ModuleList(
            [
                nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 96), nn.GELU(), nn.Linear(96, width))
                for _ in range(depth)
            ]
        )
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2)
        for across, along in zip(self.across, self.along, strict=True):
            x = x + across(x)
            x = x + along(x.transpose(1, 2)).transpose(1, 2)
        return self.head(x.mean(2))


class ConvNext(nn.Module):
    """Wide depthwise convolutions, LayerNormalization over channels, a learned gain a block."""

    def __init__(self, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, 2, 2)
        self.wide = nn.ModuleList([nn.Conv2d(width, width, 7, 1, 3, groups=width) for _ in range(depth)])
        self.feed = nn.ModuleList(
            [
                nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
                for _ in range(depth)
            ]
        )
        self.gains = nn.Parameter(0.1 * torch.ones(depth, width))
        self.head = nn.Linear(width, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image)
        for wide, feed, gain in zip(self.wide, self.feed, self.gains, strict=True):
            x = x + (feed(wide(x).permute(0, 2, 3, 1)) * gain).permute(0, 3, 1, 2)
        return self.head(x.mean((2, 3)))


class ToneFinder(nn.Module):
    """Waves to a probability a frame and pitch: convolutions, with or without a GRU behind them."""

    def __init__(self, width: int = 24, *, recurrent: bool) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(1, width, 40, FRAME, 10),
            nn.ReLU(),
            nn.Conv1d(width, 2 * width, 3, 1, 1),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
            nn.Conv1d(2 * width, 2 * width, 3, 1, 1),
            nn.BatchNorm1d(2 * width),
            nn.ReLU(),
        )
        self.reader = nn.GRU(2 * width, 2 * width, batch_first=True) if recurrent else None
        self.head = nn.Linear(2 * width, TONES)

    def forward(self, wave: Tensor) -> Tensor:
        x = self.body(wave[:, None]).transpose(1, 2)
        if self.reader is not None:
            x = self.reader(x)[0]
        return torch.sigmoid(self.head(x))


class GraphNet(nn.Module):
    """Each node takes the mean or the sum of its neighbours, so many times."""

    def __init__(self, width: int = 32, depth: int = 3, *, mean: bool) -> None:
        super().__init__()
        sizes = [8, *[width] * depth]
        self.own = nn.ModuleList([nn.Linear(a, b) for a, b in pairwise(sizes)])
        self.around = nn.ModuleList([nn.Linear(a, b, bias=False) for a, b in pairwise(sizes)])
        self.head = nn.Linear(width, 2)
        self.mean = mean

    def forward(self, nodes: Tensor, links: Tensor) -> Tensor:
        share = links / links.sum(-1, keepdim=True).clamp(min=1) if self.mean else links
        for own, around in zip(self.own, self.around, strict=True):
            nodes = torch.relu(own(nodes) + share @ around(nodes))
        return self.head(nodes)


def topic_reader(cell: str) -> nn.Module:
    """Which topic?"""
    return TextReader(cell, TOPICS, pooled=True)


def tag_reader(cell: str) -> nn.Module:
    """Which tag has each word?"""
    return TextReader(cell, 5, pooled=False)


def _unit(inputs: int, channels: int, act: str, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), getattr(nn, act)()
    )


def _separable(inputs: int, channels: int, act: str, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False),
        nn.BatchNorm2d(inputs),
        getattr(nn, act)(),
        nn.Conv2d(inputs, channels, 1, bias=False),
        nn.BatchNorm2d(channels),
        getattr(nn, act)(),
    )
