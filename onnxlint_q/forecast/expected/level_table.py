"""Coefficients of `level`; written by `python -m bench.level CORPUS --write`.

They say how what is measured differs from a raw figure, learnt on networks whose truth was measured with this tool.
"""

from __future__ import annotations

from onnxlint_q.forecast.expected.level import Table

FORECAST = Table(
    learnt_on="197 networks of 22 families, 827 figures",
    # dB added to the raw figure, as it was before it saturates
    location={
        "offset": 2.05,
        "each 10 dB above 15": -0.253,
        "noise from weights": -0.029,
        "noise from one tensor": 0.164,
        "each doubling of layers": -0.118,
        "attention": -0.953,
        "recurrent": -0.127,
        "no images": -1.356,
        "unknown operators": -0.633,
        "output between 0 and 1": 0.893,
        "all that varies is lost": -0.097,
        "steady output": -2.499,
    },
    # logarithm of the spread in dB
    spread={
        "offset": 1.544,
        "noise from one tensor": 0.28,
        "attention": -0.097,
        "recurrent": -0.154,
        "no images": -0.105,
        "unknown operators": 0.436,
    },
    # of class scores, logarithm to 10 of how close the best two are
    closeness={
        "offset": -0.621,
        "no images": 0.545,
        "each tenfold of classes": -0.041,
        "close calls foreseen": 0.277,
        "softmax": -0.004,
    },
    closeness_spread=0.433,
    bend=1.2,
)

PROBE = Table(
    learnt_on="139 networks of 22 families, 650 figures",
    # dB added to the raw figure, as it was before it saturates
    location={
        "offset": 1.877,
        "each 10 dB above 15": -0.702,
        "noise from weights": -0.787,
        "noise from one tensor": 0.807,
        "each doubling of layers": -0.134,
        "attention": 0.338,
        "recurrent": -0.977,
        "no images": -2.124,
        "unknown operators": -0.065,
        "output between 0 and 1": -1.105,
        "all that varies is lost": -0.57,
        "steady output": -0.705,
    },
    # logarithm of the spread in dB
    spread={
        "offset": 1.375,
        "noise from one tensor": 0.105,
        "attention": -0.668,
        "recurrent": 0.192,
        "no images": 0.153,
        "unknown operators": -0.027,
    },
    # of class scores, logarithm to 10 of how close the best two are
    closeness={
        "offset": -0.621,
        "no images": 0.545,
        "each tenfold of classes": -0.041,
        "close calls foreseen": 0.277,
        "softmax": -0.004,
    },
    closeness_spread=0.433,
    bend=1.2,
)
