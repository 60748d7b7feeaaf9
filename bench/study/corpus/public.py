"""Public networks out of packages, by a list of recipes: which file, what it is, and how its samples are made."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from .cuts import cut
from .samples import MAKERS
from .store import About, Corpus

RECIPES = Path(__file__).with_name("public.json")


def take_public(corpus: Corpus, unpacked: Path, images: Path) -> None:
    """Add every network of the recipes that is in the folder of unpacked packages, once.

    Args:
        corpus: where to.
        unpacked: holds a folder a package.
        images: photos.
    """
    have = {about.name for about in corpus.all()}
    for recipe in json.loads(RECIPES.read_text(encoding="utf-8")):
        path = unpacked / recipe["file"]
        if recipe["name"] in have or not path.exists():
            continue
        model = onnx.load(path)
        if "end" in recipe:
            model = cut(model, recipe["end"])
        about = About(recipe["name"], recipe["family"], recipe["package"], recipe["kind"])
        corpus.add(about, model, samples(recipe, images))


def samples(recipe: dict[str, Any], images: Path) -> dict[str, Any]:
    """Arrays by input name."""
    random = np.random.default_rng(zlib.crc32(recipe["name"].encode()))
    made = {}
    for name, how in recipe["inputs"].items():
        told = {key: value for key, value in how.items() if key not in {"make", "shape"}}
        made[name] = MAKERS[how["make"]](random, recipe["samples"], how["shape"], images=images, **told)
    return made
