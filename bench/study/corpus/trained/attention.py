"""Networks that attend: encoders and decoders of text, vision transformers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from .tasks import LENGTH, TOPICS, VOCABULARY


@dataclass(frozen=True)
class Shape:
    """How a transformer is built.

    Attributes:
        width, depth, heads: channels, blocks, heads of attention.
        norm: layer or rms.
        first: whether norms stand in front of attention and feed-forward, else behind the sum.
        activation: gelu, tanh (GELU by tanh), relu, silu, or swiglu.
        masked: what is added where attention is ruled out.
        rotary: positions by rotation instead of a table.
        outlier: added to one channel of every token, as large networks learn it.
    """

    width: int = 64
    depth: int = 3
    heads: int = 4
    norm: str = "layer"
    first: bool = False
    activation: str = "gelu"
    masked: float = -1e9
    rotary: bool = False
    outlier: float = 0.0


class RmsNorm(nn.Module):
    """Division by the root of the mean square, spelt out as exporters leave it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.gain


class Block(nn.Module):
    """Attention and feed-forward, each with its sum and norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape, width = shape, shape.width
        gated = shape.activation == "swiglu"
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.widen = nn.Linear(width, (8 if gated else 4) * width)
        self.narrow = nn.Linear(4 * width, width)
        self.norms = nn.ModuleList([RmsNorm(width) if shape.norm == "rms" else nn.LayerNorm(width) for _ in range(2)])

    def forward(self, x: Tensor, mask: Tensor | None, turn: Tensor | None) -> Tensor:
        changes: tuple[Callable[[Tensor], Tensor], ...] = (partial(self._attend, mask=mask, turn=turn), self._feed)
        for norm, change in zip(self.norms, changes, strict=True):
            x = x + change(norm(x)) if self.shape.first else norm(x + change(x))
        return x

    def _attend(self, x: Tensor, mask: Tensor | None, turn: Tensor | None) -> Tensor:
        heads, size = self.shape.heads, self.shape.width // self.shape.heads
        query, key, value = (
            layer(x).reshape(-1, x.shape[1], heads, size).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        if turn is not None:
            query, key = _turned(query, turn), _turned(key, turn)
        scores = query @ key.transpose(2, 3) / math.sqrt(size)
        scores = scores if mask is None else scores + mask
        return self.out((scores.softmax(-1) @ value).transpose(1, 2).reshape(-1, x.shape[1], heads * size))

    def _feed(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        match self.shape.activation:
            case "swiglu":
                left, right = x.chunk(2, -1)
                x = functional.silu(left) * right
            case "tanh":
                x = functional.gelu(x, approximate="tanh")
            case name:
                x = getattr(functional, name)(x)
        return self.narrow(x)


class Transformer(nn.Module):
    """Tokens to scores.

    Args:
        shape: of the blocks.
        classes: of the scores, one row a text where `pooled`, else one a token.
        causal: whether a token sees only those in front of it; there is no padding then.
        pooled: whether tokens are averaged, those of the padding left out.
        embeds: give the pooled vector, scaled to length one, beside the scores.
    """

    def __init__(self, shape: Shape, classes: int, *, causal: bool = False, pooled: bool = True) -> None:
        super().__init__()
        self.shape, self.causal, self.pooled = shape, causal, pooled
        self.words = nn.Embedding(VOCABULARY, shape.width)
        self.places = nn.Embedding(LENGTH, shape.width)
        self.start = nn.Identity() if shape.first else nn.LayerNorm(shape.width)
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.depth)])
        self.head = nn.Linear(shape.width, classes)
        offset = torch.zeros(shape.width)
        offset[shape.width // 3] = shape.outlier
        self.register_buffer("offset", offset)

    def forward(self, ids: Tensor, mask: Tensor | None = None) -> Tensor:
        length = ids.shape[1]
        x = self.words(ids)
        turn = None
        if self.shape.rotary:
            turn = _angles(length, self.shape.width // self.shape.heads)
        else:
            x = x + self.places(torch.arange(length))
        x = self.start(x) + self.offset
        if self.causal:
            seen: Tensor | None = torch.full((length, length), self.shape.masked).triu(1)
        else:
            seen = None if mask is None else (1.0 - mask[:, None, None, :].float()) * self.shape.masked
        for block in self.blocks:
            x = block(x, seen, turn)
        if self.pooled and mask is not None:
            kept = mask[..., None].float()
            x = (x * kept).sum(1) / kept.sum(1)
        return self.head(x)


class VisionTransformer(nn.Module):
    """A picture of 16 x 16 in patches of 4 x 4, with or without a token for the class."""

    def __init__(self, shape: Shape, classes: int, *, token: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, shape.width, 4, 4)
        self.token = nn.Parameter(torch.zeros(1, 1, shape.width)) if token else None
        self.places = nn.Parameter(0.02 * torch.randn(1, 17 if token else 16, shape.width))
        self.blocks = nn.ModuleList([Block(shape) for _ in range(shape.depth)])
        self.norm = nn.LayerNorm(shape.width)
        self.head = nn.Linear(shape.width, classes)
        offset = torch.zeros(shape.width)
        offset[shape.width // 3] = shape.outlier
        self.register_buffer("offset", offset)

    def forward(self, image: Tensor) -> Tensor:
        x = self.patches(image).flatten(2).transpose(1, 2)
        if self.token is not None:
            x = torch.cat([self.token.expand(image.shape[0], -1, -1), x], 1)
        x = x + self.places + self.offset
        for block in self.blocks:
            x = block(x, None, None)
        x = self.norm(x)
        return self.head(x[:, 0] if self.token is not None else x.mean(1))


def topic_encoder(shape: Shape) -> nn.Module:
    """Which topic?"""
    return Transformer(shape, TOPICS)


def tagger(shape: Shape) -> nn.Module:
    """Which tag has each word?"""
    return Transformer(shape, 5, pooled=False)


def language_model(shape: Shape) -> nn.Module:
    """Which word comes next?"""
    return Transformer(shape, VOCABULARY, causal=True, pooled=False)


def _angles(length: int, size: int) -> Tensor:
    steps = torch.arange(length).float()[:, None] / 1000 ** (torch.arange(0, size, 2).float() / size)
    return torch.cat([steps, steps], -1)


def _turned(x: Tensor, turn: Tensor) -> Tensor:
    left, right = x.chunk(2, -1)
    return x * turn.cos() + torch.cat([-right, left], -1) * turn.sin()
