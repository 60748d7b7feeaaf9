"""A recipe: all that decides how a float model becomes a quantised file, written down so that it can be done again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxlint_q.analysis.schemes import SCHEMES, Scheme
from onnxlint_q.errors import UsageError

Range = tuple[float, float]
DATA, SYNTHETIC = "data", "synthetic inputs"
"""What ranges come from."""
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one float model is quantised.

    Attributes:
        scheme: formats, and who shares a scale.
        ranges: smallest and largest value that an activation is quantised for, by tensor; empty where no scale comes
            from calibration.
        observer: where these come from, for people.
        excluded: names of nodes that stay in float.
        wide: tensors whose codes have 16 bits.
        keeps_activations: whether each Relu and Clip stays, because a subgraph reads what it makes.
        shifts: what is added to the biases of layers before that, one value a channel, by layer.
        rounded: by layer, how many steps each code of its weight is from the nearest one: signed bytes, packed with
            zlib, in base64.
        basis: what ranges and shifts come from, `DATA` or `SYNTHETIC`; empty where no scale comes from calibration.
    """

    scheme: Scheme
    ranges: Mapping[str, Range] = field(default_factory=dict)
    observer: str = ""
    excluded: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    keeps_activations: bool = False
    shifts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    rounded: Mapping[str, str] = field(default_factory=dict)
    basis: str = ""

    def as_json(self) -> dict[str, Any]:
        """The recipe in plain values; what follows from the name of the scheme is written out for other programs."""
        scheme = self.scheme
        return {
            "version": _VERSION,
            "scheme": scheme.name,
            "quantizer": scheme.quantizer.value,
            "weights": scheme.weights.name,
            "activations": scheme.activations.name if scheme.activations is not None else None,
            "per_channel": scheme.per_channel,
            "block_size": scheme.sharing.block_size or None,
            "observer": self.observer or None,
            "basis": self.basis or None,
            "excluded": list(self.excluded),
            "wide": list(self.wide),
            "keeps_activations": self.keeps_activations,
            "ranges": {tensor: list(ends) for tensor, ends in self.ranges.items()},
            "shifts": {layer: list(values) for layer, values in self.shifts.items()},
            "rounded": dict(self.rounded),
        }

    @classmethod
    def from_json(cls, held: object, where: str) -> Recipe:
        """A recipe from plain values, as they come from a file.

        Args:
            held: what was read.
            where: the file, for messages.

        Raises:
            UsageError: it is no recipe.
        """
        given = held if isinstance(held, dict) else {}
        version, name, observer, basis = (given.get(key) for key in ("version", "scheme", "observer", "basis"))
        if not isinstance(version, int) or not isinstance(name, str):
            raise UsageError(f"{where}: no recipe: it needs `version` and `scheme`; `quantize` writes one")
        if version != _VERSION:
            raise UsageError(f"{where}: a recipe of version {version}; this program knows version {_VERSION}")
        if name not in SCHEMES:
            raise UsageError(f"{where}: `scheme` is {name!r}; choose from {', '.join(SCHEMES)}")
        numbers = {key: _numbers(given.get(key, {}), where, key) for key in ("ranges", "shifts")}
        for tensor, ends in numbers["ranges"].items():
            if len(ends) != 2 or ends[0] > ends[1]:
                raise UsageError(f"{where}: `ranges` of {tensor!r} is not a smallest and a largest value")
        return cls(
            SCHEMES[name],
            {tensor: (low, high) for tensor, (low, high) in numbers["ranges"].items()},
            observer if isinstance(observer, str) else "",
            _names(given.get("excluded", []), where, "excluded"),
            _names(given.get("wide", []), where, "wide"),
            given.get("keeps_activations") is True,
            numbers["shifts"],
            _texts(given.get("rounded", {}), where, "rounded"),
            basis if isinstance(basis, str) else "",
        )


def _names(held: object, where: str, key: str) -> tuple[str, ...]:
    if not isinstance(held, list) or not all(isinstance(one, str) for one in held):
        raise UsageError(f"{where}: `{key}` is not a list of names")
    return tuple(held)


def _texts(held: object, where: str, key: str) -> dict[str, str]:
    if not isinstance(held, dict) or not all(isinstance(text, str) for text in held.values()):
        raise UsageError(f"{where}: `{key}` does not give each name a text")
    return held


def _numbers(held: object, where: str, key: str) -> dict[str, tuple[float, ...]]:
    if not isinstance(held, dict) or not all(isinstance(row, list) for row in held.values()):
        raise UsageError(f"{where}: `{key}` does not give each name a list of numbers")
    for name, row in held.items():
        if not all(type(one) in {int, float} and math.isfinite(one) for one in row):
            raise UsageError(f"{where}: `{key}` of {name!r} holds something that is no finite number")
    return {name: tuple(map(float, row)) for name, row in held.items()}
