"""Models that a static check is timed on, written by `python bench/speed/models.py NAME FOLDER`; prints their paths.

Weights of the large ones are written piece by piece. That of 10 GB is a file of holes, which takes no disk.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """A graph under construction, its weights inline or, streamed, in one file beside it."""

    def __init__(self, folder: Path, name: str, external: bool = False) -> None:
        self.path = folder / f"{name}.onnx"
        self.data = folder / f"{name}.bin"
        self.external = external
        self.offset = 0
        self.draw = np.random.default_rng(20)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def constant(self, values: npt.ArrayLike) -> str:
        """A small initializer."""
        name = f"c{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
        return name

    def weight(self, *shape: int, holes: bool = False) -> str:
        """Normal numbers with the variance of one over the fan-in, or zeros that lie nowhere."""
        taps = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
        if not self.external:
            return self.constant(self.draw.standard_normal(shape, np.float32) / np.sqrt(taps, dtype=np.float32))
        name, size = f"c{len(self.tensors)}", 4 * int(np.prod(shape))
        with self.data.open("ab") as out:
            if holes:
                out.truncate(self.offset + size)
            for _ in range(0 if holes else shape[0]):
                (self.draw.standard_normal(shape[1:], np.float32) / np.sqrt(taps, dtype=np.float32)).tofile(out)
        entries = {"location": self.data.name, "offset": str(self.offset), "length": str(size)}
        tensor = TensorProto(name=name, dims=shape, data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
        tensor.external_data.extend(onnx.StringStringEntryProto(key=k, value=v) for k, v in entries.items())
        self.tensors.append(tensor)
        self.offset += size
        return name

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """An operator with one output."""
        out = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], name=f"n{len(self.nodes)}", **attributes))
        return out

    def save(self, given: Sequence[int], last: str, made: Sequence[int]) -> str:
        """Write the file: one input `x`, one output."""
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, given)]
        outputs = [helper.make_tensor_value_info(last, TensorProto.FLOAT, made)]
        graph = helper.make_graph(self.nodes, "limits", inputs, outputs, self.tensors)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), self.path)
        return str(self.path)


def mobile(folder: Path, name: str = "mobile", width: float = 1.0, classes: int = 1000) -> str:
    """A network of inverted residuals (arXiv 1801.04381, table 2): 3.5 million weights, 14 MB."""
    net = Net(folder, name)

    def convolution(
        x: str, taken: int, made: int, kernel: int, stride: int, group: int = 1, bounded: bool = True
    ) -> str:
        weight = net.weight(made, taken // group, kernel, kernel)
        x = net.node(
            "Conv", x, weight, group=group, strides=[stride] * 2, pads=[kernel // 2] * 4, kernel_shape=[kernel] * 2
        )
        parameters = [net.draw.uniform(0.5, 1.5, made), net.draw.normal(0, 0.2, made)]
        parameters += [net.draw.normal(0, 0.2, made), net.draw.uniform(0.5, 1.5, made)]
        x = net.node("BatchNormalization", x, *(net.constant(values) for values in parameters))
        return net.node("Clip", x, zero, six) if bounded else x

    zero, six = net.constant(np.float32(0)), net.constant(np.float32(6))
    channels = int(32 * width)
    x = convolution("x", 3, channels, 3, 2)
    for expansion, out, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)
    ):  # fmt: skip
        for turn in range(repeats):
            made, hidden, first = int(out * width), channels * expansion, x
            x = convolution(x, channels, hidden, 1, 1) if expansion > 1 else x
            x = convolution(x, hidden, hidden, 3, 1 if turn else stride, hidden)
            x = convolution(x, hidden, made, 1, 1, bounded=False)
            x = net.node("Add", first, x) if turn else x
            channels = made
    x = convolution(x, channels, int(1280 * width), 1, 1)
    x = net.node("Flatten", net.node("GlobalAveragePool", x))
    weight, bias = net.weight(classes, int(1280 * width)), net.constant(np.zeros(classes))
    return net.save([1, 3, 224, 224], net.node("Gemm", x, weight, bias, transB=1), [1, classes])


def wide(folder: Path, blocks: int, holes: bool = False) -> str:
    """A transformer of so many blocks of 128 MiB, one head, 1,672 channels; weights beside it."""
    net, width, inner = Net(folder, "wide", external=True), 1672, 6688
    net.data.touch()
    x = "x"
    for _ in range(blocks):
        kept = x
        x = net.node("LayerNormalization", x, net.constant(np.ones(width)), net.constant(np.zeros(width)))
        q, k, v = (net.node("MatMul", x, net.weight(width, width, holes=holes)) for _ in range(3))
        scores = net.node("MatMul", q, net.node("Transpose", k, perm=[0, 2, 1]))
        shares = net.node("Softmax", net.node("Div", scores, net.constant(np.sqrt(width))), axis=-1)
        x = net.node("MatMul", net.node("MatMul", shares, v), net.weight(width, width, holes=holes))
        kept = x = net.node("Add", kept, x)
        x = net.node("LayerNormalization", x, net.constant(np.ones(width)), net.constant(np.zeros(width)))
        x = net.node("Relu", net.node("MatMul", x, net.weight(width, inner, holes=holes)))
        x = net.node("Add", kept, net.node("MatMul", x, net.weight(inner, width, holes=holes)))
    return net.save([1, 16, width], x, [1, 16, width])


def deep(folder: Path, nodes: int = 30_000) -> str:
    """Residual blocks of MatMul, Add, Relu and Add on 16 channels."""
    net = Net(folder, "deep")
    x = "x"
    for _ in range(nodes // 4):
        y = net.node("MatMul", x, net.weight(16, 16))
        y = net.node("Relu", net.node("Add", y, net.constant(net.draw.normal(0, 0.1, 16))))
        x = net.node("Add", x, y)
    return net.save([1, 16], x, [1, 16])


def small(folder: Path) -> list[str]:
    """Twenty networks of a few hundred kB."""
    return [mobile(folder, f"small{number}", 0.25, 10) for number in range(20)]


MODELS: Mapping[str, Callable[[Path], Sequence[str]]] = {
    "mobile": lambda folder: [mobile(folder)],
    "wide": lambda folder: [wide(folder, 8)],
    "holes": lambda folder: [wide(folder, 80, holes=True)],
    "deep": lambda folder: [deep(folder)],
    "small": small,
}


if __name__ == "__main__":
    print("\n".join(MODELS[sys.argv[1]](Path(sys.argv[2]))))
