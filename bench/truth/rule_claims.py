"""How often what a rule says holds when it is tried: confirmed and refuted findings of every rule, by network.

    python bench/truth/rule_claims.py MODELS IMAGES INPUTS OUT [--only NAME ...]

Every model of MODELS is linted on data, with all claims proven: on `INPUTS/NAME.npz` where there is one, else on the
pictures of IMAGES if the network is named in `truth_table.HOW` or takes pictures of 224 x 224. OUT gets the number
of findings by network, rule, severity and evidence; docs/generate.py makes the table of rules from
results/rule_claims.json.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from truth_table import HOW

import onnxlint_q
from onnxlint_q.execute.data.preprocess import preset

IMAGENET = ("mobilenetv2_tv_folded", "mobilenetv2_tv_qdq_v7_bad", "resnet20_cifar10_bn", "squeezenet11_float")
SAMPLES = 16


def tried(model: Path, images: Path, inputs: Path) -> dict[str, dict[str, int]] | None:
    """Findings by rule code and evidence; None for a network without data of its own."""
    arrays = inputs / f"{model.stem}.npz"
    if arrays.exists():
        data, how = arrays, None
    elif model.stem in HOW or model.stem in IMAGENET:
        data, how = images, HOW.get(model.stem, preset("imagenet"))
    else:
        return None
    result = onnxlint_q.lint(model, data, preprocess=how, samples=SAMPLES, prove="all")
    if result.untested_because:
        print(f"{model.stem}: not run, {result.untested_because}")
        return None
    counted: dict[str, Counter[str]] = {}
    for finding in result.findings:
        counted.setdefault(finding.code, Counter())[f"{finding.severity} {finding.evidence}"] += 1
    return {code: dict(sorted(said.items())) for code, said in sorted(counted.items())}


def main() -> None:
    """Write the counts of all networks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("models", "images", "inputs", "out"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--only", nargs="+", help="models to run instead of all")
    asked = parser.parse_args()
    networks: dict[str, Any] = {}
    for model in sorted(asked.models.glob("*.onnx")):
        if asked.only and model.stem not in asked.only:
            continue
        said = tried(model, asked.images, asked.inputs)
        if said is not None:
            networks[model.stem] = said
            print(model.stem, said, flush=True)
            asked.out.write_text(json.dumps({"samples": SAMPLES, "networks": networks}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
