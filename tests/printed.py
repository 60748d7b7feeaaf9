"""Runs what the tool and its documents print, as it is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_cases import as_model
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from PIL import Image

from onnxlint_q.cli.app import main

CALL = "quantize_static("
_TYPES = {onnx.TensorProto.INT64: np.int64, onnx.TensorProto.INT32: np.int32, onnx.TensorProto.FLOAT16: np.float16}


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, samples: Iterable[Mapping[str, Any]]) -> None:
        self._samples = iter(samples)

    def get_next(self) -> dict[str, Any] | None:
        sample = next(self._samples, None)
        return dict(sample) if sample is not None else None


def noise(model: onnx.ModelProto) -> Iterator[dict[str, Any]]:
    """Two samples of noise for a model."""
    random = np.random.default_rng(7)
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = {value.name: value.type.tensor_type for value in model.graph.input if value.name not in constants}
    for _ in range(2):
        yield {
            name: random.normal(size=[dim.dim_value or 1 for dim in kind.shape.dim]).astype(
                _TYPES.get(kind.elem_type, np.float32)
            )
            for name, kind in inputs.items()
        }


def quantised(
    call: str, model: onnx.ModelProto, folder: Path, samples: Iterable[Mapping[str, Any]] | None = None
) -> onnx.ModelProto:
    """What a printed call of `quantize_static` makes of a float model on samples; ONNX Runtime loads it."""
    source, target = folder / "float.onnx", folder / "int8.onnx"
    onnx.save(model, source)

    def quantize(rest: EllipsisType, **options: Any) -> None:
        assert rest is ...
        quantize_static(source, target, _Reader(noise(model) if samples is None else samples), **options)

    names: dict[str, Any] = {
        "CalibrationMethod": CalibrationMethod,
        "QuantFormat": QuantFormat,
        "QuantType": QuantType,
        "np": np,
    }
    exec(call, {**names, "quantize_static": quantize})
    made = onnx.load(target)
    onnx.checker.check_model(made)
    onnxruntime.InferenceSession(target, providers=["CPUExecutionProvider"])
    return made


def written(lines: str, folder: Path) -> None:
    """Run printed Python that writes a model into `folder`, which ONNX Runtime loads."""
    before = set(folder.iterdir())
    exec(lines, {"onnx": onnx, "np": np})
    (made,) = set(folder.iterdir()) - before
    onnxruntime.InferenceSession(made, providers=["CPUExecutionProvider"])


def command(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code and both streams of a printed command of onnxlint-q."""
    monkeypatch.setattr("sys.argv", ["onnxlint-q", *words])
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    return int(left.value.code or 0), out, err


def split(line: str) -> list[list[str]]:
    """The commands of one line of a shell, without their comments."""
    commands: list[list[str]] = [[]]
    for word in shlex.split(line, comments=True):
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(word)
    return [words for words in commands if words]


def shape(snippet: str) -> str:
    """What a snippet is, whatever names and numbers it holds."""
    return re.sub(r"-?\d+(\.\d+)?(e-?\d+)?", "0", re.sub(r"'[^']*'|\"[^\"]*\"", "''", snippet))


def photos(folder: Path, count: int = 24, side: int = 40) -> Path:
    """A folder of pictures."""
    folder.mkdir()
    random = np.random.default_rng(5)
    for number in range(count):
        rough = random.integers(0, 256, size=(5, 5, 3), dtype=np.uint8)
        Image.fromarray(rough).resize((side, side)).save(folder / f"{number:02}.png")
    return folder


def as_float(model: onnx.ModelProto) -> onnx.ModelProto:
    """The float model that a QDQ file was made of: activations without their pairs, weights dequantised."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    known = as_model(model)
    wire: dict[str, str] = {}
    outputs = {value.name for value in made.graph.output}
    nodes = list(made.graph.node)
    del made.graph.node[:]
    for node in nodes:
        if node.op_type == "QuantizeLinear":
            wire[node.output[0]] = wire.get(node.input[0], node.input[0])
        elif node.op_type == "DequantizeLinear":
            value = known.constant(node.output[0])
            if value is None and (codes := known.constant(node.input[0])) is not None:
                value = codes.astype(np.float32)  # whose scales do not fit it
            if value is None:
                wire[node.output[0]] = wire.get(node.input[0], node.input[0])
            else:
                made.graph.initializer.append(onnx.numpy_helper.from_array(value, node.output[0]))
        else:
            made.graph.node.append(node)
    inputs = {value.name for value in made.graph.input}
    for name in [name for name in outputs & wire.keys() if wire[name] in inputs]:
        made.graph.node.append(onnx.helper.make_node("Identity", [wire[name]], [name]))
    back = {wire[name]: name for name in outputs & wire.keys() if wire[name] not in inputs}
    for node in made.graph.node:
        for slot, name in enumerate(node.input):
            node.input[slot] = back.get(wire.get(name, name), wire.get(name, name))
        for slot, name in enumerate(node.output):
            node.output[slot] = back.get(name, name)
    read = {name for node in made.graph.node for name in node.input}
    kept = [tensor for tensor in made.graph.initializer if tensor.name in read]
    del made.graph.initializer[:]
    made.graph.initializer.extend(kept)
    return made
