"""Where costs are counted: each output by itself, and each thing that an output joins.

One sweep brings back the costs of all of them. Each has some of the images for itself: only in these do its random
signs start, so an image tells what an error costs at one end. The images are alike, so this takes no more time than one
end; with more ends each has fewer images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from onnxlint_q.analysis.outputs.output_kind import Output, Part
from onnxlint_q.forecast.noise import LEFT_OUT
from onnxlint_q.forecast.population import IMAGES, Samples, per_image, positions_of
from onnxlint_q.forecast.transfer import ByImage, random_signs

# Fewer images than this say too little of an end; the noise of wide layers is taken from every so many images.
_FEWEST = IMAGES // 8
# Signals of less power than this, on average over the samples, are none.
_NOTHING = 1e-30


@dataclass(frozen=True, slots=True)
class End:
    """One output, or a part of one.

    Attributes:
        output: its name.
        part: which; None for all of it.
        power: of the signal, in an image's sample.
        varying: share of it that is variance.
        weight: of its noise over signal in the mean over the outputs.
        images: those that carry its rows.
    """

    output: str
    part: Part | None
    power: float
    varying: float
    weight: float
    images: slice

    def rows(self, draw: np.random.Generator, samples: Samples) -> Samples:
        """What the sweep starts from at the output; zero in the images of other ends."""
        rows = np.zeros(samples.shape, np.float32)
        here = _view(per_image(rows), self.part, lead=2)[self.images]
        here[:] = random_signs(draw, here.shape) / np.float32(np.sqrt(self.power * positions_of(samples)))
        return rows


def find_ends(outputs: Sequence[Output], samples: Mapping[str, Samples]) -> tuple[End, ...]:
    """The ends of a network, those without a signal left out.

    Where there are too many, outputs are not taken apart; those that are too many then share the images of others.

    Args:
        outputs: what they hold.
        samples: by tensor key.
    """
    known = {output.name: output for output in outputs if output.name in samples}
    apart = [(name, part) for name, output in known.items() for part in _parts(output, samples[name])]
    whole: list[tuple[str, Part | None]] = [(name, None) for name in known]
    found = apart if len(apart) * _FEWEST <= IMAGES else whole
    powers = [_power(_view(samples[name], part)) for name, part in found]
    live = [(name, part, power) for (name, part), power in zip(found, powers, strict=True) if power > _NOTHING]
    totals: dict[str, float] = {}
    for name, _, power in live:
        totals[name] = totals.get(name, 0.0) + power
    places = min(len(live), IMAGES // _FEWEST)
    bounds = np.linspace(0, IMAGES, max(places, 1) + 1).astype(int)
    return tuple(
        End(
            name,
            part,
            power,
            varying_share(_view(samples[name], part)),
            power / totals[name] / len(totals),
            slice(int(bounds[at % places]), int(bounds[at % places + 1])),
        )
        for at, (name, part, power) in enumerate(live)
    )


def ends_in(ends: Sequence[End], samples: Mapping[str, Samples], other: Mapping[str, Samples]) -> tuple[End, ...]:
    """The same ends where the network takes other branches, each with the power of its signal there.

    Those that have no signal there, or one of another shape, are left out.

    Args:
        ends: as found in `samples`.
        samples: by tensor key.
        other: those of the other branches.
    """
    kept: list[End] = []
    for end in ends:
        made = other.get(end.output)
        power = _power(_view(made, end.part)) if made is not None and made.shape == samples[end.output].shape else 0.0
        if power > _NOTHING:
            kept.append(replace(end, power=power))
    return tuple(kept)


def by_end(ends: Sequence[End], powers: ByImage) -> npt.NDArray[np.float64]:
    """The mean over the images of each end, those that were `LEFT_OUT` apart."""
    return np.array([float(here[here != LEFT_OUT].mean()) for here in (powers[end.images] for end in ends)])


def pooled(ends: Sequence[End], noise: npt.NDArray[np.float64]) -> float:
    """Noise over signal, averaged over the outputs."""
    return float(sum(end.weight * each for end, each in zip(ends, noise, strict=True)))


def varying_share(samples: Samples) -> float:
    """Share of the power of a tensor that is variance."""
    with np.errstate(all="ignore"):
        power = float((samples.astype(np.float64) ** 2).mean())
        return float(samples.var(axis=0, dtype=np.float64).mean()) / power if power > 0 else 1.0


def _parts(output: Output, samples: Samples) -> Sequence[Part | None]:
    """Those that the samples tell apart; the whole where they do not."""
    return output.parts_of(samples.shape[1:]) or (None,)


def _view(samples: Samples, part: Part | None, lead: int = 1) -> Samples:
    return samples if part is None else part.within(samples, lead)


def _power(samples: Samples) -> float:
    with np.errstate(all="ignore"):
        return float((samples.astype(np.float64) ** 2).sum()) / len(samples)
