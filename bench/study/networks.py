"""The networks of the study, each written once for whoever runs it: the trainer, or the writer of the ONNX file.

The twelve of Yun & Wong (arXiv 2104.11849, Table 1) are three families, BatchNorm with and without gamma, and two
initialisations; three more are what the depth of the twelve does not show: inverted residuals, squeeze-and-excitation
with SiLU, and a residual network of regular convolutions. README.md says what was changed for 16 x 16 digits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

T = TypeVar("T")
State = Mapping[str, npt.NDArray[np.float32]]
"""All values of a network by name: `<layer>.weight`, `.bias`, `.gamma`, `.beta`, `.mean`, `.variance`."""
CLASSES = 10
SIDE = 16
# BatchNormalization's epsilon in the library that the paper used.
EPSILON = 1e-3
# Names of the ONNX file's input and output.
INPUT = "image"
OUTPUT = "logits"


class Init(StrEnum):
    """How weights start."""

    HE_NORMAL = "He normal"
    GLOROT_UNIFORM = "Glorot uniform"


class Ops(Protocol[T]):
    """What a network is written in; every operation carries the name of its parameters or of its result."""

    def conv(
        self,
        x: T,
        name: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
    ) -> T:
        """Convolution, padded so that stride 1 keeps the size."""
        ...

    def norm(self, x: T, name: str) -> T:
        """BatchNormalization over the channels."""
        ...

    def activation(self, x: T, name: str, kind: str) -> T:
        """One of relu, relu6, silu, sigmoid."""
        ...

    def add(self, x: T, y: T, name: str) -> T:
        """Sum."""
        ...

    def mul(self, x: T, y: T, name: str) -> T:
        """Product, broadcast."""
        ...

    def pool(self, x: T, name: str) -> T:
        """Mean over the image, `[N, C, 1, 1]`."""
        ...

    def flatten(self, x: T, name: str) -> T:
        """`[N, C]`."""
        ...

    def dense(self, x: T, name: str, units: int) -> T:
        """Matrix product and bias."""
        ...

    def dropout(self, x: T) -> T:
        """Half of the values dropped while training."""
        ...


def _unit(
    ops: Ops[T],
    x: T,
    name: str,
    channels: int,
    kernel: int = 3,
    stride: int = 1,
    depthwise: bool = False,
    act: str = "relu",
) -> T:
    """Convolution, normalisation, activation; `act` may be empty."""
    x = ops.norm(ops.conv(x, name, channels, kernel, stride, depthwise), name)
    return ops.activation(x, name, act) if act else x


def _separable(ops: Ops[T], x: T, name: str, inputs: int, channels: int, stride: int) -> T:
    x = _unit(ops, x, f"{name}.dw", inputs, stride=stride, depthwise=True)
    return _unit(ops, x, f"{name}.pw", channels, kernel=1)


# Channels and stride of each block; the input is 16 x 16.
_TOY = ((64, 2), (64, 1), (128, 2), (128, 1), (128, 1))
_MOBILENET = ((16, 1), (32, 1), (32, 1), (64, 2), (64, 1), (128, 2), *((128, 1),) * 5, (256, 1), (256, 1))
_INVERTED = ((16, 1, 1), (24, 2, 4), (24, 1, 4), (32, 2, 4), (32, 1, 4), (64, 1, 4), (64, 1, 4))
_RESNET = ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1))


def regular_convnet(ops: Ops[T], x: T) -> T:
    """Six regular convolutions and two dense layers."""
    x = _unit(ops, x, "stem", 32)
    for number, (channels, stride) in enumerate(_TOY, 1):
        x = _unit(ops, x, f"b{number}", channels, stride=stride)
    return _dense_head(ops, x)


def separable_convnet(ops: Ops[T], x: T) -> T:
    """`regular_convnet` with every convolution after the first split into a depthwise and a pointwise one."""
    x, inputs = _unit(ops, x, "stem", 32), 32
    for number, (channels, stride) in enumerate(_TOY, 1):
        x, inputs = _separable(ops, x, f"b{number}", inputs, channels, stride), channels
    return _dense_head(ops, x)


def mobilenet(ops: Ops[T], x: T) -> T:
    """MobileNet-V1 at a quarter of its width, all thirteen blocks."""
    x, inputs = _unit(ops, x, "stem", 8), 8
    for number, (channels, stride) in enumerate(_MOBILENET, 1):
        x, inputs = _separable(ops, x, f"b{number}", inputs, channels, stride), channels
    return _linear_head(ops, x)


def inverted_residual(ops: Ops[T], x: T) -> T:
    """MobileNet-V2 in small: inverted residuals, ReLU6, linear bottlenecks."""
    return _inverted(ops, x, "relu6", squeeze=False)


def mbconv(ops: Ops[T], x: T) -> T:
    """EfficientNet in small: inverted residuals with SiLU and squeeze-and-excitation."""
    return _inverted(ops, x, "silu", squeeze=True)


def resnet(ops: Ops[T], x: T) -> T:
    """Six basic blocks of two regular convolutions."""
    x, inputs = _unit(ops, x, "stem", 16), 16
    for number, (channels, stride) in enumerate(_RESNET, 1):
        name = f"b{number}"
        y = _unit(ops, x, f"{name}.conv1", channels, stride=stride)
        y = _unit(ops, y, f"{name}.conv2", channels, act="")
        if (inputs, stride) != (channels, 1):
            x = _unit(ops, x, f"{name}.down", channels, kernel=1, stride=stride, act="")
        x, inputs = ops.activation(ops.add(x, y, name), name, "relu"), channels
    return _linear_head(ops, x)


def _inverted(ops: Ops[T], x: T, act: str, squeeze: bool) -> T:
    x, inputs = _unit(ops, x, "stem", 16, act=act), 16
    for number, (channels, stride, expansion) in enumerate(_INVERTED, 1):
        name, wide = f"b{number}", inputs * expansion
        y = _unit(ops, x, f"{name}.expand", wide, kernel=1, act=act) if expansion > 1 else x
        y = _unit(ops, y, f"{name}.dw", wide, stride=stride, depthwise=True, act=act)
        if squeeze:
            y = _squeeze_excite(ops, y, f"{name}.se", wide, max(4, inputs // 4))
        y = _unit(ops, y, f"{name}.project", channels, kernel=1, act="")
        x = ops.add(x, y, name) if (inputs, stride) == (channels, 1) else y
        inputs = channels
    return _linear_head(ops, _unit(ops, x, "head", 128, kernel=1, act=act))


def _squeeze_excite(ops: Ops[T], x: T, name: str, channels: int, narrow: int) -> T:
    gate = ops.pool(x, name)
    gate = ops.activation(ops.conv(gate, f"{name}.reduce", narrow, kernel=1, bias=True), f"{name}.reduce", "silu")
    gate = ops.activation(ops.conv(gate, f"{name}.widen", channels, kernel=1, bias=True), f"{name}.widen", "sigmoid")
    return ops.mul(x, gate, name)


def _dense_head(ops: Ops[T], x: T) -> T:
    x = ops.flatten(ops.pool(x, "pool"), "flat")
    x = ops.dropout(ops.activation(ops.dense(x, "fc1", 128), "fc1", "relu"))
    return ops.dense(x, "logits", CLASSES)


def _linear_head(ops: Ops[T], x: T) -> T:
    return ops.dense(ops.flatten(ops.pool(x, "pool"), "flat"), "logits", CLASSES)


@dataclass(frozen=True, slots=True)
class Network:
    """One trained network of the study.

    Attributes:
        name: of its files.
        title: as in the tables.
        family: networks that differ only in `gamma` and `init` share it.
        gamma: whether BatchNormalization has a trained scale.
    """

    name: str
    title: str
    family: str
    build: Callable[[Ops[Any], Any], Any]
    gamma: bool = True
    init: Init = Init.HE_NORMAL


def _ablation(short: str, family: str, build: Callable[[Ops[Any], Any], Any]) -> list[Network]:
    """Four networks: with and without gamma, from two initialisations, in the order of the paper's table."""
    return [
        Network(
            name=f"{short}_{'gamma' if gamma else 'nogamma'}_{'he' if init is Init.HE_NORMAL else 'glorot'}",
            title=f"{family}, {'with' if gamma else 'no'} gamma, {init}",
            family=family,
            build=build,
            gamma=gamma,
            init=init,
        )
        for gamma in (False, True)
        for init in Init
    ]


NETWORKS = (
    *_ablation("mobilenet", "MobileNet", mobilenet),
    *_ablation("dws", "DWS conv", separable_convnet),
    *_ablation("regular", "Regular conv", regular_convnet),
    Network("inverted_residual", "Inverted residual (ReLU6)", "Inverted residual", inverted_residual),
    Network("mbconv", "MBConv (SE, SiLU)", "MBConv", mbconv),
    Network("resnet", "ResNet (basic blocks)", "ResNet", resnet),
)
