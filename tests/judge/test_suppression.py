"""Findings that somebody knows of: by configuration, by the model itself, and by a baseline."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import as_model, onnx_text

from onnxlint_q.analysis.pairing.structure import Structure
from onnxlint_q.errors import UsageError
from onnxlint_q.finding import Confidence, Finding, Location, Severity, Suppressor
from onnxlint_q.graph import Model
from onnxlint_q.judge.config import Overrides, find_config, for_model, parse_config
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.suppression import Baseline, Entry, Known, KnownModel, known_model
from onnxlint_q.judge.suppression.baseline import name_from, read_baseline
from onnxlint_q.judge.suppression.metadata import entries_of
from onnxlint_q.judge.verdict import Verdict

RULES = [entry.rule for entry in load_rules()]
HERE = Path("x.toml")
BLOCKS = """
net (float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y) {
    [stem] a = Conv <kernel_shape = [1, 1]> (x, w0)
    [first] b = Conv <kernel_shape = [1, 1]> (a, w1)
    [first_relu] c = Relu (b)
    [second] d = Conv <kernel_shape = [1, 1]> (c, w2)
    [second_relu] e = Relu (d)
    [third] f = Conv <kernel_shape = [1, 1]> (e, w2)
    [third_relu] g = Relu (f)
    [sum] y = Add (g, a)
}
"""


def finding(node: str = "first", code: str = "QW001", **more: Any) -> Finding:
    where = Location("main", node, "Conv", f"{node}_out")
    return Finding(code, "a-name", Severity.WARNING, Confidence.HIGH, "It is odd.", where, **more)


def network(change: Callable[[onnx.ModelProto], None] = lambda proto: None) -> Model:
    rng = np.random.default_rng(0)
    first, other = (rng.normal(size=(4, 4, 1, 1)).astype(np.float32) for _ in range(2))
    proto = onnx_text(BLOCKS, w0=first, w1=other, w2=other)
    change(proto)
    return as_model(proto)


def exported_again(proto: onnx.ModelProto) -> None:
    """Other names for everything but inputs and outputs, and another order of what is stored."""
    graph = proto.graph
    kept = {"", *(value.name for value in (*graph.input, *graph.output))}
    names: dict[str, str] = {}

    def renamed(name: str) -> str:
        return name if name in kept else names.setdefault(name, f"onnx::thing_{len(names) + 71}")

    for tensor in graph.initializer:
        tensor.name = renamed(tensor.name)
    for node in graph.node:
        node.name = f"node_{node.op_type}_{len(names)}"
        node.input[:] = [renamed(name) for name in node.input]
        node.output[:] = [renamed(name) for name in node.output]
    stored = list(graph.initializer)
    random.Random(1).shuffle(stored)
    del graph.initializer[:]
    graph.initializer.extend(stored)
    del graph.value_info[:]


def structures(model: Model) -> list[str]:
    told = Structure(model)
    return [told.of(model.locate(node)) for node in model.nodes]


def test_a_place_is_the_same_after_an_export_with_other_names() -> None:
    before, after = network(), network(exported_again)
    assert {node.name for node in before.nodes}.isdisjoint({node.name for node in after.nodes})
    assert structures(before) == structures(after)


def test_no_two_places_are_one_even_where_operators_and_weights_are_alike() -> None:
    told = structures(network())
    assert len(set(told)) == len(told) == 8


def test_other_weights_and_other_neighbours_make_another_place() -> None:
    def retrain(proto: onnx.ModelProto) -> None:
        (held,) = (tensor for tensor in proto.graph.initializer if tensor.name == "w0")
        held.CopyFrom(onnx.numpy_helper.from_array(np.ones((4, 4, 1, 1), np.float32), "w0"))

    def rewire(proto: onnx.ModelProto) -> None:
        proto.graph.node[2].op_type = "Sigmoid"

    stem, *others = structures(network())
    retrained = structures(network(retrain))
    assert retrained[0] != stem and retrained[1:] == others
    same = [a == b for a, b in zip(structures(network(rewire)), [stem, *others], strict=True)]
    assert same == [False] * 5 + [True] * 3, "five nodes are the one that changed, or at most two away from it"


def test_a_tensor_without_a_node_has_an_identity() -> None:
    model = network()
    told = Structure(model)
    places = [Location(output=name) for name in ("x", "w0", "w1", "nowhere")]
    assert len({told.of(place) for place in places}) == 4


@pytest.mark.parametrize(
    ("rules", "node", "covered"),
    [
        (("QW001",), "", True),
        (("qw",), "", True),
        (("A-Name",), "first", True),
        (("QW002",), "", False),
        (("QW001",), "fir*", True),
        (("QW001",), "first_out", True),
        (("QW001",), "main/first", True),
        (("QW001",), "FIRST", False),
        (("QW001",), "second*", False),
    ],
)
def test_an_entry_covers_a_rule_at_the_nodes_that_its_glob_matches(
    rules: tuple[str, ...], node: str, covered: bool
) -> None:
    entry = Entry(rules, "known", Suppressor.CONFIGURATION, "here", node)
    assert entry.covers(finding()) is covered


def test_a_fault_of_several_places_is_covered_only_as_a_whole() -> None:
    several = finding(places=(Location("main", "second", "Conv", "second_out"),))
    assert Entry(("QW001",), "known", Suppressor.CONFIGURATION, "here", "*d*").covers(several) is False
    assert Entry(("QW001",), "known", Suppressor.CONFIGURATION, "here", "*out").covers(several) is True


def test_what_gave_way_to_a_finding_is_still_in_use() -> None:
    entry = Entry(("QW009",), "known", Suppressor.CONFIGURATION, "here", "first")
    heir = finding(also=("QW009",))
    assert entry.concerns(heir) and not entry.covers(heir)
    assert not entry.concerns(finding("second", also=("QW009",)))


def test_the_metadata_of_the_model_and_of_its_nodes_is_read() -> None:
    def mark(proto: onnx.ModelProto) -> None:
        for holder, text in ((proto, "QG: exported so"), (proto.graph.node[0], "QW001, qb002: by hand\n\nQP001\n:\n")):
            entry = holder.metadata_props.add()
            entry.key, entry.value = "pkg.onnxlint_q.ignore", text
        other = proto.graph.node[1].metadata_props.add()
        other.key, other.value = "ignore", "QW001: not for us"

    model = network(mark)
    whole, first, bare = entries_of(model)
    assert (whole.rules, whole.reason, whole.spot) == (("QG",), "exported so", None)
    assert (first.rules, first.reason, first.where) == (("QW001", "qb002"), "by hand", "the metadata of 'stem'")
    assert (bare.rules, bare.reason) == (("QP001",), "")
    stem, other = (replace(finding(), location=model.locate(model.nodes[index])) for index in (0, 1))
    assert first.covers(stem) and not first.covers(other)
    folded = replace(stem, location=replace(stem.location, output="behind_a_batch_norm"))
    assert first.covers(folded), "a layer is known by its node where its result is another tensor"


def test_metadata_of_any_size_is_read_in_bounds() -> None:
    def mark(proto: onnx.ModelProto) -> None:
        for node in proto.graph.node:
            entry = node.metadata_props.add()
            entry.key, entry.value = "pkg.onnxlint_q.ignore", ("QW001: " + "x" * 10_000 + "\n") * 500

    entries = entries_of(network(mark))
    assert len(entries) == 800 and max(len(entry.reason) for entry in entries) < 2000


def lines(*names: str) -> tuple[Known, ...]:
    return tuple(Known("QW001", name, f"f-{name}", f"s-{name}") for name in names)


class Told:
    """A finding as far as a baseline looks at it."""

    def __init__(self, fingerprint: str, structure: str) -> None:
        self.code, self.fingerprint, self.structure = "QW001", fingerprint, structure


def matched(known: KnownModel, *told: Told) -> tuple[list[str], list[str]]:
    found, left = known.matched(told)  # type: ignore[arg-type]
    return [line.node if line is not None else "" for line in found], [line.node for line in left]


def test_a_line_stands_for_a_place_by_structure_then_by_name() -> None:
    known = KnownModel(lines("a", "b"))
    assert matched(known, Told("f-a", "s-a"), Told("f-b", "s-b")) == (["a", "b"], [])
    assert matched(known, Told("f-new", "s-b"), Told("f-other", "s-a")) == (["b", "a"], []), "renamed"
    assert matched(known, Told("f-a", "s-new"), Told("f-b", "s-other")) == (["a", "b"], []), "retrained"
    # An export gave the name of b to another place: the line goes to the place that it was written for.
    assert matched(known, Told("f-b", "s-new"), Told("f-new", "s-b")) == (["", "b"], ["a"])
    assert matched(known, Told("f-c", "s-c")) == ([""], ["a", "b"])


def test_a_line_stands_for_one_finding() -> None:
    known = KnownModel(lines("a"))
    assert matched(known, Told("f-a", "s-a"), Told("f-a", "s-a")) == (["a", ""], [])


def test_a_baseline_is_written_a_line_a_finding_and_read_again(tmp_path: Path) -> None:
    told = [finding("b\udc80", structure="2"), finding("a", structure="1")]
    verdicts = {"int8-per-tensor": Verdict.BREAKS, "fp8": Verdict.SURVIVES, "int8-dynamic": None}
    baseline = Baseline({"m/a.onnx": known_model(told, verdicts, True), "b.onnx": KnownModel()})
    path = tmp_path / "known.json"
    path.write_text(baseline.text(), "utf-8")
    assert read_baseline(path) == baseline and Baseline().text() == '{\n "version": 1,\n "models": {}\n}\n'
    assert sum(line.startswith('    {"code"') for line in baseline.text().splitlines()) == 2
    assert json.loads(baseline.text())["models"]["m/a.onnx"]["verdicts"] == {"int8-per-tensor": "breaks"}
    assert baseline.summary == "2 findings and 1 verdict of 2 models"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 10**5,
        '{"version": 2, "models": {}}',
        '{"version": 1, "models": {"a": {"findings": []}}}',
        '{"version": 1, "models": {"a": {"findings": [{"code": 1}], "verdicts": {}, "calibrated": false}}}',
        '{"version": 1, "models": {"a": {"findings": [], "verdicts": {"x": "survives"}, "calibrated": false}}}',
    ],
)
def test_what_is_no_baseline_is_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "known.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"baseline .*known\.json: (is no baseline|cannot be read)"):
        read_baseline(path)
    with pytest.raises(UsageError, match="there is no such file; make it with --write-baseline"):
        read_baseline(tmp_path / "other.json")


@pytest.mark.parametrize(
    ("known", "now", "accepted"),
    [
        (Verdict.BREAKS, Verdict.BREAKS, True),
        (Verdict.BREAKS, Verdict.DEGRADES, True),
        (Verdict.DEGRADES, Verdict.BREAKS, False),
        (Verdict.BREAKS, Verdict.UNCERTAIN, False),
        (Verdict.BREAKS, None, False),
    ],
)
def test_a_verdict_is_known_if_it_is_no_worse(known: Verdict, now: Verdict | None, accepted: bool) -> None:
    model = KnownModel(verdicts={"int8-per-tensor": known})
    assert model.accepts("int8-per-tensor", now) is accepted and not model.accepts("fp8", now)


def test_a_model_is_named_from_the_folder_of_the_file_that_names_it(tmp_path: Path) -> None:
    assert name_from(tmp_path / "ci", tmp_path / "models" / "a.onnx") == "../models/a.onnx"
    assert name_from(tmp_path, tmp_path / "models" / "a.onnx") == "models/a.onnx"


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"code": "QW001"}, "[[suppress]] 1 needs `reason`: why the finding does not count"),
        ({"code": "QW001", "reason": " "}, "[[suppress]] 1 needs `reason`: why the finding does not count"),
        ({"reason": "x"}, "[[suppress]] 1 needs `code`: the code or the name of a rule, or a list of them, not None"),
        (
            {"code": "QW001", "reason": "x", "nodes": "y"},
            "unknown key 'nodes' in [[suppress]] 1 (did you mean 'node'?)",
        ),
        ({"code": "QW001", "reason": "x", "node": 3}, "[[suppress]] 1: 'node' must be text, not 3"),
        ("QW001", "'suppress' must be tables, each under [[suppress]], not ['QW001']"),
    ],
)
def test_a_suppression_that_cannot_be_used_is_told(table: Any, message: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_config({"suppress": [table]}, HERE)
    assert message in str(error.value)


def test_a_suppression_of_no_rule_is_told_with_the_nearest_one() -> None:
    config = parse_config({"suppress": [{"code": ["QW001", "outlier-gama"], "reason": "x"}]}, HERE)
    with pytest.raises(UsageError, match=r"1 of x.toml: no rule matches 'outlier-gama' .did you mean 'outlier-gamma'"):
        config.build(RULES)


def test_entries_are_for_the_models_that_their_globs_match(tmp_path: Path) -> None:
    (tmp_path / "onnxlint-q.toml").write_text(
        'suppress-in-model = false\nbaseline = "ci/known.json"\n'
        '[[suppress]]\ncode = "QW001"\nmodel = "old/*.onnx"\nreason = "x"\n'
        '[[suppress]]\ncode = "QW002"\nreason = "y"\n'
    )
    old, new = tmp_path / "old" / "a.onnx", tmp_path / "new" / "a.onnx"
    config = find_config(old)
    assert config.baseline == tmp_path / "ci" / "known.json" and not config.suppressing.heed_model
    assert [entry.rules for entry in for_model(config, old).suppressing.entries] == [("QW001",), ("QW002",)]
    assert [entry.rules for entry in for_model(config, new).suppressing.entries] == [("QW002",)]
    assert Overrides(baseline=Path("b.json")).config_for(old).baseline == Path("b.json")
    assert Overrides(anew=True).config_for(old).baseline is None
