"""The words that rules use and newcomers do not know, each in a clause."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

GLOSSARY: Mapping[str, str] = {
    "SQNR": "signal-to-quantisation-noise ratio in dB; 20 dB is an error of 10 % of the signal, 6 dB are one bit",
    "scale": "the step between two codes: value = scale * (code - zero point)",
    "code": "one of the 256 integers that INT8 has for the values of a tensor",
    "fold": "multiply a BatchNormalization into the weights of the layer next to it, as runtimes do",
    "gain": "what BatchNorm multiplies a channel by: gamma / sqrt(variance + epsilon)",
    "channel": "one slice of a weight or an activation along the axis of its output features",
    "depthwise": "a convolution that computes each channel from only one input channel",
    "average precision": "mean range of the channels over the range of the tensor: 1 is best, 0 is worst",
    "scheme": "what is quantised how: number formats, who shares a scale, and where scales come from",
    "zero point": "the code that stands for the value 0",
    "QDQ": "a quantised file in which QuantizeLinear and DequantizeLinear stand around each operator",
    "observer": "how the range of an activation is taken from the values that samples give it",
    "forecast": "SQNR at the model's output, computed from the file alone without a run",
    "equalise": "rescale the channels of two neighbouring layers to like ranges without changing the output",
}
"""What each word means; a word is looked for with its endings."""


def used_in(text: str) -> Iterator[tuple[str, str]]:
    """The words of the glossary that a text uses, with what they mean, in the order of the glossary."""
    for word, meaning in GLOSSARY.items():
        if re.search(rf"\b{_forms(word)}\b", text, re.IGNORECASE):
            yield word, meaning


def found(wanted: str) -> str | None:
    """The word of the glossary that is meant, in any case, with any ending, and a hyphen for a space; None for none."""
    plain = wanted.replace("-", " ")
    return next((word for word in GLOSSARY if re.fullmatch(_forms(word), plain, re.IGNORECASE)), None)


def _forms(word: str) -> str:
    """A pattern of a word with its endings."""
    return rf"{re.escape(word.removesuffix('e'))}(e|es|ed|s|ing)?"
