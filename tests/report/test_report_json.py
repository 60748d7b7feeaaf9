from __future__ import annotations

import json
from typing import Any, NoReturn

import pytest
import samples

from onnxlint_q import __version__
from onnxlint_q.report import ReportFormat, render
from onnxlint_q.workflow.results import Run

SCHEME = {"verdict", "output_sqnr_db", "basis"}
LAYER = {
    *("node", "output", "op_type", "group", "depthwise", "range", "average_precision", "channel_sqnr_db"),
    *("forecast", "probe", "measured"),
}
SQNR = {"weight_sqnr_db", "sqnr_db"}
FINDING = {
    *("code", "name", "severity", "confidence", "evidence", "message", "location", "metrics", "remedy"),
    "fingerprint",
}


def parse(run: Run) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(render(run, ReportFormat.JSON), parse_constant=refuse)


@pytest.mark.parametrize("name", samples.ALL)
def test_every_key_of_version_1_is_there(name: str) -> None:
    run = samples.ALL[name]()
    report = parse(run)
    assert report["version"] == 1
    assert report["tool"] == {"name": "onnxlint-q", "version": __version__}
    assert len(report["models"]) == len(run.models)
    for model, source in zip(report["models"], run.models, strict=True):
        assert set(model) >= {"path", "sha256", "opset", "format", "schemes", "layers", "findings", "suppressed"}
        for scheme in model["schemes"].values():
            assert set(scheme) >= SCHEME
            assert scheme["verdict"] in ("survives", "degrades", "breaks", "unknown")
            assert scheme["basis"] in ("forecast", "probe", "measured")
        assert len(model["layers"]) == len(source.layers)
        for layer in model["layers"]:
            assert set(layer) >= LAYER
            for stage in ("forecast", "probe", "measured"):
                assert all(set(sqnr) >= SQNR for sqnr in (layer[stage] or {}).values())
        assert len(model["findings"]) == len(source.findings)
        for finding in (*model["findings"], *model["suppressed"]):
            assert set(finding) >= FINDING
            assert set(finding["location"]) == {"graph", "node", "op_type", "output"}


def test_a_finding_as_it_is_written() -> None:
    finding = parse(samples.small())["models"][0]["findings"][0]
    fingerprint = finding.pop("fingerprint")
    assert fingerprint == samples.small().models[0].findings[0].fingerprint
    assert finding == {
        "code": "QW001",
        "name": "unequal-channel-ranges",
        "severity": "error",
        "confidence": "high",
        "evidence": "confirmed",
        "message": "The channels' ranges differ by a factor of 214.7; "
        "one int8 scale leaves 27 of 96 fewer than 4 codes.",
        "location": {"graph": "main", "node": "dw1", "op_type": "Conv", "output": "dw1/bn_out"},
        "metrics": {"ratio": 214.7, "channels": 96, "starved_fraction": 0.28125},
        "remedy": "Quantise weights per channel, or equalise the two layers before.",
        "snippet": samples.SNIPPET,
        "claim": {
            "subject": "weight",
            "tensor": "dw1/bn_out",
            "scheme": "int8-per-tensor",
            "below_db": 10.0,
            "more": [],
        },
        "measured_sqnr_db": 4.71,
        "note": "",
        "causes": [],
        "cure": None,
        "rescaling": None,
        "remedy_tried": None,
        "also": [],
        "explains": {},
        "places": [],
        "structure": "",
        "measured_on": None,
        "help": "onnxlint-q rule QW001",
        "help_url": None,
    }


def test_causes_and_cure_of_every_finding() -> None:
    findings = parse(samples.chained())["models"][0]["findings"]
    assert [finding["code"] for finding in findings] == ["QW001", "QW003", "QW009"]
    assert findings[0]["causes"] == list(samples.CHAIN) and findings[2]["causes"] == []
    known = {"layer": "dw0/bn_out", "channels": [7], "scheme": "int8-per-tensor"}
    untried: dict[str, object] = {
        "rewrite": None,
        "rewrites": [],
        "option": "",
        "tried": False,
        "before_db": None,
        "after_db": None,
    }
    assert findings[1]["cure"] == {**known, **untried}


def test_stages_that_did_not_run_are_null() -> None:
    layer = parse(samples.forecast_only())["models"][0]["layers"][0]
    assert layer["forecast"]["int8-per-tensor"] == {"weight_sqnr_db": 10.0, "sqnr_db": 7.0}
    assert layer["probe"] is None
    assert layer["measured"] is None


def test_numbers_have_six_significant_digits() -> None:
    layer = parse(samples.small())["models"][0]["layers"][0]
    assert layer["measured"]["int8-per-tensor"]["weight_sqnr_db"] == 33.3333


def test_what_is_not_finite_is_null_with_a_reason() -> None:
    model = parse(samples.nothing())["models"][0]
    perfect = "perfect match: the output equals the float model's"
    assert {name: (s["output_sqnr_db"], s["reason"]) for name, s in model["schemes"].items()} == {
        "int8-per-tensor": (None, "not determined"),
        "int8-per-channel": (None, perfect),
        "int4": (None, "no signal left at the output"),
        "exact": (None, perfect),
        "nan": (None, "The output is not a number."),
    }
    assert model["layers"][3]["measured"]["int8-per-tensor"] == {
        "weight_sqnr_db": None,
        "sqnr_db": None,
        "reason": "perfect match",
    }
    assert model["findings"][0]["metrics"] == {"a": None, "b": None, "c": None, "d": True, "e": 3, "f": "text"}


def test_hostile_names_survive_the_round_trip() -> None:
    run = samples.hostile()
    text = render(run, ReportFormat.JSON)
    assert text.isascii()
    assert text.encode().decode("ascii") == text
    for model, source in zip(json.loads(text)["models"], run.models, strict=True):
        expected = source.path.encode("utf-8", "backslashreplace").decode()
        assert model["path"] == expected
        assert model["layers"][0]["node"] == expected
        model["path"].encode("utf-8")


def test_failures_are_listed() -> None:
    report = parse(samples.empty())
    assert report["models"] == []
    assert report["failures"][0]["path"] == "broken.onnx"


@pytest.mark.parametrize("name", samples.ALL)
@pytest.mark.parametrize("report_format", list(ReportFormat))
def test_the_same_run_gives_the_same_bytes(name: str, report_format: ReportFormat) -> None:
    first, second = (render(samples.ALL[name](), report_format) for _ in range(2))
    assert first == second
    assert first.endswith("\n")


def test_most_of_the_noise_is_named() -> None:
    survives, degrades = (scheme for scheme in parse(samples.costly())["models"][0]["schemes"].values())
    assert survives["noise"] == []
    assert degrades["noise"] == [
        {
            "tensor": "masked",
            "kind": "activation",
            "share": pytest.approx(0.754, abs=1e-3),
            "sqnr_db": 3.0,
            "node": "attention/Add",
            "op_type": "Add",
        },
        {
            "tensor": "head/bn_out",
            "kind": "weight",
            "share": pytest.approx(0.15, abs=1e-3),
            "sqnr_db": 10.0,
            "node": "head",
            "op_type": "Conv",
        },
    ]


def test_remedies_are_written_with_both_figures() -> None:
    finer, coarse = parse(samples.remedied())["models"][0]["remedies"]
    assert coarse == {
        "scheme": "int8-per-tensor",
        "nodes_to_exclude": ["stem/Conv", "stem/Relu"],
        "snippet": "quantize_static(..., nodes_to_exclude=['stem/Conv', 'stem/Relu'])",
        "tried": True,
        "before_db": 4.7,
        "after_db": 9.1,
        "before_agreement": 0.3,
        "after_agreement": 0.5,
        "verdict_before": "breaks",
        "verdict_after": "breaks",
        "samples": 32,
        "held_out": True,
        "reason": None,
        "coarse_only": True,
        "opset": None,
    }
    assert (finer["nodes_to_exclude"], finer["verdict_after"]) == ([], "survives")
    assert parse(samples.small())["models"][0]["remedies"] == []
