"""What findings about a layer's weight say of its causes."""

from __future__ import annotations

from pathlib import Path

from onnxlint_q.analysis.schemes import DEFAULT_SCHEMES
from onnxlint_q.finding import Finding
from onnxlint_q.graph import read_model
from onnxlint_q.judge.facts import facts_of
from onnxlint_q.judge.registry import load_rules

CODES = {"QW001", "QW002", "QW003", "QB001", "QB002"}


def findings(path: Path) -> dict[str, list[Finding]]:
    facts = facts_of(read_model(path), DEFAULT_SCHEMES)
    return {
        entry.rule.code: list(entry.rule().findings(facts)) for entry in load_rules() if entry.rule.code.startswith("Q")
    }


def test_all_rules_tell_one_damage_with_one_chain(models: Path) -> None:
    found = findings(models / "near_zero_variance.onnx")
    flagged = {code: said for code, said in found.items() if said}
    assert set(flagged) == {"QB002", "QW001", "QW003"}
    chains = {finding.causes for said in flagged.values() for finding in said}
    assert len(chains) == 1
    still, folding, owner, collapsed, cure = chains.pop()
    assert still == (
        "BatchNorm channel 7 is almost constant (variance 1.0e-09, usually 0.74), yet folding multiplies its weights "
        "by 346× the usual gain."
    )
    assert folding == (
        "Folding takes the widest channel from 1.4× to 346× the median one; mean channel SQNR falls from 44 to 2 dB."
    )
    assert owner == "Channel 7 alone sets the int8 scale; a typical channel keeps 1 of 255 codes."
    assert collapsed.startswith("18 of 24 channels round to zero, because their weights are all under half a step: ")
    assert cure == (
        "Cure: set the weights of channel 7 to zero and the bias to beta; mean channel SQNR rises from 2 to 42 dB."
    )
    assert {finding.claim for said in flagged.values() for finding in said} == {found["QB002"][0].claim}


def test_channels_that_vary_behind_the_norm_are_not_to_be_removed(models: Path) -> None:
    found = findings(models / "depthwise_spread.onnx")["QB002"]
    assert len(found) == 3
    for finding in found:
        assert finding.cure is None
        assert finding.remedy.startswith("Do not remove these channels")
        assert not any(cause.startswith("Cure") for cause in finding.causes)


def test_rules_about_something_else_have_no_chain(models: Path) -> None:
    for model, code in (("in_channel_outlier", "QW004"), ("unfolded_bn", "QB003"), ("qdq_invalid_scale", "QP002")):
        others = {code: said for code, said in findings(models / f"{model}.onnx").items() if said and code not in CODES}
        assert others.keys() - {"QR004"} == {code}  # that one is about speed
        assert not any(finding.causes for said in others.values() for finding in said)
