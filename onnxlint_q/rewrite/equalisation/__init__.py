"""Cross-layer equalisation: factors of channels move from the layer that writes them to the layers that read them.

Where nothing but positive factors passes through between two layers, as through a Relu,

    w1_j' = w1_j / s_j,   b1_j' = b1_j / s_j,   w2_kj' = s_j w2_kj

leave the result what it is for any `s_j > 0` (Nagel et al., Data-Free Quantization, arXiv 1906.04721, eq. 7-12).
One scale for a tensor is then as fine as all of its channels ask for. The paper takes `s = sqrt(r1 r2) / r2` pair by
pair, with `r` the ranges of the weights, and replaces Relu6 by Relu. Here a Clip keeps its bound, which becomes one of
each channel; where `x Sigmoid(x)` or the like stands between, as

    x Sigmoid(x) / s = x' Sigmoid(s x'),   x' = x / s,

a product in front of the gate gives it what it read before. The factors of all pairs are chosen together for the least
noise at the model's output, that of activations with it (module `noise`): no channel becomes so wide that the scale of
its tensor loses more than weights gain. Factors nearby are then taken at which the errors of rounded weights cancel in
the mean (module `balance`). Other modules: `site`, `passing`, `moving` (what an operator does with factors), `ties`
(which channels have one factor), `terms` (what is rounded, and what that costs), `noise` (the least of it), `division`
(the new model).
"""

from onnxlint_q.rewrite.equalisation.equalise import REWRITE, Divisors, Equalisation, apply, find

__all__ = ["REWRITE", "Divisors", "Equalisation", "apply", "find"]
