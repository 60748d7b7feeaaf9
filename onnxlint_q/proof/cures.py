"""The test of each cure: the cured float model beside the float model, and the cured weight quantised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from onnxlint_q.analysis.schemes import SCHEMES, Scheme
from onnxlint_q.execute.executable import Executable, folded
from onnxlint_q.execute.variants.output_error import OutputError
from onnxlint_q.execute.variants.quantized import with_weight
from onnxlint_q.finding import Cure, Finding
from onnxlint_q.judge.facts import Facts
from onnxlint_q.rewrite.constant_channels import zeroed

# A thousandth of the output's amplitude: a twentieth of the noise of an 8-bit output of full range.
EXACT_DB = 60.0


def cure_variants(facts: Facts, findings: Sequence[Finding]) -> dict[str, Callable[[], Executable]]:
    """By key two variants a cure: in float, and with the cured weight alone quantised."""
    cures = {finding.cure for finding in findings if finding.cure is not None}
    return {
        _key(cure, scheme): partial(_variant, facts, cure, scheme)
        for cure in sorted(cures, key=lambda cure: (cure.layer, cure.channels, cure.scheme))
        if _applies(facts, cure)
        for scheme in (None, SCHEMES[cure.scheme])
    }


def cure_tried(finding: Finding, errors: Mapping[str, OutputError]) -> Finding:
    """The finding with what its cure did, where it was tried and the outputs can be compared."""
    if finding.cure is None:
        return finding
    exact = errors.get(_key(finding.cure, None))
    quantised = errors.get(_key(finding.cure, SCHEMES[finding.cure.scheme]))
    if exact is None or quantised is None or not exact.has_signal:
        return finding
    if exact.sqnr_db is None and quantised.sqnr_db is None:
        # Nothing changed however the layer was treated, as where the branch that it is in did not run.
        return finding
    metrics = {**finding.metrics, "cure_float_sqnr_db": exact.sqnr_db, "cured_sqnr_db": quantised.sqnr_db}
    if exact.sqnr_db is not None and exact.sqnr_db < EXACT_DB:
        said = (
            f"The cure fails: with these channels zeroed the float outputs have {exact.sqnr_db:.0f} dB, so on these "
            "samples the channels are not constant."
        )
    else:
        same = "are identical" if exact.sqnr_db is None else f"have {exact.sqnr_db:.0f} dB"
        now = f" instead of {finding.measured_db:.1f} dB" if finding.measured_db is not None else ""
        left = "no noise" if quantised.sqnr_db is None else f"{quantised.sqnr_db:.1f} dB"
        said = (
            f"The cure holds: with these channels zeroed the float outputs {same}, and the cured weight quantised "
            f"alone leaves {left}{now}."
        )
    return replace(finding, metrics=metrics, note=f"{finding.note} {said}".strip())


def _applies(facts: Facts, cure: Cure) -> bool:
    """A rule may come from anybody, and so may the channels that it names."""
    layer = facts.layer_by_output.get(cure.layer)
    norm = layer.folded.after if layer is not None else None
    return norm is not None and all(0 <= channel < norm.gamma.size for channel in cure.channels)


def _variant(facts: Facts, cure: Cure, scheme: Scheme | None) -> Executable:
    cured = replace(
        facts,
        layers=tuple(
            replace(layer, folded=zeroed(layer.folded, cure.channels)) if layer.output == cure.layer else layer
            for layer in facts.layers
        ),
    )
    base = folded(cured)
    return base if scheme is None else with_weight(base, cured, [cured.layer_by_output[cure.layer]], scheme)


def _key(cure: Cure, scheme: Scheme | None) -> str:
    return f"cure|{scheme.name if scheme else 'float'}|{cure.layer}|{cure.channels}"
