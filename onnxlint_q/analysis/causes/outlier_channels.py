"""Channels of an activation that take nearly all codes of the one scale that all channels share.

    width_c = high_c - low_c,        ratio = (max_c high_c - min_c low_c) / median_c width_c

with the ends of the tensor widened to contain zero, as a quantiser does. The outliers are the few channels that reach
furthest, without which the range would be a quarter at most: two bits for all others. It is the picture of Dettmers et
al., LLM.int8(), arXiv 2208.07339, section 4.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from onnxlint_q.analysis.observed.observations import ChannelObservation

# With fewer channels the median says little; where more than this share is wide, the width is no outlier.
_FEWEST = 8
_FEW = 1 / 16
_RELIEF = 4.0


@dataclass(frozen=True, slots=True)
class Outliers:
    """The outlier channels of one tensor.

    Attributes:
        channels: their indices, the widest first.
        ratio: range of the tensor over the width of the median channel.
        relief: range of the tensor over the range of the other channels together.
        size: how many channels it has.
    """

    channels: tuple[int, ...]
    ratio: float
    relief: float
    size: int


def outlier_channels(seen: ChannelObservation, least_ratio: float) -> Outliers | None:
    """The outlier channels of a tensor, None where it has none.

    Args:
        seen: the smallest and largest value of each channel.
        least_ratio: range over the median channel's width from which a tensor counts.
    """
    if seen.low.size < _FEWEST or not (np.isfinite(seen.low).all() and np.isfinite(seen.high).all()):
        return None
    low, high = np.minimum(seen.low, 0), np.maximum(seen.high, 0)
    reach = np.maximum(-low, high)
    whole, median = float(high.max() - low.min()), float(np.median(seen.high - seen.low))
    if not median > 0 or whole < least_ratio * median:
        return None
    ordered = np.argsort(-reach, kind="stable")
    most = max(int(seen.low.size * _FEW), 1)
    left = [float(high[ordered[count:]].max() - low[ordered[count:]].min()) for count in range(most + 1)]
    # As many as it takes until one more would hardly narrow the range.
    count = next((count for count in range(1, most + 1) if left[count] <= whole / _RELIEF), 0)
    while 0 < count < most and left[count + 1] <= left[count] / 2:
        count += 1
    if not count:
        return None
    return Outliers(tuple(map(int, ordered[:count])), whole / median, whole / left[count], seen.low.size)


def sharing(found: Mapping[str, Outliers]) -> Iterator[tuple[str, ...]]:
    """Tensors in groups, in the order given: the widest channel of either is an outlier of the other.

    What enters a residual stream returns in all that is computed from it, in the same channels. Tensors with other
    numbers of channels are of other streams.
    """
    if not found:
        return
    import networkx as nx  # noqa: PLC0415 - only who asks for its algorithms waits for it

    joined = nx.Graph()
    joined.add_nodes_from(found)
    widest: dict[tuple[int, int], list[str]] = {}
    for tensor, outliers in found.items():
        widest.setdefault((outliers.size, outliers.channels[0]), []).append(tensor)
    for (size, channel), alike in widest.items():
        nx.add_path(joined, alike)
        wide = {other for tensor in alike for other in found[tensor].channels}
        for other in wide - {channel}:
            akin = [tensor for tensor in widest.get((size, other), ()) if channel in found[tensor].channels]
            back = [tensor for tensor in alike if other in found[tensor].channels]
            nx.add_path(joined, [*akin[:1], *back[:1]])
    told = set[str]()
    for tensor in found:
        if tensor not in told:
            part = nx.node_connected_component(joined, tensor)
            told |= part
            yield tuple(other for other in found if other in part)
