"""How sure a figure is: the SQNR and the top-1 agreement that a run on data would measure, with their spread.

A forecast or a probe gives one raw figure of an output, its SQNR `x` in dB. What a run on data measures is taken to be

    y = g(g⁻¹(x) + b · t + s T),    s = exp(c · t),    T of Student's t distribution with four degrees of freedom,

where `t` are a few traits that the file tells of the network. Noise cannot grow for ever: a quantised output that
varies without relation to the float output, over a range up to twice as wide, has four times its power. So `g` is the
SQNR of `n / (1 + n / 4)` for a noise over signal of `n`, all in dB, and near -6 dB figures lie close together.

Class scores keep their largest class on the fraction

    A = 1 / K + (1 - 1 / K) exp(-k r - (r / q)³),    r = 10^(-(g⁻¹(y) + o) / 20),    log10 k of a normal distribution

of the samples: `K` classes, `r` the amplitude of the noise beside that of the scores apart from their mean over the
classes, which no choice of a class sees and which `o`, in dB, takes off, and `k` how close the two best scores are.
Small noise takes over where two scores are closer than it, a share that grows with it; all others hold until the noise
is about as large as the scores, `q`.

The coefficients `b`, `c`, `k` and `q` stand in `level_table`, with what they were learnt on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

INTERVAL = 0.80
"""How often the interval that is told holds what is measured."""
_NEAR = 2 / 3
# Figures further out say the same.
_LEAST_DB, _MOST_DB = -20.0, 80.0
_MOST_NOISE = 4.0
# `g` of the least, a little above all that noise can come to: there `g⁻¹` ends.
_FLOOR_DB = -5.85
# Where scores are close to a level of agreement, so many places of the distribution of the SQNR decide.
_PLACES = 200
# Until an agreement is known to a ten-thousandth.
_HALVINGS = 13


@dataclass(frozen=True, slots=True)
class Scores:
    """What the file tells of class scores.

    Attributes:
        classes: how many.
        contrast_db: power of the scores apart from their mean over the classes, beside all of it; at most 0.
        close: share of foreseen samples that change their class where noise is a tenth of that contrast.
        softmax: they are probabilities, not logits.
    """

    classes: int
    contrast_db: float = 0.0
    close: float = 0.05
    softmax: bool = False


@dataclass(frozen=True, slots=True)
class Traits:
    """What the file tells of one output under one scheme, beside the raw figure.

    Attributes:
        weights: share of the noise from weights; the rest is from activations.
        largest: share of the noise from the tensor that makes most of it.
        layers: how many the network has.
        attention: products of two computed values, as in attention, are among its operators.
        recurrent: an operator hands on a state along a sequence.
        images: it reads images.
        unknown: an operator is passed through without a rule.
        fraction: every value of the output lies between 0 and 1.
        varying: share of the output's power that is variance.
        scores: what the output holds, if that is class scores.
    """

    weights: float = 0.5
    largest: float = 0.2
    layers: int = 30
    attention: bool = False
    recurrent: bool = False
    images: bool = False
    unknown: bool = False
    fraction: bool = False
    varying: float = 1.0
    scores: Scores | None = None


Row = Mapping[str, float]
"""Coefficients, by the name of what they multiply."""


def _lost(u: float, traits: Traits) -> float:
    """How far the figure would lie lower if noise were not bounded by what varies in the output, in tens of dB."""
    left = 1 - 10 ** (-saturated_db(u) / 10) / (2 * max(traits.varying, 1e-6))
    return min(-math.log10(left), 1.0) if left > 0 else 1.0


# What `b` multiplies: each is about 0 for an ordinary convolutional network.
LOCATION: Mapping[str, Callable[[float, Traits], float]] = {
    "offset": lambda _u, _t: 1.0,
    "each 10 dB above 15": lambda u, _t: (u - 15) / 10,
    "noise from weights": lambda _u, t: t.weights - 0.5,
    "noise from one tensor": lambda _u, t: t.largest - 0.2,
    "each doubling of layers": lambda _u, t: math.log2(max(t.layers, 1) / 32),
    "attention": lambda _u, t: float(t.attention),
    "recurrent": lambda _u, t: float(t.recurrent),
    "no images": lambda _u, t: float(not t.images),
    "unknown operators": lambda _u, t: float(t.unknown),
    "output between 0 and 1": lambda _u, t: float(t.fraction),
    "all that varies is lost": _lost,
    "steady output": lambda _u, t: -math.log10(max(t.varying, 1e-3)),
}
# What `c` multiplies: nothing that hangs on the figure, so that a better one is never a worse sign.
SPREAD: Mapping[str, Callable[[float, Traits], float]] = {
    name: LOCATION[name]
    for name in ("offset", "noise from one tensor", "attention", "recurrent", "no images", "unknown operators")
}
# What `log10 k` is a sum of.
CLOSENESS: Mapping[str, Callable[[Traits, Scores], float]] = {
    "offset": lambda _t, _s: 1.0,
    "no images": lambda t, _s: float(not t.images),
    "each tenfold of classes": lambda _t, s: math.log10(max(s.classes, 2) / 10),
    "close calls foreseen": lambda _t, s: math.log10(max(s.close, 1e-2) / 0.05),
    "softmax": lambda _t, s: float(s.softmax),
}


@dataclass(frozen=True, slots=True)
class Table:
    """What was learnt of one kind of raw figure.

    Attributes:
        location: `b`, in dB.
        spread: `c`, of the logarithm of `s` in dB.
        closeness: of `log10 k`.
        closeness_spread: standard deviation of `log10 k`.
        bend: `q`.
        learnt_on: networks and pairs of network and scheme, in words.
    """

    location: Row = field(default_factory=dict)
    spread: Row = field(default_factory=dict)
    closeness: Row = field(default_factory=dict)
    closeness_spread: float = 0.25
    bend: float = 0.9
    learnt_on: str = ""


@dataclass(frozen=True, slots=True)
class Level:
    """The distribution of what a run would measure at one output.

    Attributes:
        centre, spread: of `g⁻¹(y)`, dB.
        classes: of class scores; None else.
        offset_db: `o`.
        closeness, closeness_spread: mean and deviation of `log10 k`.
        bend: `q`.
    """

    centre: float
    spread: float
    classes: int | None = None
    offset_db: float = 0.0
    closeness: float = 0.0
    closeness_spread: float = 0.25
    bend: float = 0.9

    @property
    def sqnr_db(self) -> float:
        """The SQNR that is as often exceeded as not."""
        return self.quantile(0.5)

    @property
    def interval_db(self) -> tuple[float, float]:
        """Four of five measurements lie in it, one of ten below and one above."""
        return self.quantile((1 - INTERVAL) / 2), self.quantile((1 + INTERVAL) / 2)

    @property
    def uncertainty_db(self) -> float:
        """Half the length of the interval that holds two thirds."""
        return (self.quantile((1 + _NEAR) / 2) - self.quantile((1 - _NEAR) / 2)) / 2

    @property
    def agreement(self) -> float | None:
        """The top-1 agreement that is as often exceeded as not; None if the output holds no class scores."""
        if self.classes is None:
            return None
        low, high, strengths = 1 / self.classes, 1.0, self._strengths()
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            most = self._most(middle, self.classes)
            below = self._closer_than(most, strengths)
            low, high = (middle, high) if below < 0.5 else (low, middle)
        return (low + high) / 2

    def quantile(self, chance: float) -> float:
        """The SQNR, dB, that a measurement stays below with this chance."""
        return saturated_db(self.centre + self.spread * student_quantile(chance))

    def below_db(self, level: float) -> float:
        """The chance that the measured SQNR is below a level."""
        return 0.0 if level <= _FLOOR_DB else student_below((linear_db(level) - self.centre) / self.spread)

    def below_agreement(self, level: float) -> float:
        """The chance that the measured agreement is below a level; 0 if the output holds no class scores."""
        if self.classes is None or level <= 1 / self.classes:
            return 0.0
        if level >= 1:
            return 1.0
        most = self._most(level, self.classes)
        return self._closer_than(most, self._strengths())

    @staticmethod
    def _most(agreement: float, classes: int) -> float:
        """The agreement is below a level where `k r + (r / q)³` is above this."""
        return -math.log((agreement - 1 / classes) / (1 - 1 / classes))

    def _strengths(self) -> list[tuple[float, float]]:
        """`r` and `(r / q)³` at places of the distribution of the SQNR that are equally likely."""
        return [
            noise_strengths(self.centre + self.spread * place + self.offset_db, self.bend) for place in _EQUALLY_LIKELY
        ]

    def _closer_than(self, most: float, strengths: Sequence[tuple[float, float]]) -> float:
        """The chance that so much is lost to noise of these strengths, each as likely."""
        centre, width = self.closeness, self.closeness_spread * math.sqrt(2)
        log10, erf = math.log10, math.erf
        # The normal distribution, written out: it is asked for some ten thousand times a network.
        return fmean(
            [
                1.0 if wide >= most else (1 + erf((centre - log10((most - wide) / close)) / width)) / 2
                for close, wide in strengths
            ]
        )


def level(sqnr_db: float, traits: Traits, table: Table) -> Level:
    """The distribution of what a run would measure, for a raw figure."""
    u = linear_db(sqnr_db)
    centre = u + _sum(table.location, {name: of(u, traits) for name, of in LOCATION.items()})
    spread = math.exp(_sum(table.spread, {name: of(u, traits) for name, of in SPREAD.items()}))
    scores = traits.scores
    if scores is None:
        return Level(centre, spread)
    closeness = _sum(table.closeness, {name: of(traits, scores) for name, of in CLOSENESS.items()})
    return Level(
        centre,
        spread,
        scores.classes,
        scores.contrast_db,
        closeness,
        table.closeness_spread,
        table.bend,
    )


def _sum(coefficients: Row, values: Row) -> float:
    return sum(value * coefficients.get(name, 0.0) for name, value in values.items())


def noise_strengths(sqnr_db: float, bend: float) -> tuple[float, float]:
    """`r` and `(r / q)³`, for noise that lies so far below the contrast of the scores."""
    r = 10 ** (-sqnr_db / 20)
    return r, (r / bend) ** 3


def saturated_db(linear: float) -> float:
    """`g`: the SQNR where noise would come to this one if it could grow without end, dB."""
    noise = 10 ** (-linear / 10)
    return -10 * math.log10(noise / (1 + noise / _MOST_NOISE))


def linear_db(sqnr_db: float) -> float:
    """`g⁻¹`, within what figures can be told apart."""
    noise = 10 ** (-min(max(sqnr_db, _FLOOR_DB), _MOST_DB) / 10)
    return max(-10 * math.log10(noise / (1 - noise / _MOST_NOISE)), _LEAST_DB)


def student_below(value: float) -> float:
    """The distribution function of Student's t with four degrees of freedom, which has a closed form."""
    part = value * value / 4
    return 0.5 + 0.375 * value / math.sqrt(1 + part) * (1 - part / (1 + part) / 3)


def student_quantile(chance: float) -> float:
    """Its inverse, for a chance between 0 and 1 (Shaw, Sampling Student's T distribution, 2006)."""
    alpha = 4 * chance * (1 - chance)
    root = math.cos(math.acos(math.sqrt(alpha)) / 3) / math.sqrt(alpha)
    return math.copysign(2 * math.sqrt(max(root - 1, 0.0)), chance - 0.5)


_EQUALLY_LIKELY = tuple(student_quantile((place + 0.5) / _PLACES) for place in range(_PLACES))
