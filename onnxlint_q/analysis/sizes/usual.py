"""How long a dimension is taken to be that the file leaves open, wherever a number is needed.

None of these is measured on a model: each is the usual length of what the dimension mostly is. A first dimension is a
batch, of one.
"""

from __future__ import annotations

OPEN_SIDE = 224
"""Pixels of a side of an image: networks for ImageNet are trained and published with so many."""

OPEN_LENGTH = 16
"""Anything else along which values are listed: a short sequence, as of the words of a sentence."""

OPEN_TOKENS = 32
"""Tokens of a text: a few sentences, of which every token counts."""

_STRIDE = 32
LAST_SIDE = OPEN_SIDE // _STRIDE
"""Positions of a side of the last feature map, which poolings average: five halvings of an open image leave 7."""

INNER_LENGTH = 64
"""A dimension of any tensor within a network, when room for all of them is reckoned: between an image and the last
feature map, rather too much than too little."""
