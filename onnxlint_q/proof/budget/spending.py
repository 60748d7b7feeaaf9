"""What proving may take: claims, remedies and rewrites together, beside plain inference of the same samples.

Time is that of the processor, so that other programs on the machine change nothing. What proving does not need to know
the answer, it leaves out: a claim runs on more samples only as long as it is not clear, see `clear.py`; what else only
looks for an answer, and does not give one, runs on a few.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from onnxlint_q.execute.limits import LEAST_PROVING_SECONDS, TIMES_PLAIN, Allowance
from onnxlint_q.execute.session import Session

if TYPE_CHECKING:  # every check knows of a budget, few have samples
    from onnxlint_q.execute.data.source import Sample
    from onnxlint_q.execute.variants.variant_runs import Samples
    from onnxlint_q.execute.variants.workbench import Workbench

ENOUGH_SAMPLES = 32
"""What only looks for an answer runs on so many samples at most."""
REST = "--prove all does the rest"
"""How a line ends that tells what was left out."""
OVER_BUDGET = "budget; --prove all"
"""Why something was not run, and what runs it."""
_TIMED, _WARM = 8, 1


@dataclass(frozen=True, eq=False)
class Spending:
    """What may be taken, and what it is measured by.

    Attributes:
        left: processor time that is left for all of proving.
        seconds: how much there was; infinite where everything is to be proven.
        pass_seconds: what one variant takes on all samples of the verdict, beside the float model.
        most_samples: what looks for an answer runs on so many samples at most; None for all.
    """

    left: Allowance = field(default_factory=Allowance)
    seconds: float = math.inf
    pass_seconds: float = 0.0
    most_samples: int | None = None

    def part(self, share: float, reserved: float = 0.0, fewest: int = 1, samples: int | None = None) -> Allowance:
        """A share of what is left when so many seconds are kept for later; the rest is as of `Allowance`."""
        return Allowance(
            max(self.left.left - reserved, 0.0) * share, samples, fewest, clock=self.left.now, patience=math.inf
        )

    @property
    def is_bounded(self) -> bool:
        """Whether there is a budget at all."""
        return math.isfinite(self.seconds)

    def passes(self, wanted: int, share: float = 1.0) -> int:
        """How many of so many variants a share of what is left lets run on all samples of the verdict."""
        left = self.left.left * share
        return wanted if wanted * self.pass_seconds <= left else int(left / self.pass_seconds)

    def few(self, count: int) -> int:
        """How many of so many samples are enough to look for an answer."""
        return count if self.most_samples is None else min(count, self.most_samples)


NO_BUDGET = Spending()
"""Everything runs, on all samples."""


def first(samples: Samples, count: int | None) -> Iterator[Sample]:
    """A fresh pass over so many of the first samples; over all without a number."""
    return islice(samples(), count)


def budget(bench: Workbench, samples: Samples, count: int, pass_seconds: float) -> Spending:
    """What is usual for a network and so many samples; it starts to run now.

    Args:
        bench: the network; some of the samples run through it in float, to see how long that takes.
        samples: starts a fresh pass over them.
        count: how many there are.
        pass_seconds: as of `Spending`.

    Raises:
        NotRunnableError: ONNX Runtime cannot run the folded model.
        DataError: a sample cannot be read.
    """
    session = Session(bench.float_model, limits=bench.limits)
    taken: list[float] = []
    for sample in islice(samples(), _WARM + _TIMED):
        start = time.process_time()
        session.run(sample)
        taken.append(time.process_time() - start)
    timed = taken[_WARM:] or taken
    plain = count * sum(timed) / max(len(timed), 1)
    seconds = max(TIMES_PLAIN * plain, LEAST_PROVING_SECONDS)
    return Spending(Allowance(seconds, clock=time.process_time), seconds, pass_seconds, ENOUGH_SAMPLES)
