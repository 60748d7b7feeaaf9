"""What a row of the operator table can say: the traits of an operator and what it takes from where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, Flag, auto


class Trait(Flag):
    """What an operator does; a row has any number of them. They speak of the data inputs and the first result."""

    REARRANGES = auto()
    """Every value of the input once, in another place or another shape."""
    SELECTS = auto()
    """Some of the input's values."""
    REPEATS = auto()
    """The input's values, several times each."""
    FILLS = auto()
    """The input's values and others around them: zero, a constant, or values of its own edge."""
    RESHAPES = auto()
    """Nothing but the shape changes."""
    COPIES = auto()
    """The same values in the same places, perhaps in another type."""
    QUANTIZES = auto()
    """The same values in the same places, rounded to codes or made real again."""
    JOINS = auto()
    """The values of several inputs side by side."""
    CHOOSES = auto()
    """At each place the value of one of the inputs."""
    RESAMPLES = auto()
    """Values in between the input's, on another grid."""
    AVERAGES = auto()
    """Means over places."""
    ELEMENTWISE = auto()
    """One function of the values at one place of all inputs, these broadcast against each other."""
    INCREASING = auto()
    """A function that leaves the order of values as it is, as long as slopes that are parameters are not negative."""
    ACTIVATION = auto()
    """A function that networks put behind a layer."""
    RECTIFIES = auto()
    """An activation that hands on the positive values of a range as they are, or nearly so."""
    HOMOGENEOUS = auto()
    """A positive factor of the input is one of the result, so nothing but zero bounds it."""
    ADDS = auto()
    """A sum or difference: an offset, if all inputs but one are constant."""
    SCALES = auto()
    """A product or quotient: a factor, if all inputs but one are constant."""
    COMMUTATIVE = auto()
    """The order of its inputs says nothing."""
    MEASURES = auto()
    """The result holds sizes, positions or what follows from them alone, no activations."""
    INFERS_SIZES = auto()
    """onnx's shape inference computes the result where it is a short list of sizes."""
    DYNAMIC = auto()
    """Quantises with a scale that it computes at run time."""
    FUSED = auto()
    """ONNX Runtime computes it in one kernel with the convolution that it alone reads."""
    ROUNDS = auto()
    """A whole number in place of one with a fraction."""
    NORMALISES = auto()
    """Divides by the size of what it reads at run time, so a factor of the input is none of the result."""
    SCORES = auto()
    """Exponentials over their sum, or the logarithms of that: the scores of classes."""
    RANDOM = auto()
    """Draws random numbers."""
    RECURRENT = auto()
    """Goes along a sequence and hands a state on."""

    MOVES = REARRANGES | SELECTS | REPEATS | FILLS
    """What is moved keeps its value, and so a scale serves it as before."""


_NONE = Trait(0)


class Channels(Enum):
    """Which axis of the result holds the channels."""

    SECOND = "axis 1, behind the batch"
    LAST = "the last axis"
    AS_INPUT = "where an input of the same shape has them"


class BatchAxis(Enum):
    """How an operator keeps the elements of a batch, axis 0, apart."""

    MIXES = "it does not, or is not known to"
    FREE = "it never looks across axis 0 of its first input"
    BROADCAST = "if the ranks of all inputs agree"
    ALONG_AXIS = "if its attribute `axis` is another"
    JOINED = "if its attribute `axis` is another and all inputs have the batch"
    ALONG_AXES = "if the axes that it lists are others"
    FIRST_RESULT = "if only its first result is asked for"
    OWN = "under conditions of its own"


class StaticScale(Enum):
    """What ONNX Runtime's static quantiser does with an operator of its default types."""

    OWN = "its float inputs and its result get scales of their own"
    ALL = "its result gets one of its own if every input that may be its value has one"
    KEPT = "its result has the scale of its input, if that has one; the values are the same"
    ASKED = "the same, and its input gets one in any case"
    LENT = "its result is computed, and is given the scale of its input"
    ABSORBED = "it goes into the layer that it alone reads; else its result gets one of its own"


class Product(Enum):
    """Which sum of products a layer is: how its weight is laid out."""

    CONVOLUTION = "outputs, inputs of a group, kernel"
    TRANSPOSED = "inputs, outputs of a group, kernel"
    GEMM = "inputs, outputs; the other way round with transB"
    MATMUL = "inputs, outputs"
    RECURRENT = "directions, outputs of all gates, inputs or states"


@dataclass(frozen=True, slots=True)
class LayerInputs:
    """Positions of a layer's inputs; None where the operator has no such input.

    Attributes:
        scale, zero_point: of the weight, where that is stored in codes.
        operands: names and positions of all weights, where there are several; the first is `weight`.
        parameters: positions of scale and zero point of each of the operands, where these are stored in codes.
        packed: the weight lies in the file as the operator alone reads it; `graph.codes` unpacks it.
    """

    product: Product
    input: int
    weight: int
    bias: int | None = None
    scale: int | None = None
    zero_point: int | None = None
    operands: tuple[tuple[str, int], ...] = ()
    parameters: tuple[tuple[int, int], ...] = ()
    packed: bool = False

    @property
    def weights(self) -> tuple[tuple[str, int], ...]:
        """Names and positions of all weights; an only one has no name."""
        return self.operands or (("", self.weight),)

    @property
    def qparams(self) -> tuple[tuple[int | None, int | None], ...]:
        """Positions of scale and zero point of each of the weights."""
        return self.parameters or ((self.scale, self.zero_point),) * len(self.weights)

    @property
    def convolves(self) -> bool:
        """Whether its weight holds a kernel that goes over positions."""
        return self.product in {Product.CONVOLUTION, Product.TRANSPOSED}

    @property
    def is_float(self) -> bool:
        """Whether the weight is stored in real values."""
        return self.scale is None and self.zero_point is None

    @property
    def is_integer_product(self) -> bool:
        """Whether the result is an integer that something behind it rescales."""
        return self.scale is None and self.zero_point is not None


@dataclass(frozen=True, slots=True)
class Codes:
    """Positions of what is quantised in an operator on codes.

    Attributes:
        reads: codes, scale and zero point of each input.
        writes: scale and zero point of the result; None where that is real.
        repeats: `reads` holds one triple, which is repeated to the end of the inputs.
    """

    reads: tuple[tuple[int, int, int], ...]
    writes: tuple[int, int] | None = None
    repeats: bool = False

    def triples(self, inputs: int) -> tuple[tuple[int, int, int], ...]:
        """Codes, scale and zero point of each input of a node that has as many inputs."""
        if not self.repeats:
            return self.reads
        return tuple((slot, slot + 1, slot + 2) for slot in range(self.reads[0][0], inputs - 2, 3))


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table.

    Attributes:
        domain: empty for the default one.
        data: positions of the inputs whose values the result is made of; None for all of them.
        results: how many outputs hold values, from the first one; None for all of them.
        bounds: smallest and largest value of the result, whatever the input.
        axis: default of its attribute `axis`, None if it has none.
        layer: its inputs, if it is a layer where its weight is constant.
        weights: positions of inputs that hold weights where the operator is no layer.
        codes: what is quantised, of an operator that computes on codes.
        form: the float operator that it is a quantised or fused form of; its own name if it is none.
        static: what the static quantiser does with it, None if nothing.
        static_since: the opset from which on it does so.
        known: whether it is in the table.
    """

    name: str
    traits: Trait = _NONE
    domain: str = ""
    data: tuple[int, ...] | None = (0,)
    results: int | None = 1
    bounds: tuple[float, float] | None = None
    channels: Channels = Channels.AS_INPUT
    batch: BatchAxis = BatchAxis.MIXES
    axis: int | None = None
    layer: LayerInputs | None = None
    weights: tuple[int, ...] = ()
    codes: Codes | None = None
    form: str = ""
    static: StaticScale | None = None
    static_since: int = 1
    known: bool = True

    def has(self, traits: Trait) -> bool:
        """Whether it has any of these traits."""
        return bool(self.traits._value_ & traits._value_)  # of the flags themselves it takes ten times as long

    def data_of(self, inputs: Sequence[str]) -> tuple[str, ...]:
        """Those of a node's inputs whose values the result is made of; omitted ones are left out."""
        if self.data is None:
            return tuple(filter(None, inputs))
        return tuple(inputs[slot] for slot in self.data if slot < len(inputs) and inputs[slot])

    def results_of(self, outputs: Sequence[str]) -> tuple[str, ...]:
        """Those of a node's outputs that hold values; omitted ones are left out."""
        return tuple(filter(None, outputs[: self.results]))

    @property
    def weight_inputs(self) -> tuple[int, ...]:
        """Positions of the inputs that hold weights, whether or not it counts as a layer."""
        return self.weights if self.layer is None else tuple(slot for _, slot in self.layer.weights)
