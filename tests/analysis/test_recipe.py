"""A recipe comes back from its file as it was; what is no recipe is told in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxlint_q.analysis.recipe import Recipe
from onnxlint_q.analysis.schemes import INT4_BLOCKS, INT8_PER_CHANNEL, SCHEMES
from onnxlint_q.errors import UsageError

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=5)
RECIPES = st.builds(
    Recipe,
    st.sampled_from(list(SCHEMES.values())),
    st.dictionaries(NAMES, st.tuples(NUMBERS, NUMBERS).map(lambda ends: (min(ends), max(ends)))),
    st.sampled_from(["", "min-max", "mse"]),
    st.lists(NAMES).map(tuple),
    st.lists(NAMES).map(tuple),
    st.booleans(),
    st.dictionaries(NAMES, st.lists(NUMBERS).map(tuple)),
    st.dictionaries(NAMES, st.text(max_size=5)),
)


@given(RECIPES)
def test_a_recipe_comes_back_from_its_file(recipe: Recipe) -> None:
    assert Recipe.from_json(json.loads(json.dumps(recipe.as_json())), "r.json") == recipe


def test_what_other_programs_read() -> None:
    held = Recipe(INT8_PER_CHANNEL, {"x": (-1.0, 2.0)}).as_json()
    assert (held["weights"], held["activations"], held["per_channel"]) == ("int8", "uint8", True)
    assert held["ranges"] == {"x": [-1.0, 2.0]} and held["quantizer"] == "quantize_static"
    blocks = Recipe(INT4_BLOCKS).as_json()
    assert blocks["block_size"] == 32 and blocks["activations"] is None and blocks["observer"] is None


GOOD = Recipe(INT8_PER_CHANNEL).as_json()


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ([], "no recipe"),
        ({}, "no recipe"),
        ({"version": 1}, "no recipe"),
        ({**GOOD, "version": 2}, "knows version 1"),
        ({**GOOD, "scheme": "int7"}, "choose from"),
        ({**GOOD, "excluded": "conv"}, "`excluded` is not a list of names"),
        ({**GOOD, "wide": [1]}, "`wide` is not a list of names"),
        ({**GOOD, "rounded": {"x": 1}}, "`rounded` does not give"),
        ({**GOOD, "ranges": []}, "`ranges` does not give"),
        ({**GOOD, "ranges": {"x": 1}}, "`ranges` does not give"),
        ({**GOOD, "ranges": {"x": [1.0]}}, "smallest and a largest"),
        ({**GOOD, "ranges": {"x": [2.0, 1.0]}}, "smallest and a largest"),
        ({**GOOD, "ranges": {"x": [0, float("inf")]}}, "no finite number"),
        ({**GOOD, "shifts": {"y": ["1"]}}, "no finite number"),
        ({**GOOD, "shifts": {"y": [True]}}, "no finite number"),
    ],
)
def test_what_is_no_recipe(held: Any, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Recipe.from_json(held, "r.json")
