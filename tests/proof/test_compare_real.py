"""Comparisons of public networks, where they lie beside the checkout."""

from __future__ import annotations

import pytest
from conftest import SHARED, public_network

from onnxlint_q.execute.data.preprocess import preset
from onnxlint_q.execute.data.sources import open_source
from onnxlint_q.judge.config import Config
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.judge.verdict import Verdict
from onnxlint_q.workflow.check import Job
from onnxlint_q.workflow.compare import CompareRequest, compare
from onnxlint_q.workflow.comparison import (
    Comparison,
)

IMAGES = SHARED / "images" / "imagenet"
pytestmark = pytest.mark.skipif(not IMAGES.is_dir(), reason="needs the public networks and photos of ../shared")


def found(reference: str, quantised: str, samples: int = 4) -> Comparison:
    source = open_source(str(IMAGES), preset("imagenet"))
    rules = Config().build([entry.rule for entry in load_rules()])
    job = Job(public_network(quantised), Config(), rules)
    return compare(public_network(reference), job, CompareRequest(source, samples))


def test_a_public_file_whose_input_is_quantised_for_pixels() -> None:
    broken = found("mobilenetv2_tv_folded.onnx", "mobilenetv2_tv_qdq_v7_bad.onnx")
    assert [row.op_type for row in broken.jumps] == ["Input"]
    assert not broken.unpaired_quantized and len(broken.rows) == 66
    held = broken.jumps[0].qparams
    assert held is not None and held.span_ratio is not None and held.span_ratio > 50 and held.used_codes < 7


def test_the_same_network_quantised_at_run_time_is_quiet() -> None:
    pair = found("mobilenetv2_tv_folded.onnx", "mobilenetv2_edgeai_dyn.onnx")
    assert not pair.jumps and pair.result.verdict is Verdict.SURVIVES


def test_a_qoperator_detector_is_paired_whole() -> None:
    pair = found("nanodet_m.onnx", "nanodet_m_int8.onnx", 1)
    assert len(pair.rows) == 242 and not pair.unpaired_quantized and not pair.unpaired_reference
    assert not pair.not_compared and len({row.reference for row in pair.rows}) == 242
