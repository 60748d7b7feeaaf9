"""What the rules about runtimes say alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from onnxlint_q import Breach, Deployed, Facts, Location, Use, held


def figures(deployed: Deployed | None, location: Location) -> str:
    """What a run showed of an operator that differs by default, one sentence; empty where it does not."""
    if deployed is None or all(one.location != location for one in deployed.differing):
        return ""
    found = deployed.against_float
    if found is not None:
        default, plain = (_decibel(value) for value in (found.default_db, found.plain_db))
        return f"Against the float model: {default} with default options, {plain} with graph optimisation off."
    return f"On the data the default run is {_decibel(deployed.sqnr_db)} from the one with graph optimisation off."


def _decibel(value: float | None) -> str:
    return "no error" if value is None else f"{value:.1f} dB"


def tensor_of(use: Use) -> str:
    """The name of an operand: of a constant that of its codes, which the file holds."""
    return use.pair.tensor if use.operand in {"activation", "result"} else use.pair.codes


def reason(breach: Breach, facts: Facts, use: Use) -> str:
    """Why an operator cannot be as it is: `it takes one scale for the input, and 'x' has 8 along axis 1`."""
    return f"it {breach.fact.takes}, and {tensor_of(use)!r} has {held(breach.fact, facts.model, use)}"


def places(facts: Facts, uses: Sequence[Use]) -> tuple[Location, ...]:
    """Where they are, each operator once."""
    return tuple(dict.fromkeys(_located(facts, uses)))


def _located(facts: Facts, uses: Sequence[Use]) -> Iterator[Location]:
    for use in uses:
        yield facts.model.locate(use.node)
