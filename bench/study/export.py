"""A trained network as an ONNX file, written node by node so that BatchNormalization stays what it was in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from .networks import CLASSES, EPSILON, INPUT, OUTPUT, SIDE, Network, State


def export(network: Network, state: State, path: Path) -> None:
    """Write the network with the values of `state` to `path`."""
    ops = OnnxOps(state)
    network.build(ops, INPUT)
    graph = helper.make_graph(
        ops.nodes,
        network.name,
        [helper.make_tensor_value_info(INPUT, onnx.TensorProto.FLOAT, ["N", 1, SIDE, SIDE])],
        [helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["N", CLASSES])],
        [numpy_helper.from_array(value, name) for name, value in ops.used.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name="onnxlint-q study"
    )
    onnx.checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


class OnnxOps:
    """Collects the nodes of a network; a tensor is its name.

    Attributes:
        used: the values that the nodes read, by name.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self.nodes: list[onnx.NodeProto] = []
        self.used: dict[str, npt.NDArray[np.float32]] = {}

    def conv(
        self,
        x: str,
        name: str,
        channels: int,
        kernel: int = 3,
        stride: int = 1,
        depthwise: bool = False,
        bias: bool = False,
    ) -> str:
        constants = [f"{name}.weight", f"{name}.bias"] if bias else [f"{name}.weight"]
        return self._node(
            "Conv",
            [x],
            f"{name}.conv",
            constants,
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
            group=channels if depthwise else 1,
        )

    def norm(self, x: str, name: str) -> str:
        constants = [f"{name}.{what}" for what in ("gamma", "beta", "mean", "variance")]
        return self._node("BatchNormalization", [x], f"{name}.bn", constants, epsilon=EPSILON)

    def activation(self, x: str, name: str, kind: str) -> str:
        match kind:
            case "relu":
                return self._node("Relu", [x], f"{name}.relu")
            case "relu6":
                self.used.update({"zero": np.asarray(0, np.float32), "six": np.asarray(6, np.float32)})
                return self._node("Clip", [x, "zero", "six"], f"{name}.relu6")
            case "silu":
                return self._node("Mul", [x, self._node("Sigmoid", [x], f"{name}.sigmoid")], f"{name}.silu")
            case _:
                return self._node("Sigmoid", [x], f"{name}.sigmoid")

    def add(self, x: str, y: str, name: str) -> str:
        return self._node("Add", [x, y], f"{name}.sum")

    def mul(self, x: str, y: str, name: str) -> str:
        return self._node("Mul", [x, y], f"{name}.product")

    def pool(self, x: str, name: str) -> str:
        return self._node("GlobalAveragePool", [x], f"{name}.mean_pixel")

    def flatten(self, x: str, name: str) -> str:
        return self._node("Flatten", [x], f"{name}.vector")

    def dense(self, x: str, name: str, units: int) -> str:
        result = name if name == OUTPUT else f"{name}.dense"
        return self._node("Gemm", [x], result, [f"{name}.weight", f"{name}.bias"], transB=1)

    def dropout(self, x: str) -> str:
        return x

    def _node(
        self, op_type: str, inputs: list[str], result: str, constants: list[str] | None = None, **attributes: Any
    ) -> str:
        for constant in constants or []:
            self.used[constant] = self.state[constant]
        self.nodes.append(
            helper.make_node(op_type, [*inputs, *(constants or [])], [result], name=f"{result}/{op_type}", **attributes)
        )
        return result
