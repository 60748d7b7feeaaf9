"""Raw figures of networks beside what was measured: one row an output and scheme. Raw figures are kept in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import onnxlint_q
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import SCHEMES, Scheme
from onnxlint_q.errors import OnnxlintError
from onnxlint_q.execute.limits import USUAL, Allowance
from onnxlint_q.execute.variants.output_error import Comparable, OutputFigures
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.forecast.expected.level import Scores, Traits
from onnxlint_q.forecast.forecast import Forecast, OutputForecast, forecast
from onnxlint_q.forecast.network import noise_model
from onnxlint_q.graph import read_model
from onnxlint_q.proof.probing.inputs import made_up
from onnxlint_q.proof.probing.plan import FEWEST, plan
from onnxlint_q.proof.probing.probe import PROBE_SECONDS, probe_schemes
from onnxlint_q.workflow.sizes import settled

Basis = Literal["forecast", "probe"]
# What raw figures follow from; the tables themselves do not enter.
_ROOMS: Mapping[Basis, Sequence[str]] = {
    "forecast": ("graph", "analysis", "forecast"),
    "probe": ("graph", "analysis", "forecast", "execute", "proof"),
}
_TABLES = frozenset({"level.py", "level_table.py"})
WORST = ""
"""In place of the name of an output."""
_OTHER_NAMES = {
    "int8-per-tensor": "per_tensor",
    "int8-per-channel": "per_channel",
    "int8-dynamic": "int8-dynamic-per-tensor",
}


@dataclass(frozen=True, slots=True)
class Network:
    """A network with its truth.

    Attributes:
        family: what is left out together: networks of one architecture, or all that were trained here on one kind of
            data, which are more alike than what users bring.
    """

    name: str
    family: str
    kind: str
    model: Path
    truth: Path


@dataclass(frozen=True, slots=True)
class Row:
    """One output under one scheme.

    Attributes:
        output: its name; empty for the worst of several, where no figure of each was measured.
        raw_db: of the forecast or the probe.
        sqnr_db: measured; None where nothing was lost.
        agreement: measured, of class scores.
        samples: rows that the agreement was counted on.
    """

    network: Network
    scheme: str
    output: str
    raw_db: float
    traits: Traits
    sqnr_db: float | None
    agreement: float | None
    samples: float


def corpus(folder: Path) -> list[Network]:
    """The networks of a corpus that have their truth."""
    listed = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return [
        Network(
            about["name"],
            about["source"].partition(",")[0] if about["source"].startswith("bench.") else about["family"],
            about["kind"],
            folder / "models" / f"{about['name']}.onnx",
            folder / "truth" / f"{about['name']}.json",
        )
        for about in listed
    ]


def held_out(models: Path, truths: Path) -> list[Network]:
    """Networks that nothing is learnt on, each a family of its own."""
    return [
        Network(path.stem, path.stem, "held out", models / f"{path.stem}.onnx", path)
        for path in sorted(truths.glob("*.json"))
    ]


def code_version(basis: Basis) -> str:
    """Changes with every file that raw figures follow from."""
    root = Path(onnxlint_q.__file__).parent
    digest = hashlib.sha256(repr([one.name for kind in (Traits, Scores) for one in fields(kind)]).encode())
    for room in _ROOMS[basis]:
        for path in sorted((root / room).rglob("*.py")):
            if path.name not in _TABLES:
                digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def rows(networks: Sequence[Network], basis: Basis, cache: Path, *, kept_only: bool = False) -> Iterator[Row]:
    """All rows that have both figures; raw ones from the cache where this version of the code has made them.

    With `kept_only` those of other networks are left out, not made.
    """
    cache = cache / f"{basis}-{code_version(basis)}"
    cache.mkdir(parents=True, exist_ok=True)
    for network in networks:
        kept = cache / f"{network.name}.json"
        measured = json.loads(network.truth.read_text(encoding="utf-8"))["end_to_end"]
        if not kept.exists():
            if kept_only:
                continue
            schemes = tuple(scheme for name, scheme in SCHEMES.items() if _said(measured, name) is not None)
            kept.write_text(json.dumps(_raw(network, basis, schemes)), encoding="utf-8")
        made = json.loads(kept.read_text(encoding="utf-8"))
        for scheme in dict.fromkeys(raw["scheme"] for raw in made):
            for raw, truth in _matched(measured, scheme, [raw for raw in made if raw["scheme"] == scheme]):
                sqnr_db, agreement, samples = truth
                traits = _traits(raw["traits"])
                # Some truths have one agreement for a model with other outputs beside its scores.
                agreement = None if traits.scores is None else agreement
                yield Row(network, scheme, raw["output"], raw["raw_db"], traits, sqnr_db, agreement, samples)


def _raw(network: Network, basis: Basis, schemes: tuple[Scheme, ...]) -> list[dict[str, Any]]:
    try:
        return list(_forecast(network.model, schemes) if basis == "forecast" else _probe(network.model, schemes))
    except OnnxlintError as error:
        print(f"{network.name}: {error}", flush=True)
        return []


def _traits(said: dict[str, Any]) -> Traits:
    scores = said.pop("scores")
    return Traits(**said, scores=None if scores is None else Scores(**scores))


def _said(measured: Mapping[str, Any], scheme: str) -> Mapping[str, Any] | None:
    said = measured.get(scheme, measured.get(_OTHER_NAMES.get(scheme, "")))
    return said if said is not None and "sqnr_db" in said else None


Truth = tuple[float | None, float | None, float]
"""SQNR, agreement and the rows that it was counted on."""


def _matched(
    measured: Mapping[str, Any], scheme: str, made: Sequence[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], Truth]]:
    """Raw figures of a scheme with what was measured: of single outputs, else of the worst."""
    said = _said(measured, scheme)
    if said is None:
        return
    named = [(raw, _truth(said, raw["output"], alone=len(made) == 1)) for raw in made if raw["output"] != WORST]
    found = [(raw, truth) for raw, truth in named if truth is not None]
    # A verdict of none: nothing could be compared.
    if not found and said.get("verdict", "") is not None:
        worst = said.get("sqnr_worst_db", said["sqnr_db"])
        found = [(raw, (worst, None, 0.0)) for raw in made if raw["output"] == WORST]
    yield from found


def _truth(said: Mapping[str, Any], output: str, *, alone: bool) -> Truth | None:
    for one in said.get("outputs", ()):
        if one["name"] == output:
            judged = one["verdict"] is not None
            return (one["sqnr_db"], one["agreement"], _worth(one)) if judged else None
    found = said["sqnr_db"] if alone and not said.get("outputs") else None
    found = said.get("sqnr_by_output_db", {}).get(output, found)
    return None if found is None else (found, said.get("agreement"), 96.0)


def _worth(said: Mapping[str, Any]) -> float:
    """How many independent rows an agreement was counted on, by the length of its 95 % interval."""
    if said["agreement"] is None:
        return 0.0
    low, high = said["interval"]
    middle = (low + high) / 2
    return float(max(4 * 1.96**2 * middle * (1 - middle) / max((high - low) ** 2, 1e-6), 1.0))


def _forecast(path: Path, schemes: tuple[Scheme, ...]) -> Iterator[dict[str, Any]]:
    model, _ = settled(read_model(path), {}, None)
    measured = measure(model, schemes)
    network = noise_model(measured)
    for scheme, made in forecast(network, measured.layers, measured.schemes).items():
        for output, raw_db, traits in outputs(made):
            yield {"scheme": scheme, "output": output, "raw_db": raw_db, "traits": asdict(traits)}


def outputs(made: Forecast) -> Iterator[tuple[str, float, Traits]]:
    """The raw figures of a forecast: of each output as a whole, by name, as that is what was measured; of the worst."""
    told = [(one.sqnr_db, made.traits[one.name, ""], one.name) for one in made.outputs.values()]
    known = [(sqnr_db, traits, name) for sqnr_db, traits, name in told if sqnr_db is not None]
    for sqnr_db, traits, name in known:
        yield name, sqnr_db, traits
    if len(known) > 1:
        sqnr_db, traits, _ = min(known, key=lambda one: one[0])
        yield WORST, sqnr_db, traits


def _probe(path: Path, schemes: tuple[Scheme, ...]) -> Iterator[dict[str, Any]]:
    """Every scheme as a whole on made-up inputs, as `--probe` runs them."""
    model, _ = settled(read_model(path), {}, None, USUAL)
    measured = measure(model, schemes)
    network = noise_model(measured)
    made = forecast(network, measured.layers, measured.schemes)
    bench = workbench(measured)
    source = made_up(bench)
    count = plan(measured, source.shapes_made(measured.model.inputs)).whole
    errors = probe_schemes(bench, source, count, Allowance(PROBE_SECONDS, fewest=FEWEST), PROBE_SECONDS)
    for experiment, error in errors.items():
        scheme = experiment.scheme.name
        probed = {one.name: _left(one) for one in error.outputs if one.comparable is Comparable.YES}
        for output, raw_db, traits in outputs(replace(made[scheme], outputs=probed)):
            yield {"scheme": scheme, "output": output, "raw_db": raw_db, "traits": asdict(traits)}


def _left(figures: OutputFigures) -> OutputForecast:
    """What a probe left of an output, in the form of a forecast."""
    return OutputForecast(figures.name, figures.sqnr_db, tuple(map(_left, figures.parts)))
