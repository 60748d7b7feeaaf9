"""The shapes that a whole run takes: given, of the data, of the graph, usual, tried; and what is said of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx_cases import onnx_text
from PIL import Image

from onnxlint_q.errors import UsageError
from onnxlint_q.execute.data.preprocess import PRESETS
from onnxlint_q.execute.data.sources import RandomSource, open_source
from onnxlint_q.judge.config import Overrides
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.workflow.check import lint, plan
from onnxlint_q.workflow.compare import CompareRequest, compare
from onnxlint_q.workflow.record import CheckRequest, DataRequest
from onnxlint_q.workflow.results import Basis, ModelResult
from onnxlint_q.workflow.sizes import GIVEN, SEEN, USUAL

RANDOM = np.random.default_rng(0)


def weight(*shape: int) -> npt.NDArray[np.float32]:
    drawn = np.random.default_rng(1).standard_normal(shape)
    return np.asarray(drawn * np.sqrt(2 / np.prod(shape[1:])), np.float32)


def head() -> onnx.ModelProto:
    """A convolution, and a matrix that is made for 24 x 24 pixels."""
    return onnx_text(
        """g (float[N, 3, H, W] x) => (float[N, 6] y) {
            a = Conv <strides = [2, 2], pads = [1, 1, 1, 1]> (x, w) b = Relu(a) c = Flatten(b) y = Gemm(c, m) }""",
        w=weight(4, 3, 3, 3),
        m=weight(4 * 12 * 12, 6),
    )


def free() -> onnx.ModelProto:
    return onnx_text(
        """g (float[N, 3, H, W] x) => (float[N, 5, 1, 1] y) {
            a = Conv <strides = [4, 4], pads = [1, 1, 1, 1]> (x, w) b = Relu(a) c = GlobalAveragePool(b)
            y = Conv(c, v) }""",
        w=weight(8, 3, 5, 5),
        v=weight(5, 8, 1, 1),
    )


def wave(rank: int) -> onnx.ModelProto:
    """Convolutions over a recording of any length, with a batch or without."""
    declared, front = ("T", [0, 1]) if rank == 1 else ("N, T", [1])
    return onnx_text(
        f"""g (float[{declared}] x) => (float[A, 4, U] y) {{
            u = Unsqueeze(x, front) a = Conv <strides = [4], pads = [4, 4]> (u, k) b = Relu(a) y = Conv(b, v) }}""",
        front=np.asarray(front),
        k=weight(8, 1, 9),
        v=weight(4, 8, 1),
    )


def result(proto: onnx.ModelProto, folder: Path, request: CheckRequest) -> ModelResult:
    onnx.save(proto, folder / "m.onnx")
    (job,) = plan([folder / "m.onnx"], Overrides(search=False))
    return lint(job.path, job.rules, job.config, request)


def taken(found: ModelResult) -> tuple[tuple[int, ...], str]:
    (one,) = found.inputs
    assert any(f"{one.name!r} taken as {list(one.taken)}: {one.reason}" in note for note in found.notes)
    return one.taken, one.reason


def test_the_graph_decides_for_forecast_probe_and_noise(tmp_path: Path) -> None:
    for request in (CheckRequest(), CheckRequest(probe=True), CheckRequest(DataRequest(RandomSource(), 2))):
        found = result(head(), tmp_path, request)
        assert taken(found) == ((1, 3, 24, 24), "the Gemm 'y' is made for it")
        assert all(row.forecast for row in found.layers)
        assert all(scheme.verdict is not None for scheme in found.schemes)
    assert {scheme.basis for scheme in found.schemes} == {Basis.MEASURED}


def test_the_forecast_is_that_of_the_declared_size(tmp_path: Path) -> None:
    fixed = head()
    for side in (2, 3):
        fixed.graph.input[0].type.tensor_type.shape.dim[side].dim_value = 24
    schemes = [result(proto, tmp_path, CheckRequest()).schemes for proto in (head(), fixed)]
    assert [s.output_sqnr_db for s in schemes[0]] == [s.output_sqnr_db for s in schemes[1]]


def test_a_given_shape_wins(tmp_path: Path) -> None:
    found = result(free(), tmp_path, CheckRequest(probe=True, input_shapes={"x": (1, 3, 40, 56)}))
    assert taken(found) == ((1, 3, 40, 56), GIVEN)
    assert {scheme.basis for scheme in found.schemes} == {Basis.PROBE}
    with pytest.raises(UsageError, match="has no such input"):
        result(free(), tmp_path, CheckRequest(input_shapes={"images": (1, 3, 40, 56)}))


def test_data_of_another_shape_than_the_given_one_is_told(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", RANDOM.standard_normal((4, 3, 32, 32)).astype(np.float32))
    source = open_source(str(tmp_path / "data.npy"), PRESETS["raw"])
    found = result(free(), tmp_path, CheckRequest(DataRequest(source), input_shapes={"x": (1, 3, 40, 56)}))
    assert any("sample 0 has [1, 3, 32, 32]" in finding.message for finding in found.findings)


def test_arrays_have_a_shape_of_their_own(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", RANDOM.standard_normal((4, 3, 36, 52)).astype(np.float32))
    source = open_source(str(tmp_path / "data.npy"), PRESETS["raw"])
    assert taken(result(free(), tmp_path, CheckRequest(DataRequest(source)))) == ((1, 3, 36, 52), SEEN)


def test_images_are_fitted_to_what_the_graph_is_made_for(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number in range(4):
        Image.fromarray(RANDOM.integers(0, 256, (50, 70, 3), np.uint8)).save(pictures / f"{number}.png")
    source = open_source(str(pictures), PRESETS["unit"])
    found = result(head(), tmp_path, CheckRequest(DataRequest(source)))
    assert found.calibration is not None
    assert found.calibration.preprocessing.endswith(", fitted to 24x24")
    assert {scheme.basis for scheme in found.schemes} == {Basis.MEASURED}


def test_where_the_graph_is_free_the_usual_sizes_are_tried(tmp_path: Path) -> None:
    assert taken(result(free(), tmp_path, CheckRequest())) == ((1, 3, 224, 224), USUAL)
    # What a node of another domain takes cannot be read from the file; here it is a subgraph.
    picky = onnx_text(
        """g (float[N, T] x) => (float[N, U] y) {
            k = Constant <value_ints = [1]> () r = Cast <to = 9> (k) c = Squeeze(r)
            y = If (c) <
              then_branch = t () => (float[N, U] a) { p = Pad <mode = "reflect"> (x, pads) a = MatMul(p, w) },
              else_branch = e () => (float[N, U] b) { q = Pad <mode = "reflect"> (x, pads) b = MatMul(q, w) }
            > }""",
        pads=np.asarray([0, 32, 0, 32]),
        w=weight(128, 5),
    )
    found = result(picky, tmp_path, CheckRequest(probe=True))
    assert taken(found)[0] == (1, 64)
    assert found.inputs[0].reason == "of 8 shapes that were tried it is the first that ONNX Runtime runs"


@pytest.mark.parametrize("rank", [1, 2])
def test_recordings_of_different_length_are_one_run_each(rank: int, tmp_path: Path) -> None:
    folder = tmp_path / "recordings"
    folder.mkdir()
    lengths = [300 + 40 * number for number in range(8)]
    for number, length in enumerate(lengths):
        samples = RANDOM.standard_normal((1,) * (rank - 1) + (length,)).astype(np.float32)
        np.savez(folder / f"{number}.npz", x=samples)
    source = open_source(str(folder), PRESETS["raw"])
    found = result(wave(rank), tmp_path, CheckRequest(DataRequest(source, layers=True)))
    assert found.calibration is not None
    assert (found.calibration.samples, found.calibration.held_out) == (4, 4)
    assert taken(found) == ((1,) * (rank - 1) + (300,), SEEN)
    assert {scheme.verdict for scheme in found.schemes} == {Verdict.SURVIVES}
    assert all(row.measured for row in found.layers)


def test_a_comparison_takes_the_same_shapes(tmp_path: Path) -> None:
    onnx.save(head(), tmp_path / "float.onnx")
    coded = head()
    stem = coded.graph.node[0]
    stem.input[0] = "rounded"
    for name, value in (("scale", np.float32(0.05)), ("zero", np.uint8(128))):
        coded.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value), name))
    pair = [
        onnx.helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["codes"]),
        onnx.helper.make_node("DequantizeLinear", ["codes", "scale", "zero"], ["rounded"]),
    ]
    nodes = [*pair, *coded.graph.node]
    del coded.graph.node[:]
    coded.graph.node.extend(nodes)
    onnx.save(coded, tmp_path / "coded.onnx")
    (job,) = plan([tmp_path / "coded.onnx"], Overrides(search=False))
    found = compare(tmp_path / "float.onnx", job, CompareRequest(RandomSource(), 2))
    assert taken(found.quantized)[0] == (1, 3, 24, 24)
    given = CompareRequest(RandomSource(), 2, input_shapes={"images": (1, 3, 24, 24)})
    with pytest.raises(UsageError, match="has no such input"):
        compare(tmp_path / "float.onnx", job, given)
