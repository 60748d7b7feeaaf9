"""bench/fuzz: a mutant is made again from its name, and what no command may do is seen."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import onnx
import pytest

from onnxlint_q.judge.config import Overrides
from onnxlint_q.report.formats import ReportFormat
from onnxlint_q.workflow.check import plan
from onnxlint_q.workflow.record import CheckRequest

ROOT = Path(__file__).parents[2]
NAMES = ("depthwise_spread", "qdq_good", "subgraph_if", "external_data")


@pytest.fixture(autouse=True)
def root_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))


@pytest.fixture
def sound(models: Path) -> dict[str, bytes]:
    return {name: (models / f"{name}.onnx").read_bytes() for name in NAMES}


@pytest.fixture
def mutants() -> Any:
    return import_module("bench.fuzz.mutants")


@pytest.fixture
def trial() -> Any:
    return import_module("bench.fuzz.trial")


def test_a_mutant_follows_from_its_name(sound: dict[str, bytes], mutants: Any) -> None:
    name = mutants.Name("s", 5)
    made = mutants.mutant(sound, name)
    assert mutants.mutant(sound, mutants.Name.parse(str(name))).data == made.data
    assert mutants.mutant(sound, replace(name, seed="t")).data != made.data
    assert made.data != sound[made.model]


def test_every_mutation_says_what_it_did_and_does_it(sound: dict[str, bytes]) -> None:
    def done(mutation: Any) -> Iterator[tuple[bool, bool]]:
        for number in range(20):
            for data in sound.values():
                proto = onnx.ModelProto.FromString(data)
                said = mutation(proto, Random(number))
                yield bool(said), proto.SerializeToString() != onnx.ModelProto.FromString(data).SerializeToString()

    for name, mutation in import_module("bench.fuzz.mutations").MUTATIONS.items():
        found = list(done(mutation))
        assert (True, True) in found, name
        assert (False, True) not in found, f"{name} changes a model and says nothing"


def test_a_fault_needs_the_mutations_that_are_left(sound: dict[str, bytes], mutants: Any) -> None:
    made = next(m for n in range(99) if len((m := mutants.mutant(sound, mutants.Name("s", n))).said) == 3)
    fewer = list(mutants.simpler(sound, made))
    assert [str(one.name) for one in fewer] == [f"{made.name}/{kept}" for kept in ("1,2", "0,2", "0,1")]
    assert [dict(one.said) for one in fewer if one.name.kept == (0, 1)] == [{n: made.said[n] for n in (0, 1)}]


def test_a_rule_that_crashes_is_a_fault(models: Path, trial: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = plan([models / "healthy_resnet.onnx"], Overrides(search=False, select=("QW001",)))
    here = CheckRequest(debug=True)
    (sound,) = trial._checked([job], here)
    assert (sound.kind, sound.fault) == ("told", "")
    monkeypatch.setattr(type(job.rules[0]), "check", lambda self, facts: {}[facts.model.name])
    (outcome,) = trial._checked([job], here)
    assert "QW001" in outcome.fault and "KeyError" in outcome.fault


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        (
            "m.onnx: an error of onnxlint-q itself, KeyError: 'b' (layers.py:124); report it",
            "KeyError: … (layers.py:124)",
        ),
        ("m.onnx: two\nlines", "not one plain line"),
        ("m.onnx: \x1b[31mred", "not one plain line"),
        ("m.onnx: it is empty; export it again", ""),
    ],
)
def test_what_is_refused_must_be_refused_plainly(message: str, fault: str, trial: Any) -> None:
    found = trial._refused(message).fault
    assert fault in found and bool(found) == bool(fault)


@pytest.mark.parametrize("text", ['{"a": NaN}', "no JSON", '{"a": "\x1b"}', '"an error of onnxlint-q itself, x; y"'])
def test_a_report_that_no_program_can_read_is_a_fault(text: str, trial: Any) -> None:
    assert trial._told(lambda _: text, (ReportFormat.JSON,)).fault
    assert not trial._told(lambda _: '{"a": null}', (ReportFormat.JSON,)).fault


def test_a_short_run_finds_nothing_amiss(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in NAMES:
        (tmp_path / f"{name}.onnx").write_bytes((models / f"{name}.onnx").read_bytes())
    main = import_module("bench.fuzz.__main__").main
    for how, count in (("static", "60"), ("random", "6"), ("compare", "3"), ("fix", "2")):
        assert main([str(tmp_path), "--how", how, "--mutants", count, "--seed", "tests"]) == 0, capsys.readouterr().out
