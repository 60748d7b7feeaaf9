"""Whether a network needs one scale a channel."""

from __future__ import annotations

from onnxlint_q import INT8_PER_CHANNEL, INT8_PER_TENSOR, Facts, Verdict, VerdictLevels


def needs_channels(facts: Facts, gain_db: float) -> bool:
    """Whether one scale a tensor loses too much, and one a channel loses `gain_db` (dB) less, as far as is known."""
    if INT8_PER_TENSOR not in facts.schemes:
        return True  # nothing but one scale a channel was asked for
    coarse, fine = (_lost_db(facts, scheme.name) for scheme in (INT8_PER_TENSOR, INT8_PER_CHANNEL))
    return coarse is not None and (fine is None or fine > coarse + gain_db)


def _lost_db(facts: Facts, scheme: str) -> float | None:
    """SQNR (dB) at the output under a scheme that the network does not survive; None where it does, or none is known.

    What was measured on data says so by its costs, else it is the forecast.
    """
    if facts.observations is not None:
        return facts.costs[scheme].whole_db if scheme in facts.costs else None
    known = facts.forecasts.get(scheme)
    expected = known.level() if known is not None else None
    if known is None or expected is None:
        return None
    chances = VerdictLevels().chances_of(known.levels)
    return None if chances is None or chances.likeliest is Verdict.SURVIVES else expected.sqnr_db
