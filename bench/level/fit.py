"""The coefficients of a table: a maximum of the posterior, with every coefficient drawn towards nothing special.

Rows of one network count as one network, and networks of one family as the square root of their number: they err
alike. The spread is that of the errors at families that the location was not learnt on.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from onnxlint_q.forecast.expected.level import CLOSENESS, LOCATION, SPREAD, Scores, Table, linear_db, noise_strengths

from .rows import Row

Floats = npt.NDArray[np.float64]
T = TypeVar("T")
_DEGREES = 4.0
# What a coefficient is expected to be about: dB of the location, the logarithm of the spread, of log10 k.
_LOCATION_PRIOR: Mapping[str, float] = {"offset": 6.0, "each 10 dB above 15": 1.5}
_LOCATION_DEFAULT = 3.0
_SPREAD_DEFAULT, _CLOSENESS_DEFAULT = 0.6, 0.3
_TYPICAL_SPREAD_DB, _TYPICAL_CLOSENESS = 4.0, 0.0
# An observation this far down says no more than that nothing is left.
_LEAST_DB, _MOST_DB = -12.0, 60.0
_MOST_TELLING_DB = 25.0
_BENDS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
# Of the logarithm to 10 of what is lost: the law is not exact.
_MODEL_VARIANCE = 0.15**2


def learn(rows: Sequence[Row], said: str = "") -> Table:
    """The table that these rows lead to."""
    known = [row for row in rows if row.sqnr_db is not None]
    x, y = _location(known)
    weight = _weights(known)
    families = [row.network.family for row in known]
    spread: Floats = np.full(len(known), _TYPICAL_SPREAD_DB)
    z = _design(known, SPREAD, lambda row: (linear_db(row.raw_db), row.traits))
    for _ in range(2):
        b = _robust(x, y, weight, spread)
        errors = _left_out(x, y, weight, spread, families)
        c = _scale(z, errors, weight)
        spread = np.asarray(np.exp(z @ c), np.float64)
    table = Table(_named(LOCATION, b), _named(SPREAD, c), learnt_on=said)
    return _with_agreement(table, rows)


def _location(rows: Sequence[Row]) -> tuple[Floats, Floats]:
    x = _design(rows, LOCATION, lambda row: (linear_db(row.raw_db), row.traits))
    y = np.array([_linear(row.sqnr_db) - linear_db(row.raw_db) for row in rows])
    return x, y


def _linear(sqnr_db: float | None) -> float:
    assert sqnr_db is not None
    return float(np.clip(linear_db(sqnr_db), _LEAST_DB, _MOST_DB))


def _design(rows: Sequence[T], names: Mapping[str, Callable[..., float]], of: Callable[[T], tuple[Any, ...]]) -> Floats:
    return np.array([[term(*of(row)) for term in names.values()] for row in rows]).reshape(len(rows), len(names))


def _named(names: Iterable[str], values: Floats) -> dict[str, float]:
    return {name: round(float(value), 3) + 0.0 for name, value in zip(names, values, strict=True)}


def _weights(rows: Sequence[Row]) -> Floats:
    of_network = Counter(row.network.name for row in rows)
    of_family = Counter(family for _, family in {(row.network.name, row.network.family) for row in rows})
    return np.array([1 / of_network[row.network.name] / math.sqrt(of_family[row.network.family]) for row in rows])


def _robust(x: Floats, y: Floats, weight: Floats, spread: Floats) -> Floats:
    """Location of Student's t distribution: expectation maximisation with a ridge."""
    ridge = np.diag([1 / _LOCATION_PRIOR.get(name, _LOCATION_DEFAULT) ** 2 for name in LOCATION])
    b: Floats = np.zeros(x.shape[1])
    for _ in range(30):
        errors = (y - x @ b) / spread
        w = weight * (_DEGREES + 1) / (_DEGREES + errors**2) / spread**2
        b = np.asarray(np.linalg.solve((x * w[:, None]).T @ x + ridge, (x * w[:, None]).T @ y), np.float64)
    lost = list(LOCATION).index("all that varies is lost")
    if b[lost] <= 0:
        return b
    # A better figure is never a worse sign, so this may take off and not add.
    without = x.copy()
    without[:, lost] = 0
    return _robust(without, y, weight, spread)


def _left_out(x: Floats, y: Floats, weight: Floats, spread: Floats, families: Sequence[str]) -> Floats:
    """Errors of each family by what the others say."""
    errors = np.zeros(len(y))
    names = np.array(families)
    for family in sorted(set(families)):
        out = names == family
        b = _robust(x[~out], y[~out], weight[~out], spread[~out]) if (~out).any() else np.zeros(x.shape[1])
        errors[out] = y[out] - x[out] @ b
    return errors


def _scale(z: Floats, errors: Floats, weight: Floats) -> Floats:
    """Coefficients of the logarithm of the scale of Student's t distribution, by Newton steps with a ridge."""
    c = np.zeros(z.shape[1])
    c[0] = math.log(_TYPICAL_SPREAD_DB)
    centre = c.copy()
    ridge = np.diag([1 / (1.0 if name == "offset" else _SPREAD_DEFAULT) ** 2 for name in SPREAD])
    for _ in range(60):
        square = (errors / np.exp(z @ c)) ** 2
        share = (_DEGREES + 1) * square / (_DEGREES + square)
        gradient = (z * (weight * (share - 1))[:, None]).sum(axis=0) - ridge @ (c - centre)
        curve = (z * (weight * 2 * _DEGREES * share / (_DEGREES + square))[:, None]).T @ z + ridge
        c = c + np.clip(np.linalg.solve(curve, gradient), -0.5, 0.5)
    return c


def _with_agreement(table: Table, rows: Sequence[Row]) -> Table:
    """The table with what class scores add, by the measured SQNR and the measured agreement."""
    known = [row for row in rows if _tells(row)]
    if len(known) < len(CLOSENESS):
        return table
    weight, families = _weights(known), np.array([row.network.family for row in known])
    x = _design(known, CLOSENESS, lambda row: (row.traits, row.traits.scores))
    lost = np.array([_lost(row) for row in known])
    best: tuple[float, Table] | None = None
    for bend in _BENDS:
        strengths = np.array([_strengths(row, bend) for row in known])
        spread = 0.3
        for _ in range(4):
            a, cost, spread = _closeness(x, lost, strengths, weight, families, spread)
        if best is None or cost < best[0]:
            made = replace(table, closeness=_named(CLOSENESS, a), closeness_spread=round(spread, 3), bend=bend)
            best = cost, made
    assert best is not None
    return best[1]


def _closeness(
    x: Floats, lost: Floats, strengths: Floats, weight: Floats, families: npt.NDArray[Any], spread: float
) -> tuple[Floats, float, float]:
    """Coefficients of `log10 k`, how badly they fit families they were not learnt on, and the spread they have there.

    Args:
        x: what the coefficients multiply.
        lost: logarithm to 10 of what the agreement says is lost, and the variance that counting gives it.
        strengths: `r` and `(r / q)³`.
        weight: of the rows.
        families: what is left out together.
        spread: of `log10 k`, as known so far.
    """
    errors, shares = np.zeros(len(x)), np.zeros(len(x))
    for family in sorted(set(families)):
        out = families == family
        a = _newton(x[~out], lost[~out], strengths[~out], weight[~out], spread)
        made, shares[out] = _made(x[out] @ a, strengths[out])
        errors[out] = lost[out, 0] - made
    noise = lost[:, 1] + _MODEL_VARIANCE
    total = noise + (shares * spread) ** 2
    cost = float((weight * (errors**2 / total + np.log(total))).sum())
    told = shares > 0.5
    excess = float((weight * (errors**2 - noise))[told].sum() / (weight * shares**2)[told].sum())
    return _newton(x, lost, strengths, weight, spread), cost, math.sqrt(max(excess, 0.1**2))


def _newton(x: Floats, lost: Floats, strengths: Floats, weight: Floats, spread: float) -> Floats:
    """Least squares of the logarithm of what is lost, by Gauss-Newton steps with a ridge."""
    ridge = np.diag([1 / (1.0 if name == "offset" else _CLOSENESS_DEFAULT) ** 2 for name in CLOSENESS])
    a: Floats = np.zeros(x.shape[1])
    a[0] = -0.7
    centre = a.copy()
    for _ in range(15):
        made, share = _made(x @ a, strengths)
        w = weight / (lost[:, 1] + _MODEL_VARIANCE + (share * spread) ** 2)
        slope = x * share[:, None]
        gradient = (slope * w[:, None]).T @ (lost[:, 0] - made) - ridge @ (a - centre)
        a = a + np.clip(np.linalg.solve((slope * w[:, None]).T @ slope + ridge, gradient), -0.3, 0.3)
    return a


def _made(closeness: Floats, strengths: Floats) -> tuple[Floats, Floats]:
    """Logarithm to 10 of what is lost by `log10 k`, and the share of it that close calls make."""
    close = 10**closeness * strengths[:, 0]
    total = close + strengths[:, 1]
    return np.asarray(np.log10(total), np.float64), np.asarray(close / total, np.float64)


def _tells(row: Row) -> bool:
    """Whether a row tells how close the best two scores are: not where nothing is left, or hardly any row is lost."""
    scores = row.traits.scores
    if scores is None or row.agreement is None or row.sqnr_db is None or row.samples < 4:
        return False
    return -4 < row.sqnr_db + scores.contrast_db < _MOST_TELLING_DB


def _strengths(row: Row, bend: float) -> tuple[float, float]:
    assert row.traits.scores is not None
    return noise_strengths(_linear(row.sqnr_db) + row.traits.scores.contrast_db, bend)


def _lost(row: Row) -> tuple[float, float]:
    """Logarithm to 10 of what the agreement says is lost, and the variance that counting gives it."""
    scores = row.traits.scores
    assert isinstance(scores, Scores) and row.agreement is not None
    least = 1 / scores.classes
    agreement = (row.agreement * row.samples + 0.5) / (row.samples + 1)
    agreement = min(max(agreement, least + 0.02), 1 - 0.5 / (row.samples + 1))
    share = (agreement - least) / (1 - least)
    slope = 1 / (math.log(10) * share * -math.log(share) * (1 - least))
    return math.log10(-math.log(share)), agreement * (1 - agreement) / row.samples * slope**2
