"""The words that settings can be."""

from __future__ import annotations

from collections.abc import Mapping

from onnxlint_q.analysis.half.tensors import FP16
from onnxlint_q.analysis.schemes import SCHEMES
from onnxlint_q.finding import Severity
from onnxlint_q.judge.verdict import Verdict

SEVERITIES: Mapping[str, Severity | None] = {**{level.value: level for level in Severity}, "none": None}
"""What `fail-on` can be."""
FAILING_VERDICTS: Mapping[str, Verdict | None] = {
    **{verdict.value: verdict for verdict in (Verdict.BREAKS, Verdict.DEGRADES)},
    "none": None,
}
"""What `fail-on-verdict` can be."""
ALL_SCHEMES = "all"
SCHEME_NAMES = (*SCHEMES, FP16)
"""What `scheme` can be, beside all of them. The last one quantises nothing."""
MODEL_KEYS = (
    "select",
    "extend-select",
    "ignore",
    "scheme",
    "target",
    "fail-on",
    "fail-on-verdict",
    "confirm-below-db",
    "verdict",
    "severity",
    "rules",
    "data",
)
"""Settings that may be those of one model."""
KEYS = (*MODEL_KEYS, "baseline", "suppress", "suppress-in-model", "rule-pages", "models")
"""All settings of a file."""
