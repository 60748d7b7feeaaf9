"""A mutant follows from its name: the seed, its number, and which of its mutations are done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import onnx

from .mutations import MUTATIONS, damaged

MOST_MUTATIONS = 4
# One file in so many is damaged in its bytes, not in what it says.
_ONE_IN = 12


@dataclass(frozen=True, slots=True)
class Name:
    """What a mutant is made from.

    Attributes:
        seed: of the run.
        number: in the run.
        kept: which of its mutations are done, by their place; None for all.
    """

    seed: str
    number: int
    kept: tuple[int, ...] | None = None

    @classmethod
    def parse(cls, text: str) -> Name:
        """`1/57`, or `1/57/0,2` where mutations 0 and 2 are done."""
        seed, number, *kept = text.split("/")
        return cls(seed, int(number), tuple(map(int, kept[0].split(","))) if kept else None)

    def __str__(self) -> str:
        """As it is parsed."""
        kept = "" if self.kept is None else f"/{','.join(map(str, self.kept))}"
        return f"{self.seed}/{self.number}{kept}"


@dataclass(frozen=True, slots=True)
class Mutant:
    """A changed model.

    Attributes:
        name: what it follows from.
        model: the sound one that it was.
        data: the bytes of the file.
        said: what was changed, in words, by the place of the mutation.
    """

    name: Name
    model: str
    data: bytes
    said: Mapping[int, str]


def mutant(sound: Mapping[str, bytes], name: Name, kinds: Sequence[str] = ()) -> Mutant:
    """The mutant of this name; `sound` holds models by name; without kinds any mutation is done, and more of them."""
    random = Random(f"{name.seed}/{name.number}")
    model = random.choice(sorted(sound))
    most = 2 if kinds else MOST_MUTATIONS
    if not kinds and random.randrange(_ONE_IN) == 0:
        data, what = damaged(sound[model], random)
        return Mutant(name, model, data, {0: what})
    proto, said = onnx.ModelProto.FromString(sound[model]), {}
    for place in range(random.randint(1, most)):
        own = Random(f"{name.seed}/{name.number}/{place}")
        if name.kept is None or place in name.kept:
            said[place] = MUTATIONS[own.choice(kinds or tuple(MUTATIONS))](proto, own)
    return Mutant(name, model, proto.SerializeToString(deterministic=True), said)


def simpler(sound: Mapping[str, bytes], made: Mutant, kinds: Sequence[str] = ()) -> Iterator[Mutant]:
    """The mutant without one of its mutations, each in turn."""
    for place in made.said if len(made.said) > 1 else ():
        kept = tuple(other for other in made.said if other != place)
        yield mutant(sound, replace(made.name, kept=kept), kinds)
