"""Experiments as keys: what is the same run, and what is not."""

from __future__ import annotations

import pickle

from onnxlint_q.analysis.experiment import UNCHANGED, Experiment
from onnxlint_q.analysis.schemes import INT8_PER_CHANNEL, INT8_PER_TENSOR, SCHEMES

SYMMETRIC, BLOCKS = SCHEMES["int8-symmetric"], SCHEMES["int4-blocks"]


def test_an_experiment_is_a_key() -> None:
    one = Experiment.on_layer(INT8_PER_TENSOR, "layer", "result")
    same = Experiment(INT8_PER_TENSOR, frozenset({"layer"}), frozenset({"result"}))
    assert one == same and hash(one) == hash(same) and {one: 1}[same] == 1
    assert pickle.loads(pickle.dumps(one)) == one
    assert len({one, Experiment.on_weight(INT8_PER_TENSOR, "layer"), Experiment(INT8_PER_TENSOR)}) == 3


def test_what_a_scheme_would_do_to_the_rest_does_not_matter() -> None:
    weights = [Experiment.on_weight(scheme, "layer").essence for scheme in (INT8_PER_CHANNEL, SYMMETRIC)]
    assert weights[0] == weights[1] != Experiment.on_weight(INT8_PER_TENSOR, "layer").essence
    activations = [Experiment.on_activation(scheme, "x").essence for scheme in (INT8_PER_CHANNEL, INT8_PER_TENSOR)]
    assert activations[0] == activations[1] != Experiment.on_activation(SYMMETRIC, "x").essence
    layers = [Experiment.on_layer(s, "layer", "x").essence for s in (INT8_PER_TENSOR, INT8_PER_CHANNEL, SYMMETRIC)]
    assert len(set(layers)) == 3


def test_where_activations_stay_in_float_there_is_only_the_weight() -> None:
    assert Experiment.on_layer(BLOCKS, "layer", "x").essence == Experiment.on_weight(BLOCKS, "layer").essence
    assert Experiment(BLOCKS).essence.activations == frozenset()
    assert Experiment.on_activation(BLOCKS, "x").essence == UNCHANGED


def test_an_essence_is_its_own() -> None:
    for scheme in SCHEMES.values():
        for experiment in (Experiment(scheme), Experiment.on_layer(scheme, "layer", "x")):
            assert experiment.essence.essence == experiment.essence
    assert UNCHANGED.essence == UNCHANGED
