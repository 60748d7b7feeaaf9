"""Raw figures of networks beside what was measured: one row an output and scheme. Raw figures are kept in a folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import onnxlint_q
from onnxlint_q.analysis.experiment import Experiment
from onnxlint_q.analysis.measured import measure
from onnxlint_q.analysis.schemes import SCHEMES, Scheme
from onnxlint_q.errors import OnnxlintError
from onnxlint_q.execute.limits import Allowance
from onnxlint_q.execute.stream.observe import observe
from onnxlint_q.execute.variants.experiment_runs import run_experiments
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.forecast.forecast import Forecast, forecast, noise_model
from onnxlint_q.forecast.level import Scores, Traits
from onnxlint_q.forecast.traits import TOGETHER
from onnxlint_q.graph import read_model
from onnxlint_q.proof.probe import made_up

Basis = Literal["forecast", "probe"]
# What raw figures follow from; the tables themselves do not enter.
_ROOMS: Mapping[Basis, Sequence[str]] = {
    "forecast": ("graph", "analysis", "forecast"),
    "probe": ("graph", "analysis", "forecast", "execute", "proof"),
}
_TABLES = frozenset({"level.py", "level_table.py"})
_PROBED, _PROBE_SECONDS = 8, 20.0
_OLD_NAMES = {"int8-per-tensor": "per_tensor", "int8-per-channel": "per_channel"}


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
        output: its name; empty for all outputs pooled.
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
        for raw in json.loads(kept.read_text(encoding="utf-8")):
            truth = _truth(measured, raw["scheme"], raw["output"])
            if truth is not None and raw["raw_db"] is not None:
                yield Row(network, raw["scheme"], raw["output"], raw["raw_db"], _traits(raw["traits"]), *truth)


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
    said = measured.get(scheme, measured.get(_OLD_NAMES.get(scheme, "")))
    return said if said is not None and "sqnr_db" in said else None


def _truth(measured: Mapping[str, Any], scheme: str, output: str) -> tuple[float | None, float | None, float] | None:
    said = _said(measured, scheme)
    if said is None:
        return None
    if not output:
        return None if said.get("verdict", "") is None else (said["sqnr_db"], None, 0.0)
    for one in said.get("outputs", ()):
        if one["name"] == output:
            judged = one["verdict"] is not None
            return (one["sqnr_db"], one["agreement"], _worth(one)) if judged else None
    alone = said.get("sqnr_by_output_db", {}).get(output, said["sqnr_db"] if not said.get("outputs") else None)
    return None if alone is None else (alone, said.get("agreement"), 96.0)


def _worth(said: Mapping[str, Any]) -> float:
    """How many independent rows an agreement was counted on, by the length of its 95 % interval."""
    if said["agreement"] is None:
        return 0.0
    low, high = said["interval"]
    middle = (low + high) / 2
    return float(max(4 * 1.96**2 * middle * (1 - middle) / max((high - low) ** 2, 1e-6), 1.0))


def _forecast(path: Path, schemes: tuple[Scheme, ...]) -> Iterator[dict[str, Any]]:
    measured = measure(read_model(path), schemes)
    network = noise_model(measured)
    for scheme, made in forecast(network, measured.layers, measured.schemes).items():
        for output, raw_db, traits in outputs(made):
            yield {"scheme": scheme, "output": output, "raw_db": raw_db, "traits": asdict(traits)}


def outputs(made: Forecast) -> Iterator[tuple[str, float | None, Traits]]:
    """The raw figures of a forecast by output, or of all pooled where it does not tell them apart."""
    names = [name for name in made.traits if name != TOGETHER]
    if names:
        name = names[0] if len(names) == 1 else TOGETHER
        yield name, made.output_sqnr_db, made.traits[name]


def _probe(path: Path, schemes: tuple[Scheme, ...]) -> Iterator[dict[str, Any]]:
    """Every scheme as a whole on made-up inputs, as `--probe` runs them."""
    measured = measure(read_model(path), schemes)
    network = noise_model(measured)
    made = forecast(network, measured.layers, measured.schemes)
    bench = workbench(measured)
    source = made_up(bench)
    bench = bench.calibrated(observe(measured, source, _PROBED, limits=bench.limits))
    whole = [Experiment(scheme) for scheme in measured.schemes if bench.can_run(Experiment(scheme))]
    samples = partial(source.take, measured.model.inputs, _PROBED, _PROBED)
    errors = run_experiments(bench, whole, samples, allowance=Allowance(_PROBE_SECONDS, fewest=2))
    for experiment, error in errors.items():
        known = made[experiment.scheme.name].traits
        for output in error.outputs:
            traits = known.get(output.name)
            if traits is not None and output.sqnr_db is not None:
                yield {
                    "scheme": experiment.scheme.name,
                    "output": output.name,
                    "raw_db": output.sqnr_db,
                    "traits": asdict(traits),
                }
