"""When some samples tell the answer of a claim: the quantiles against tables, the promise against made-up samples."""

from __future__ import annotations

import numpy as np
import pytest

from onnxlint_q.analysis.outputs.output_kind import Output
from onnxlint_q.execute.variants.output_error import OutputError, OutputErrorAccumulator, Reference
from onnxlint_q.proof.budget.clear import FEWEST, is_clear, looks, student

LEVEL_DB = 20.0


def error_of(noises: np.ndarray[tuple[int], np.dtype[np.float64]]) -> OutputError:
    """Of samples with a signal of power 4 and these powers of noise."""
    sums = OutputErrorAccumulator()
    for noise in noises:
        exact = np.asarray([[1.0, -1.0, 1.0, -1.0]])
        sums.add(Reference([exact], [Output("y")]), [exact + np.sqrt(noise / 4)])
    return sums.result()


@pytest.mark.parametrize(
    ("outside", "degrees", "quantile"),
    # Abramowitz and Stegun, Handbook of Mathematical Functions, table 26.10.
    [(0.05, 7, 2.365), (0.01, 7, 3.499), (0.05, 30, 2.042), (0.01, 30, 2.750), (0.001, 60, 3.460), (0.01, 4, 4.604)],
)
def test_quantiles_are_those_of_the_table(outside: float, degrees: int, quantile: float) -> None:
    assert student(outside, degrees) == pytest.approx(quantile, rel=0.01)


def test_the_last_look_is_at_all_samples() -> None:
    assert looks(7) == (7,) and looks(32) == (32,)
    assert looks(33) == (32, 33) and looks(600) == (32, 128, 512, 600)


def test_far_from_the_level_few_samples_are_clear_and_near_it_none_are() -> None:
    random = np.random.default_rng(0)
    spread = np.exp(0.3 * random.standard_normal(32))
    assert is_clear(error_of(4 * 10**-1.0 * spread), LEVEL_DB)
    assert is_clear(error_of(4 * 10**-3.0 * spread), LEVEL_DB)
    at_level = 4 * 10**-2.0 * spread / spread.mean()
    assert not is_clear(error_of(at_level), LEVEL_DB)


def test_too_few_samples_one_noisy_sample_and_no_noise_are_never_clear() -> None:
    assert not is_clear(error_of(np.full(FEWEST - 1, 0.5)), LEVEL_DB)
    alone = np.zeros(32)
    alone[3] = 400.0
    assert not is_clear(error_of(alone), LEVEL_DB)
    assert not is_clear(error_of(np.zeros(32)), LEVEL_DB)


@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_answers_that_stop_early_are_those_of_all_samples(spread: float) -> None:
    """Levels all around what all samples say, noise that spreads up to tenfold: at most one answer of twenty errs."""
    random = np.random.default_rng(1)
    wrong = stopped = 0
    for _ in range(60):
        noises = 0.04 * np.exp(spread * random.standard_normal(600))
        whole = error_of(noises).worst_db
        assert whole is not None
        for level in whole + np.asarray([-3.0, -1.0, -0.3, 0.3, 1.0, 3.0]):
            for look in looks(600)[:-1]:
                some = error_of(noises[:look])
                if is_clear(some, float(level)):
                    assert some.worst_db is not None
                    stopped += 1
                    wrong += (some.worst_db < level) != (whole < level)
                    break
    assert stopped > 100 and wrong <= stopped / 20
