"""Walks along the data: what they visit, where they end, and that they end."""

from __future__ import annotations

import time
from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper
from onnx_cases import as_model, onnx_text

from onnxlint_q.graph import Model, Node, Trace, Trait, followed_by, preceded_by, trace_back, trace_forward
from onnxlint_q.graph.trace import REACH

MOVED = """
moved (float[2, 6] x, float[2, 6] z) => (float[6] y, float[3, 2] s)
<int64[2] three = {3, 4}, int64[2] two = {3, 2}> {
  a = Identity(x)
  b = Concat <axis = 0> (a, z)
  c = Relu(b)
  p, q = Split <axis = 1> (c)
  s = Reshape(p, two)
  y = ReduceSum <keepdims = 0> (q, zero)
}
"""


def moved() -> Model:
    return as_model(onnx_text(MOVED.replace("ReduceSum <keepdims = 0> (q, zero)", "Neg(q)")))


def test_back_through_traits() -> None:
    model = moved()
    assert trace_back(model, "s", Trait.MOVES) == Trace(("s", "p", "c"), ("c",))
    assert trace_back(model, "s", Trait.MOVES | Trait.RECTIFIES).ends == ("b",)
    through = Trait.MOVES | Trait.RECTIFIES | Trait.JOINS | Trait.COPIES
    assert trace_back(model, "s", through).ends == ("z", "x")
    assert trace_back(model, "s", through, until={"a"}).ends == ("a", "z")
    assert trace_back(model, "s", through, until={"s"}) == Trace(("s",), ("s",))
    assert trace_back(model, "no such tensor", through) == Trace(("no such tensor",), ("no such tensor",))


def test_forward_through_traits() -> None:
    model = moved()
    through = Trait.MOVES | Trait.RECTIFIES | Trait.JOINS | Trait.COPIES
    assert trace_forward(model, "x", through) == Trace(("x", "a", "b", "c", "p", "q", "s"), ("q", "s"))
    assert trace_forward(model, "two", through).ends == ("two",), "a shape is no data"
    assert trace_forward(model, "b", through, alone=True).ends == ("q", "s")
    assert trace_forward(model, "x", Trait.COPIES, until={"x"}).ends == ("x",)


def test_neighbours_are_found_behind_what_moves_values() -> None:
    model = moved()

    def names(nodes: Iterator[Node]) -> list[str]:
        return [node.op_type for node in nodes]

    assert names(followed_by(model, "x", "Concat")) == ["Concat"], "behind the Identity"
    assert names(followed_by(model, "x", "Relu")) == [], "a Concat joins others"
    assert names(followed_by(model, "x", Trait.RECTIFIES, Trait.COPIES | Trait.JOINS)) == ["Relu"]
    assert names(followed_by(model, "c", lambda node: node.output in {"s", "y"})) == ["Reshape", "Neg"]
    assert names(preceded_by(model, "s", "Relu")) == ["Relu"], "in front of the Split and the Reshape"
    assert names(preceded_by(model, "s", Trait.MOVES)) == ["Reshape", "Split"]
    assert names(preceded_by(model, "s", "Concat")) == [] == names(preceded_by(model, "x", "Identity"))
    diamond = "g (float[4] x) => (float[4] y) { a = Identity(x) y = Add(a, x) }"
    assert names(followed_by(as_model(onnx_text(diamond)), "x", "Add")) == ["Add"], "once, by two ways"


def test_alone_stops_at_several_readers_and_at_outputs() -> None:
    text = "g (float[4] x) => (float[4] y, float[4] b) { a = Relu(x) b = Relu(a) y = Relu(b) }"
    assert trace_forward(as_model(onnx_text(text)), "x", Trait.RECTIFIES, alone=True).ends == ("b",)
    text = "g (float[4] x) => (float[4] y) { a = Relu(x) b = Relu(a) y = Add(a, b) }"
    assert trace_forward(as_model(onnx_text(text)), "x", Trait.RECTIFIES, alone=True).ends == ("a",)


def test_a_walk_follows_values_only() -> None:
    text = """
g (float[1, 2, 4, 4] x, float[1, 2, 4, 4] c) => (int64[1, 2, 2, 2] i, float[1, 2, 4, 4] w) {
  m, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x)
  flag = Greater(x, c)
  w = Where(flag, x, c)
}
"""
    model = as_model(onnx_text(text))
    assert trace_back(model, "i", Trait.MOVES).ends == ("i",), "places are no values"
    assert trace_back(model, "m", Trait.MOVES).ends == ("x",)
    assert trace_back(model, "w", Trait.CHOOSES).ends == ("x", "c")
    assert trace_forward(model, "x", Trait.MOVES).tensors == ("x", "m")


def test_a_function_says_where_to_go() -> None:
    model = moved()

    def second(node: Node) -> tuple[str, ...]:
        return node.inputs[1:2]

    assert trace_back(model, "b", second).ends == ("z",)
    assert trace_forward(model, "x", lambda node: node.outputs).ends == ("s", "y")


def test_branches_that_meet_are_visited_once() -> None:
    nodes, last = [], "x"
    for step in range(40):
        nodes.append(helper.make_node("Concat", [last, last], [f"t{step}"], axis=0))
        nodes.append(helper.make_node("Add", [f"t{step}", f"t{step}"], [f"u{step}"]))
        last = f"u{step}"
    found = trace_back(chained(nodes, "u30"), "u30", Trait.JOINS | Trait.ADDS)
    assert len(found.tensors) == 63 and found.ends == ("x",), "there are 2^62 ways"


def test_a_walk_that_reaches_too_far_ends_where_it_is() -> None:
    steps = REACH + 10
    nodes = [helper.make_node("Relu", [f"t{n}" if n else "x"], [f"t{n + 1}"]) for n in range(steps)]
    model = chained(nodes, f"t{steps}")
    back, forth = (
        trace_back(model, f"t{steps}", Trait.RECTIFIES),
        trace_forward(model, "x", Trait.RECTIFIES),
    )
    assert len(back.tensors) == len(forth.tensors) == REACH
    assert back.ends == (f"t{steps - REACH + 1}",) and forth.ends == (f"t{REACH - 1}",)


def test_walks_from_every_tensor_take_time_in_proportion_to_the_graph() -> None:
    def seconds(steps: int) -> float:
        nodes = [helper.make_node("Relu", [f"t{n}" if n else "x"], [f"t{n + 1}"]) for n in range(steps)]
        model = chained(nodes, f"t{steps}")
        begun = time.process_time()
        for node in model.nodes:
            trace_back(model, node.output, Trait.RECTIFIES)
        return time.process_time() - begun

    few, many = seconds(500), seconds(4000)
    assert many < 3 * 8 * few, "eight times the nodes, 64 times the time if walks had no bound"


def chained(nodes: list[onnx.NodeProto], output: str) -> Model:
    vector = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", output)]
    graph = helper.make_graph(nodes, "chain", vector[:1], vector[1:])
    return as_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]))
