"""Coefficients of `level`; written by `python -m bench.level CORPUS --write`.

They say how what is measured differs from a raw figure, learnt on networks whose truth was measured with this tool.
"""

from __future__ import annotations

from onnxlint_q.forecast.expected.level import Table

FORECAST = Table(
    learnt_on="144 networks of 22 families, 542 figures",
    # dB added to the raw figure, as it was before it saturates
    location={
        "offset": 2.691,
        "each 10 dB above 15": -0.976,
        "noise from weights": -0.834,
        "noise from one tensor": 1.613,
        "each doubling of layers": -0.303,
        "attention": -1.293,
        "recurrent": -0.188,
        "no images": 0.169,
        "unknown operators": 0.264,
        "output between 0 and 1": 0.274,
        "all that varies is lost": -0.712,
        "steady output": -3.206,
    },
    # logarithm of the spread in dB
    spread={
        "offset": 1.423,
        "noise from one tensor": 0.139,
        "attention": 0.136,
        "recurrent": -0.16,
        "no images": 0.317,
        "unknown operators": 0.263,
    },
    # of class scores, logarithm to 10 of how close the best two are
    closeness={
        "offset": -0.693,
        "no images": 0.482,
        "each tenfold of classes": -0.029,
        "close calls foreseen": 0.173,
        "softmax": 0.037,
    },
    closeness_spread=0.384,
    bend=1.2,
)

PROBE = Table(
    learnt_on="33 networks of 6 families, 134 figures",
    # dB added to the raw figure, as it was before it saturates
    location={
        "offset": 1.693,
        "each 10 dB above 15": -0.643,
        "noise from weights": 0.412,
        "noise from one tensor": -0.707,
        "each doubling of layers": 0.32,
        "attention": -0.35,
        "recurrent": -1.755,
        "no images": -0.939,
        "unknown operators": -1.299,
        "output between 0 and 1": 0.176,
        "all that varies is lost": 0.0,
        "steady output": -0.117,
    },
    # logarithm of the spread in dB
    spread={
        "offset": 1.262,
        "noise from one tensor": 0.082,
        "attention": -0.28,
        "recurrent": 0.315,
        "no images": 0.039,
        "unknown operators": 0.226,
    },
    # of class scores, logarithm to 10 of how close the best two are
    closeness={
        "offset": -0.693,
        "no images": 0.482,
        "each tenfold of classes": -0.029,
        "close calls foreseen": 0.173,
        "softmax": 0.037,
    },
    closeness_spread=0.384,
    bend=1.2,
)
