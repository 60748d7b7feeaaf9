"""Shape inference sees through shape arithmetic, and makes no long list that the file only claims."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.graph.loading.shapes import carries_lists

MANY = 900_000_000
FILL = "l = ConstantOfShape(n) y = Add(l, l)"
DOUBLE = " ".join(f"t{i + 1} = Concat <axis = 0> (t{i}, t{i})" for i in range(30))
BOMBS: dict[str, tuple[str, dict[str, npt.ArrayLike]]] = {
    "product": (f"() => (float[N] y) {{ n = Mul(p, p) {FILL} }}", {"p": [30_000]}),
    "cast": (f"() => (float[N] y) {{ n = Cast <to = 7> (p) {FILL} }}", {"p": np.asarray([MANY], np.int32)}),
    "listed": (f"() => (float[N] y) {{ n = Constant <value_ints = [{MANY}]> () {FILL} }}", {}),
    "range": (
        "() => (float[N] y) { l = Range(o, n, d) f = Cast <to = 1> (l) y = Add(f, f) }",
        {"o": np.asarray(0), "n": np.asarray(2**31), "d": np.asarray(1)},
    ),
    "input": (f"(float[{MANY}] x) => (float[N] y) {{ y = Add(x, x) }}", {}),
    "doubled": (f"(int64[1] t0) => (int64[N] y) {{ {DOUBLE} y = Add(t30, t30) }}", {}),
}
READ = """
import sys
from pathlib import Path
from onnxlint_q.graph import read_model
read_model(Path(sys.argv[1]))
print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_claimed_length_takes_no_memory(name: str, tmp_path: Path) -> None:
    text, arrays = BOMBS[name]
    proto = onnx_text(f"g {text}", **arrays)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "m.onnx")], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) < 400 << 10


def test_lengths_that_hang_on_one_another() -> None:
    """The first sum can be looked through only when the length of `a` is known, the second when that of `b` is."""
    model = as_model(
        onnx_text(
            """g (float[5] x) => (float[N] y) {
                s = Shape(x) a = ConstantOfShape(s) b = Add(a, a)
                t = Shape(b) c = ConstantOfShape(t) y = Add(c, c)
            }"""
        )
    )
    assert [model.shape(key) for key in "abcy"] == [(5,)] * 4


def test_a_reshape_by_arithmetic() -> None:
    model = as_model(
        onnx_text(
            """g (float[2,3,4] x) => (float[?,?] y) {
                s = Shape(x)
                a = Slice(s, zero, one)
                b = Slice(s, one, three)
                p = Gather <axis = 0> (b, first)
                q = Gather <axis = 0> (b, second)
                m = Mul(p, q)
                u = Unsqueeze(m, zero)
                t = Concat <axis = 0> (a, u)
                y = Reshape(x, t)
            }""",
            zero=np.asarray([0]),
            one=np.asarray([1]),
            three=np.asarray([3]),
            first=np.asarray(0),
            second=np.asarray(1),
        )
    )
    assert model.shape("y") == (2, 12)


def test_a_short_list_beside_a_long_one() -> None:
    """The one that is too long costs the others nothing."""
    model = as_model(
        onnx_text(
            f"g (float[2,6] x, float[{MANY}] z) => (float[?,?] y, float[N] w) "
            "{ w = Add(z, z) s = Shape(x) n = Mul(s, s) y = ConstantOfShape(n) }"
        )
    )
    assert model.shape("y") == (4, 36)
    assert model.shape("w") == (MANY,)


def test_all_that_onnx_carries_values_through_is_known() -> None:
    schemas: list[Any] = list(onnx.defs.get_all_schemas_with_history())  # its types leave half of it out
    carry = {s.name for s in schemas if s.domain == "" and s.has_data_propagation_function}
    by_body = {
        s.name
        for s in schemas
        if s.domain == "" and not s.has_type_and_shape_inference_function
        if s.has_function or s.has_context_dependent_function
    }
    harmless = {"GreaterOrEqual", "LessOrEqual"}  # their functions hold comparisons only
    assert all(carries_lists(name) for name in carry | by_body - harmless)
