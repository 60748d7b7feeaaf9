"""Networks of the study, taken over with the digits that they were trained on."""

from __future__ import annotations

from pathlib import Path

import onnx

from ..networks import INPUT, NETWORKS
from ..store import Store
from .store import About, Corpus

JUDGED, RANGES = 144, 48


def take_study(corpus: Corpus, out: Path, seed: int) -> None:
    """Add every finished network of a run of `python -m bench.study train`, once."""
    store, have = Store(out), {about.name for about in corpus.all()}
    digits = store.digits()
    images = {INPUT: digits.test[: JUDGED + RANGES]}
    for network in NETWORKS:
        name, path = f"study_{network.name}_{seed}", store.model(network.name)
        if path.exists() and name not in have:
            about = About(name, f"study {network.family}", "bench.study", "cnn", seed)
            corpus.add(about, onnx.load(path), images)
