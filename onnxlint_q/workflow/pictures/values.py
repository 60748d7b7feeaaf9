"""Plain values that pictures are drawn from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Channel:
    """One output channel of a folded weight: its number, its largest magnitude, and whether the finding is about it."""

    index: int
    width: float
    marked: bool


@dataclass(frozen=True, slots=True)
class Merged:
    """Two different weights of one channel that become one code.

    Attributes:
        low, high: the weights.
        code: of both.
        value: what the code stands for.
        step: of the scale.
    """

    low: float
    high: float
    code: int
    value: float
    step: float


@dataclass(frozen=True, slots=True)
class OnGrid:
    """The values of one channel, or of an activation, beside the steps of the codes that they get.

    Attributes:
        of: which values these are, in words.
        low, high: the ends of what is drawn.
        counts: how many values lie in each of as many equal parts of it.
        step: of the scale; values are rounded to its multiples.
        offset: a value that has a code.
        codes: how many different codes the values get.
        clip: the ends of the codes' range; None where it lies outside of what is drawn.
    """

    of: str
    low: float
    high: float
    counts: tuple[int, ...]
    step: float
    offset: float
    codes: int
    clip: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Gain:
    """One channel of a BatchNormalization, and whether the finding is about it."""

    index: int
    gamma: float
    variance: float
    gain: float
    marked: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """One operator of the graph around a finding.

    Attributes:
        op_type: with its domain where that is not the default one.
        name: as in the file.
        output: its first result.
        shape: of that, as `1×8×?`; empty where the file does not tell.
        constants: shapes of its constant inputs.
        rank: how many operators it lies behind the first ones drawn.
        focus: the finding is here.
        hidden_before, hidden_after: neighbours that are not drawn.
    """

    op_type: str
    name: str
    output: str
    shape: str
    constants: tuple[str, ...]
    rank: int
    focus: bool = False
    hidden_before: int = 0
    hidden_after: int = 0


@dataclass(frozen=True, slots=True)
class Sight:
    """The graph around a finding: operators, and from which to which data goes, by their place in `nodes`."""

    nodes: tuple[Seen, ...]
    edges: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """All that can be drawn of one finding.

    Attributes:
        channels: of the weight, the widest first; empty where the finding is about none.
        left_out: further channels.
        half_step: magnitude under which a weight becomes zero; None where each channel has its own.
        weight: one channel on the grid; None as above.
        merged: two weights of that channel; None where no two become one code.
        gains: of the BatchNormalization; empty where the finding is about none.
        activation: what a run saw of the activation; None where nothing ran, or the finding is about none.
        sight: the graph around; None where it is at no operator.
    """

    channels: tuple[Channel, ...] = ()
    left_out: int = 0
    half_step: float | None = None
    weight: OnGrid | None = None
    merged: Merged | None = None
    gains: tuple[Gain, ...] = ()
    activation: OnGrid | None = None
    sight: Sight | None = None
