"""The words that a shell completes, copied from tables that take a second to import."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from onnxlint_q.analysis.observed.observers import OBSERVERS
from onnxlint_q.analysis.targets import TARGETS, read_target
from onnxlint_q.cli.words.data import MEASURES
from onnxlint_q.execute.data.preprocess import CHANNEL_ORDERS, LAYOUTS, PRESETS
from onnxlint_q.execute.limits import PROVING
from onnxlint_q.judge.config import ALL_SCHEMES, FAILING_VERDICTS, SCHEME_NAMES, SEVERITIES
from onnxlint_q.judge.own_findings import OWN_FINDINGS
from onnxlint_q.judge.registry import load_rules
from onnxlint_q.report import ReportFormat, diff, fix, quantize
from onnxlint_q.report import inspect as inspection
from onnxlint_q.rewrite.table import REWRITES
from onnxlint_q.workflow.reading.columns import COLUMNS


def vocabulary() -> str:
    """The words that a shell completes, by kind, each with a few words on it where there are any."""
    rules = [entry.rule for entry in load_rules() if entry.rule.__module__.startswith("onnxlint_q_rules.")]
    plain: Mapping[str, Iterable[str]] = {
        "channel_orders": CHANNEL_ORDERS,
        "columns": COLUMNS,
        "diff_formats": diff.FORMATS,
        "fix_formats": fix.FORMATS,
        "formats": ReportFormat,
        "inspect_formats": inspection.FORMATS,
        "layouts": LAYOUTS,
        "measures": MEASURES,
        "observers": OBSERVERS,
        "presets": PRESETS,
        "proving": PROVING,
        "quantize_formats": quantize.FORMATS,
        "schemes": [*SCHEME_NAMES, ALL_SCHEMES],
        "severities": SEVERITIES,
        "verdicts": FAILING_VERDICTS,
    }
    words = {kind: {str(word): "" for word in known} for kind, known in plain.items()}
    words["own_findings"] = {kind.code: kind.name for kind in OWN_FINDINGS}
    words["rewrites"] = {one.name: one.what for one in REWRITES}
    words["rules"] = {rule.code: rule.name for rule in rules}
    words["targets"] = {name: read_target(name).title for name in TARGETS}
    return json.dumps(words, indent=1) + "\n"
