"""Outputs in parts are, put together again, the output that was."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text, run
from rewrite_cases import found

from onnxlint_q.graph import Model
from onnxlint_q.rewrite.hygiene.joined_outputs import REWRITE, Parts
from onnxlint_q.rewrite.rewriting import Safety

RNG = np.random.default_rng(11)
HEAD = "b = Conv(x, wb)  l = Conv(x, wc)  s = Sigmoid(l)  o = Conv(x, wo)  u = Sigmoid(o)"
"""Boxes `b` and scores `s` of 4 and 3 channels, and how sure `u` it is of either."""
WAYS = {
    "joined": "y = Concat <axis = 1> (b, s)",
    "three": "y = Concat <axis = 1> (b, u, s)",
    "between": "y = Concat <axis = 1> (s, b, u)",
    "turned": "j = Concat <axis = 1> (b, u, s)  y = Transpose <perm = [0, 2, 3, 1]> (j)",
    "rows": "j = Concat <axis = 1> (b, s)  r = Reshape(j, rows)  y = Transpose <perm = [0, 2, 1]> (r)",
    "two scales": """j = Concat <axis = 1> (b, s)  r = Reshape(j, rows)
      p = Concat <axis = -3> (b, s)  q = Reshape(p, rows)
      a = Concat <axis = 2> (r, q)  i = Identity(a)  y = Transpose <perm = [0, 2, 1]> (i)""",
    "computed shape": """j = Concat <axis = 1> (b, s)
      n = Shape <start = 0, end = 1> (x)  k = Concat <axis = 0> (n, rest)  y = Reshape(j, k)""",
    "unsqueezed": "j = Concat <axis = 1> (b, s)  y = Unsqueeze(j, one)",
}


def network(tail: str) -> onnx.ModelProto:
    weights = {"wb": (4, 3, 1, 1), "wc": (3, 3, 1, 1), "wo": (1, 3, 1, 1)}
    arrays = {name: RNG.normal(size=shape).astype(np.float32) for name, shape in weights.items()}
    arrays["wb"] *= 300
    channels = 8 if ("u, s" in tail or "b, u" in tail) else 7
    constants = {"rows": np.asarray([0, channels, -1]), "one": np.asarray([1]), "rest": np.asarray([7, -1])}
    rank = 5 if "Unsqueeze" in tail else 3 if "Reshape" in tail else 4
    shape = ", ".join(["2", *("ABCD"[: rank - 1])])
    return onnx_text(f"head (float[2, 3, 6, 5] x) => (float[{shape}] y) {{ {HEAD}  {tail} }}", **constants, **arrays)


def split(proto: onnx.ModelProto) -> tuple[Parts, Model]:
    """The one candidate, and the model with its parts."""
    (wanted,), refused = found(REWRITE, proto)
    assert not refused and isinstance(wanted, Parts)
    made = REWRITE.apply(as_model(proto), [wanted])
    onnx.checker.check_model(made.proto, full_check=True)
    return wanted, made


@pytest.mark.parametrize("way", WAYS)
def test_the_parts_put_together_are_the_output(way: str) -> None:
    proto = network(WAYS[way])
    wanted, made = split(proto)
    feeds = {"x": RNG.normal(size=(2, 3, 6, 5)).astype(np.float32)}
    (whole,), pieces = run(proto, feeds), run(made.proto, feeds)
    assert [value.name for value in made.outputs] == list(wanted.names)
    assert [piece.shape[wanted.axis] for piece in pieces] == list(np.diff(wanted.bounds))
    np.testing.assert_array_equal(np.concatenate(pieces, axis=wanted.axis), whole)
    assert not any(name in node.output for node in made.proto.graph.node for name in ("y", "j"))
    assert found(REWRITE, made.proto) == ([], [])


def test_the_change_names_the_new_outputs() -> None:
    (wanted,), _ = found(REWRITE, network(WAYS["joined"]))
    assert wanted.change == "it becomes the outputs 'y_0' (0 to 3) and 'y_1' (4 to 6) of axis 1"


def test_other_outputs_keep_their_place() -> None:
    proto = network(WAYS["joined"])
    proto.graph.output.insert(0, onnx.helper.make_tensor_value_info("l", onnx.TensorProto.FLOAT, [2, 3, 6, 5]))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("s", onnx.TensorProto.FLOAT, [2, 3, 6, 5]))
    _, made = split(proto)
    assert [value.name for value in made.outputs] == ["l", "y_0", "y_1", "s"]
    assert REWRITE.safety is Safety.UNSAFE


def test_what_holds_one_thing_is_no_place() -> None:
    assert found(REWRITE, network("y = Concat <axis = 1> (s, u)")) == ([], [])
    assert found(REWRITE, network("y = Relu(b)")) == ([], [])


def test_refusals_say_why() -> None:
    read = network("y = Concat <axis = 1> (b, s)  z = Shape(y)")
    read.graph.output.append(onnx.helper.make_tensor_value_info("z", onnx.TensorProto.INT64, [4]))
    taken = network("y_0 = Identity(b)  y = Concat <axis = 1> (y_0, s)")
    for reason, proto in {"nodes of the model read it": read, "names for its parts": taken}.items():
        wanted, (refused,) = found(REWRITE, proto)
        assert not wanted and refused.tensor == "y" and reason in refused.reason
