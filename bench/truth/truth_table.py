"""The weight column of `--measure layers` against independent measurements of the same networks.

    python bench/truth/truth_table.py MODELS TRUTH IMAGES [--skip 24] [--only NAME ...]

TRUTH holds one JSON file a model: `layers` with `output` and `weight_only_sqnr_db`, the SQNR at the model's output with
that weight alone in int8 per tensor. The images are the first by name, as many as the file says (24, or 12 where the
input is over 400 pixels high); with --skip others than those, which shows what the choice of images does. Prints for
each model the share of layers within 0.5 dB, the worst difference and the Spearman correlation. A model that reads
anything but one image is named and passed over.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from onnxlint_q.analysis.image.inputs import is_image
from onnxlint_q.analysis.schemes import INT8_PER_TENSOR
from onnxlint_q.execute.data.preprocess import Preprocessing, preset
from onnxlint_q.execute.data.source import Sample
from onnxlint_q.execute.variants.workbench import workbench
from onnxlint_q.graph import Value, read_model
from onnxlint_q.judge.facts import Facts, facts_of
from onnxlint_q.proof.sensitivity import measure_sensitivity

_RAW = preset("raw")
# What each network was trained with; the figures mean nothing on pixels that it does not expect.
HOW: dict[str, Preprocessing] = {
    "mobilenetv1_025_bn": preset("tf"),
    "mobilenetv2_tf_folded": preset("tf"),
    "resnet8_cifar10_bn": _RAW,
    "vww_mobilenetv1_025_96_bn": preset("unit"),
    "fastestdet": replace(preset("unit"), channel_order="bgr"),
    "nanodet_m": replace(_RAW, channel_order="bgr", mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395)),
    "yolox_nano": replace(_RAW, channel_order="bgr"),
    "ultraface_rfb_320": replace(_RAW, mean=(127.0,), std=(128.0,), resize=(240, 320)),
}
# A perfect match has no SQNR; the measurements write it as this.
_PERFECT_DB = 140.0


def pictures(images: Path, how: Preprocessing, inputs: Sequence[Value], count: int, skip: int) -> Iterator[Sample]:
    """Images by name, prepared as they were for the truth: 256 to 224 pixels, else the centre square resized."""
    (value,) = inputs
    height, width = ((side or 224) for side in (value.type.shape or (1, 3, 224, 224))[2:])
    files = sorted(path for path in images.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
    for path in files[skip : skip + count]:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
        if how.resize is None and (height, width) != (224, 224):
            side = min(image.size)
            left, top = (image.width - side) // 2, (image.height - side) // 2
            image = image.crop((left, top, left + side, top + side))
        yield {value.name: how.apply(image, height, width, 3)[None]}


def differences(facts: Facts, truth: Path, images: Path, skip: int) -> tuple[list[float], list[float], int]:
    """Figures of the table and of the truth for the layers both know, and the number of images."""
    said = json.loads(truth.read_text())
    expected = {layer["output"]: float(layer["weight_only_sqnr_db"]) for layer in said["layers"]}
    count = int(said["images"])
    how = HOW.get(truth.stem, preset("imagenet"))
    samples = partial(pictures, images, how, facts.model.inputs, count, skip)
    table = measure_sensitivity(workbench(facts), samples)
    found = {layer: error for experiment, error in table.items() if error.has_signal for layer in experiment.weights}
    both = [key for key in expected if key in found]
    figures = [_PERFECT_DB if (db := found[key].sqnr_db) is None else db for key in both]
    return figures, [expected[key] for key in both], count


def spearman(one: list[float], other: list[float]) -> float:
    """Rank correlation, ties in the order of the lists."""
    ranks = np.stack([np.argsort(np.argsort(values, kind="stable")) for values in (one, other)])
    return float(np.asarray(np.corrcoef(ranks))[0, 1])


def main() -> None:
    """Print one line a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("truths", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--skip", type=int, default=0, help="images to leave out at the front")
    parser.add_argument("--only", nargs="+", help="models to measure instead of all")
    chosen = parser.parse_args()
    print(f"{'model':<28} images  layers  within 0.5 dB  worst dB  Spearman  seconds")
    for truth in sorted(chosen.truths.glob("*.json")):
        if chosen.only is not None and truth.stem not in chosen.only:
            continue
        start = time.perf_counter()
        facts = facts_of(read_model(chosen.models / f"{truth.stem}.onnx"), [INT8_PER_TENSOR])
        if len(facts.model.inputs) != 1 or not is_image(facts.model.inputs[0].type.shape):
            print(f"{truth.stem:<28} reads anything but one image", flush=True)
            continue
        ours, theirs, count = differences(facts, truth, chosen.images, chosen.skip)
        apart = np.abs(np.subtract(ours, theirs))
        print(
            f"{truth.stem:<28} {count:6d}  {len(ours):6d}  {np.mean(apart <= 0.5):13.0%}  {apart.max():8.2f}  "
            f"{spearman(ours, theirs):8.3f}  {time.perf_counter() - start:7.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
