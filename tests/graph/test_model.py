"""Neighbours, ways and types in the main graph."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.graph import read_model

_FIRST = """
import sys
from pathlib import Path
from threading import Barrier, Thread
from onnxlint_q.graph import read_model
model, ready = read_model(Path(sys.argv[1])), Barrier(8)
def walk():
    ready.wait()
    sys.stdout.write(f"{len(model.descendants(model.inputs[0].name))}\\n")
threads = [Thread(target=walk) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""


def test_neighbours() -> None:
    model = as_model(
        onnx_text("g (float[4] x) => (float[4] y, float[4] b) { a = Neg(x) b = Relu(a) c = Abs(b) y = Add(c, c) }")
    )
    relu = model.sole_consumer("a")
    assert relu is not None and relu.op_type == "Relu"
    assert model.sole_consumer("b") is None, "it is an output as well"
    assert [node.op_type for node in model.consumers("x")] == ["Neg"]
    producer = model.producer("a")
    assert producer is not None and producer.op_type == "Neg"
    assert model.producer("x") is None
    assert model.producer("no such tensor") is None
    assert model.consumers("no such tensor") == ()


def test_types(models: Path) -> None:
    model = read_model(models / "healthy_resnet.onnx")
    assert model.shape("images") == (None, 3, 32, 32)
    assert model.shape("block2_1_conv_out") == (None, 24, 16, 16)
    assert model.shape("stem_conv.weight") == (12, 3, 3, 3)
    assert model.shape("no such tensor") is None


def test_symbolic_sizes_are_unknown(models: Path) -> None:
    model = read_model(models / "dynamic_shape.onnx")
    assert model.shape("images") == (None, 3, None, None)
    assert model.shape("body_conv_out") == (None, 16, None, None)


def test_an_opset_from_the_future_is_read(models: Path) -> None:
    model = read_model(models / "newer_opset.onnx")
    assert model.opset == 99
    assert model.shape("images") == (None, 3, 32, 32)


def test_operators_of_other_domains_are_no_standard_ones(models: Path) -> None:
    model = read_model(models / "unknown_domain.onnx")
    blur = next(node for node in model.nodes if node.op_type == "Blur")
    assert not blur.is_standard
    assert blur.qualified_type == "example.blur:Blur"
    assert list(model.nodes_of("Blur")) == []
    assert model.opsets["example.blur"] == 1


def test_nodes_without_names_are_labelled_by_their_output(models: Path) -> None:
    node = read_model(models / "unnamed_nodes.onnx").nodes[0]
    assert node.name == ""
    assert node.label == node.output


@pytest.mark.parametrize(("attribute", "expected"), [("axis = 3", 3), ("", 7), ("axis = 1.5", 7), ('axis = "word"', 7)])
def test_an_attribute_of_the_wrong_type_is_its_default(attribute: str, expected: int) -> None:
    written = f"<{attribute}>" if attribute else ""
    model = as_model(onnx_text(f"g (float[4] x) => (float[4] y) {{ y = Softmax {written} (x) }}"))
    assert model.nodes[0].int("axis", 7) == expected


def test_a_dimension_of_minus_one_is_not_known() -> None:
    proto = onnx_text("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -1
    assert as_model(proto).inputs[0].type.shape == (None, 4)


DOUBLED = "  ".join(f"t{i + 1} = Concat <axis=0> (t{i}, t{i})" for i in range(28))


@pytest.mark.parametrize(
    "graph",
    [
        f"g (float[1,2] x) => (int64[n] y) {{ t0 = Shape(x)  {DOUBLED}  y = Identity(t28) }}",
        "g (float[4000000000] x) => (float[n] y) { y = Add(x, x) }",
        "g (float[2] x) => (float[n] y) { a = ConstantOfShape(size)  y = Add(a, a) }",
    ],
)
def test_shape_inference_carries_no_list_that_fills_the_memory(graph: str) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert "y" in as_model(onnx_text(graph, size=np.array([4000000000]))).types
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000  # KB; it would be gigabytes


def test_shape_inference_carries_the_shapes_of_exporters() -> None:
    body = "s = Shape(x)  n = Gather(s, zero)  l = Concat <axis=0> (n, rest)  y = Reshape(x, l)"
    model = as_model(
        onnx_text(f"g (float[2,3,4] x) => (float[a,b] y) {{ {body} }}", zero=np.array([0]), rest=np.array([12]))
    )
    assert model.types["y"].shape == (2, 12)


def test_threads_that_are_the_first_to_walk_a_model_wait_for_the_library_that_walks(models: Path) -> None:
    # In a process of its own: here the library is loaded. Lazy modules of Python 3.11 show other threads half of one.
    told = subprocess.run(
        [sys.executable, "-c", _FIRST, str(models / "healthy_resnet.onnx")], capture_output=True, text=True, check=True
    )
    assert told.stderr == ""
    walks = told.stdout.split()
    assert len(walks) == 8 and len(set(walks)) == 1
