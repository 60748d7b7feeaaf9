"""The folder of a corpus: networks, the samples they run on, what they are, and what was measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx

Kind = Literal["cnn", "transformer", "recurrent", "graph", "audio"]


@dataclass(frozen=True, slots=True)
class About:
    """What a network is.

    Attributes:
        name: of its files.
        family: networks that share an architecture or a source; what is learnt is checked on whole families.
        source: where it comes from, and what was done to it.
        kind: of its layers, or of what it reads where that tells more.
        seed: of what is random in making it.
        parent: the network that this is a cut or a copy of; empty for one that stands by itself.
    """

    name: str
    family: str
    source: str
    kind: Kind
    seed: int = 0
    parent: str = ""


@dataclass(frozen=True, slots=True)
class Corpus:
    """A folder with `models`, `data`, `about`, `truth` and `failed`, each with a file a network."""

    folder: Path

    def model(self, name: str) -> Path:
        """The network."""
        return self.folder / "models" / f"{name}.onnx"

    def data(self, name: str) -> Path:
        """Arrays by input name, samples along the first axis."""
        return self.folder / "data" / f"{name}.npz"

    def truth(self, name: str) -> Path:
        """What quantisation does to it."""
        return self.folder / "truth" / f"{name}.json"

    def failed(self, name: str) -> Path:
        """Why there is no truth."""
        return self.folder / "failed" / f"{name}.txt"

    def arrays(self, name: str) -> dict[str, npt.NDArray[Any]]:
        """The samples of a network."""
        with np.load(self.data(name)) as held:
            return dict(held)

    def add(self, about: About, model: onnx.ModelProto, data: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write a network; what it is comes last, so that nobody finds half of one."""
        for path in (self.model(about.name), self.data(about.name), self._about(about.name)):
            path.parent.mkdir(parents=True, exist_ok=True)
        self.model(about.name).write_bytes(model.SerializeToString(deterministic=True))
        np.savez_compressed(self.data(about.name), **dict[str, Any](data))
        self._about(about.name).write_text(json.dumps(asdict(about)) + "\n", encoding="utf-8")

    def all(self) -> Iterator[About]:
        """Every network, by name."""
        for path in sorted((self.folder / "about").glob("*.json")):
            yield About(**json.loads(path.read_text(encoding="utf-8")))

    def originals(self) -> list[str]:
        """Names of the networks that are neither cuts nor copies."""
        return [about.name for about in self.all() if not about.parent]

    def measured(self) -> list[About]:
        """Networks that have their truth."""
        return [about for about in self.all() if self.truth(about.name).exists()]

    def write_manifest(self) -> None:
        """`manifest.json`: a list of all networks with truth; readers never find a file half written."""
        ready = self.folder / "manifest.json.new"
        ready.write_text(json.dumps([asdict(about) for about in self.measured()], indent=1) + "\n", encoding="utf-8")
        ready.replace(self.folder / "manifest.json")

    def _about(self, name: str) -> Path:
        return self.folder / "about" / f"{name}.json"
