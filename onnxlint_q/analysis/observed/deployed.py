"""How ONNX Runtime runs a quantised file where nothing else is asked for: plain values that a run fills, rules read.

By default ONNX Runtime puts an integer kernel in the place of an operator between quantise-dequantise pairs. The kernel
has limits that the pairs do not have, and reads some of their parameters in its own way. *Plain* is the same file with
its operators computed as ONNX defines them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from onnxlint_q.finding import Location

ROUNDING_DB = 30.0
"""SQNR (dB) of the default run against the plain one above which their difference is one of rounding.

One operator, on the same codes: a kernel that rounds to another code now and then leaves over 40 dB.
"""


@dataclass(frozen=True, slots=True)
class Refused:
    """The default run that failed.

    Attributes:
        loads: whether the file loads, so that it is the run which fails.
        reason: of ONNX Runtime, in one line.
        location: of the operator that it names or that fails alone; without a node where neither is known.
        plainly: whether the file runs where no kernel is put in the place of pairs.
    """

    loads: bool
    reason: str
    location: Location
    plainly: bool


@dataclass(frozen=True, slots=True)
class Differing:
    """An operator that alone, on the same codes, gives something else by default.

    Attributes:
        location: of the operator.
        tensor: key of its result.
        sqnr_db: of the default result against the plain one; infinite values count as -150 dB.
    """

    location: Location
    tensor: str
    sqnr_db: float


@dataclass(frozen=True, slots=True)
class AgainstFloat:
    """What either run leaves at the worst output, against the float model; dB, None where nothing is lost."""

    default_db: float | None
    plain_db: float | None


@dataclass(frozen=True, slots=True)
class Deployed:
    """One quantised file with default options, beside its plain run, on a few samples.

    Attributes:
        version: of ONNX Runtime.
        samples: how many.
        refused: why there is no default run; None where there is one.
        sqnr_db: at the worst output, of the default run against the plain one; None where they are the same.
        differing: operators that make the difference, in data order; empty where it is one of rounding.
        against_float: both runs against the float model; None outside of `compare`, and where they do not differ.
    """

    version: str
    samples: int
    refused: Refused | None = None
    sqnr_db: float | None = None
    differing: tuple[Differing, ...] = field(default=())
    against_float: AgainstFloat | None = None
