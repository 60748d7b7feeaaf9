"""Other machines, imitated on this one: the suite has to pass under each of them.

`ONNXLINT_Q_VARIATION="unoptimised threads=1 weights=1e-7" pytest` runs it

- `unoptimised`: without the graph optimisations of ONNX Runtime, so with other kernels in another order;
- `threads=N`: with N threads inside each operator, whatever the caller asks for;
- `cores=N`: on a machine of N processors, as far as the process can see;
- `weights=E`: with every weight times `1 + E`. Near `6e-8` that moves a float32 to its neighbour, as another order of
  summation moves a result, and with it every value that lies next to a rounding tie.

The last one is in the files that the tests read and in the models that they write, so that all readers see the same
network. The others reach every process that a test starts: conftest.py puts this folder on PYTHONPATH, where Python
finds sitecustomize.py.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

VARIABLE = "ONNXLINT_Q_VARIATION"


@dataclass(frozen=True)
class Variation:
    """How this machine differs from the one at hand; by default not at all."""

    unoptimised: bool = False
    threads: int | None = None
    cores: int | None = None
    weights: float = 0.0


def parsed(text: str) -> Variation:
    """What the variable says.

    Raises:
        ValueError: a word of it means nothing here; a misspelt variation must not pass for a varied run.
    """
    given = dict(word.partition("=")[::2] for word in text.split())
    unknown = given.keys() - {"unoptimised", "threads", "cores", "weights"}
    if unknown:
        raise ValueError(f"{VARIABLE}: unknown {sorted(unknown)}")
    return Variation(
        unoptimised="unoptimised" in given,
        threads=int(given["threads"]) if "threads" in given else None,
        cores=int(given["cores"]) if "cores" in given else None,
        weights=float(given.get("weights", 0.0)),
    )


VARIATION = parsed(os.environ.get(VARIABLE, ""))


def install() -> None:
    """Make this process run on the varied machine, as far as that is not a matter of files."""
    if VARIATION.cores is not None:
        os.sched_getaffinity = lambda _: set(range(VARIATION.cores or 1))
        os.cpu_count = lambda: VARIATION.cores
    if VARIATION.unoptimised or VARIATION.threads is not None:
        if "onnxruntime" in sys.modules:
            raise RuntimeError("onnxruntime was imported before it could be varied")
        sys.meta_path.insert(0, _VariesSessions())


class _VariesSessions(MetaPathFinder):
    """Lets onnxruntime be imported when somebody asks for it, and then replaces its sessions."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if fullname != "onnxruntime":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_vary(module: ModuleType) -> None:
                execute(module)
                module.InferenceSession = _varied(module)  # type: ignore[attr-defined]

            spec.loader.exec_module = execute_and_vary  # type: ignore[method-assign]
        return spec


def _varied(runtime: ModuleType) -> type:
    class Session(runtime.InferenceSession):  # type: ignore[name-defined, misc]
        def __init__(self, model: object, sess_options: Any = None, *rest: Any, **named: Any) -> None:
            options = runtime.SessionOptions() if sess_options is None else sess_options
            # A session that writes the optimised graph to a file is a tool: to optimise is what it is for.
            if VARIATION.unoptimised and not options.optimized_model_filepath:
                options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
            if VARIATION.threads is not None:
                options.intra_op_num_threads = VARIATION.threads
            super().__init__(model, options, *rest, **named)

    return Session


# -- weights -------------------------------------------------------------------------------------------------------


def scaled_array(values: Any) -> Any:
    """`values` as a varied machine has them.

    Only weights are changed, so arrays of two axes or more. Whole numbers stay: they are chosen where sums have to be
    exact, and exact sums are the same on every machine.
    """
    import numpy as np

    if not VARIATION.weights or values.ndim < 2 or values.dtype not in {np.dtype("f4"), np.dtype("f8")}:
        return values
    with np.errstate(invalid="ignore"):
        whole = bool((values == np.rint(values)).all())
    return values if whole else (values * (1 + VARIATION.weights)).astype(values.dtype)


def scale_what_is_written() -> None:
    """Weights that this process writes into a model are those of the varied machine."""
    import onnx.numpy_helper as helper

    exact = helper.from_array

    def from_array(values: Any, *rest: Any, **named: Any) -> Any:
        return exact(scaled_array(values), *rest, **named)

    helper.from_array = from_array


def scaled_copy(source: Path, target: Path) -> Path:
    """A copy of a model, or of every model in a folder, with the weights of the varied machine."""
    if source.is_dir():
        shutil.copytree(source, target)
        for path in target.rglob("*.onnx"):
            _scale(path)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        _scale(target)
    return target


def _scale(path: Path) -> None:
    """Rewrites the weights of `path`; a file that is no model stays as it is."""
    import numpy as np
    import onnx
    from google.protobuf.message import DecodeError

    try:
        proto = onnx.load(path, load_external_data=False)
    except DecodeError:
        return
    for tensor in _tensors(proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}
            if tensor.data_type == onnx.TensorProto.FLOAT:
                file, offset = path.parent / place["location"], int(place.get("offset", 0))
                stored = np.memmap(file, np.float32, "r+", offset, tuple(tensor.dims))
                stored[...] = scaled_array(np.array(stored))
                stored.flush()
        elif tensor.data_type in {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE} and len(tensor.dims) > 1:
            tensor.CopyFrom(onnx.numpy_helper.from_array(scaled_array(onnx.numpy_helper.to_array(tensor)), tensor.name))
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _tensors(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("g"):
                yield from _tensors(attribute.g)
