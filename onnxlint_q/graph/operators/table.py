"""The operator table: what each operator does to values, axes, batches, scales and weights.

One row an operator. Whoever wants to know what kind of operator a node is asks its row; code elsewhere names single
operators where it does the work of exactly these. An operator that is not here has a row without traits and is not
`known`.

Sources: the ONNX operator specification (opsets 1 to 28), ONNX Runtime's ContribOperators.md for the domain
`com.microsoft`, and of what its static quantiser does onnxruntime.quantization.registry and the operators it names
(1.32.0, QDQ format, default operator types). The tests hold the rows against all three.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf

from onnxlint_q.graph.operators.description import (
    BatchAxis,
    Channels,
    Codes,
    LayerInputs,
    Operator,
    Product,
    StaticScale,
    Trait,
)

MICROSOFT = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""
TRAINERS = ("onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general")
"""Domains of the operators that training with fake quantisation exports: QONNX, and Brevitas and FINN before it."""
_NONE = Trait(0)


def lookup(name: str, domain: str = "") -> Operator:
    """The row of an operator; one without traits, and not `known`, for any that the table does not have."""
    domain = "" if domain == "ai.onnx" else domain
    row = _TABLE.get((domain, name))
    return Operator(name, domain=domain, form=name, known=False) if row is None else row


def operators() -> Sequence[Operator]:
    """All rows."""
    return tuple(_TABLE.values())


# -- the rows, by what their operators have in common ----------------------------------------------------------------

_T = Trait
_SCORE, _SYMMETRIC, _POSITIVE, _NEGATIVE = (0.0, 1.0), (-1.0, 1.0), (0.0, inf), (-inf, 0.0)
# How deep they dip below zero.
_GELU, _HARD_SWISH, _MISH = (-0.17005, inf), (-0.375, inf), (-0.30885, inf)
_STATIC = StaticScale


def _function(
    name: str,
    traits: Trait = _NONE,
    bounds: tuple[float, float] | None = None,
    domain: str = "",
    static: StaticScale | None = None,
) -> Operator:
    """One function of one value."""
    return Operator(name, _T.ELEMENTWISE | traits, domain, bounds=bounds, batch=BatchAxis.FREE, static=static)


def _combination(name: str, traits: Trait = _NONE, static: StaticScale | None = None) -> Operator:
    """One function of the values of several inputs, broadcast."""
    return Operator(name, _T.ELEMENTWISE | traits, data=None, batch=BatchAxis.BROADCAST, static=static)


def _reduction(name: str, traits: Trait = _NONE, bounds: tuple[float, float] | None = None) -> Operator:
    """One value from all along some axes."""
    return Operator(name, traits, bounds=bounds, batch=BatchAxis.ALONG_AXES)


def _pooling(
    name: str,
    traits: Trait = _NONE,
    batch: BatchAxis = BatchAxis.FREE,
    static: StaticScale | None = None,
    static_since: int = 1,
) -> Operator:
    """Channels behind the batch, positions behind these."""
    return Operator(name, traits, channels=Channels.SECOND, batch=batch, static=static, static_since=static_since)


def _along_axis(
    name: str,
    traits: Trait = _NONE,
    axis: int = -1,
    bounds: tuple[float, float] | None = None,
    channels: Channels = Channels.AS_INPUT,
    static: StaticScale | None = None,
) -> Operator:
    """Something along one axis, which is named in an attribute."""
    return Operator(
        name, traits, bounds=bounds, channels=channels, batch=BatchAxis.ALONG_AXIS, axis=axis, static=static
    )


def _layer(
    name: str,
    inputs: LayerInputs,
    domain: str = "",
    batch: BatchAxis = BatchAxis.MIXES,
    static: StaticScale | None = None,
    codes: Codes | None = None,
    form: str = "",
    traits: Trait = _NONE,
) -> Operator:
    """A sum of products with a weight; a matrix product may as well have two inputs that are computed."""
    either = inputs.product is Product.MATMUL and not inputs.packed
    data = (inputs.input, inputs.weight) if either else (inputs.input,)
    channels = Channels.SECOND if inputs.convolves else Channels.LAST
    return Operator(
        name, traits, domain, data, channels=channels, batch=batch, layer=inputs, static=static, codes=codes, form=form
    )


def _with_weights(names: str, weights: tuple[int, ...], domain: str = "", form: str = "") -> tuple[Operator, ...]:
    """Operators that hold weights and are no layers."""
    return tuple(Operator(name, domain=domain, weights=weights, form=form) for name in names.split())


def _recurrent(name: str) -> Operator:
    """A cell along a sequence: one layer, whose weights meet the input and the state.

    The bounds are those of its usual activations, and of a first state that is such a result.
    """
    inputs = LayerInputs(Product.RECURRENT, 0, 1, operands=(("W", 1), ("R", 2)))
    return Operator(name, _T.RECURRENT, results=None, bounds=_SYMMETRIC, channels=Channels.LAST, layer=inputs)


def _on_codes(
    name: str,
    form: str,
    traits: Trait = _NONE,
    codes: Codes | None = None,
    data: tuple[int, ...] | None = (0,),
    bounds: tuple[float, float] | None = None,
    channels: Channels = Channels.AS_INPUT,
) -> Operator:
    """The form of `form` that reads and writes codes."""
    return Operator(name, traits, MICROSOFT, data, bounds=bounds, channels=channels, codes=codes, form=form)


def _plain(names: str, traits: Trait = _NONE, domain: str = "") -> tuple[Operator, ...]:
    """Operators of which no more is said than that they are known, and these traits."""
    return tuple(Operator(name, traits, domain) for name in names.split())


_ACTIVATIONS = (
    _function(
        "Relu",
        _T.ACTIVATION | _T.RECTIFIES | _T.HOMOGENEOUS | _T.INCREASING | _T.FUSED,
        _POSITIVE,
        static=_STATIC.ABSORBED,
    ),
    _function("Clip", _T.ACTIVATION | _T.RECTIFIES | _T.INCREASING | _T.FUSED, static=_STATIC.ABSORBED),
    _function(
        "LeakyRelu", _T.ACTIVATION | _T.RECTIFIES | _T.HOMOGENEOUS | _T.INCREASING | _T.FUSED, static=_STATIC.OWN
    ),
    Operator("PRelu", _T.ELEMENTWISE | _T.ACTIVATION | _T.RECTIFIES | _T.HOMOGENEOUS, batch=BatchAxis.BROADCAST),
    _function("Elu", _T.ACTIVATION | _T.RECTIFIES | _T.INCREASING),
    _function("Selu", _T.ACTIVATION | _T.RECTIFIES | _T.INCREASING),
    _function("Celu", _T.ACTIVATION | _T.RECTIFIES | _T.INCREASING),
    _function("Gelu", _T.ACTIVATION | _T.RECTIFIES, _GELU),
    _function("HardSwish", _T.ACTIVATION | _T.RECTIFIES, _HARD_SWISH),
    _function("Mish", _T.ACTIVATION | _T.RECTIFIES, _MISH),
    _function("Swish", _T.ACTIVATION | _T.RECTIFIES),
    _function("Softplus", _T.ACTIVATION | _T.RECTIFIES | _T.INCREASING, _POSITIVE),
    _function("ThresholdedRelu", _T.ACTIVATION | _T.RECTIFIES | _T.INCREASING),
    _function("Sigmoid", _T.ACTIVATION | _T.INCREASING | _T.FUSED, _SCORE, static=_STATIC.OWN),
    _function("HardSigmoid", _T.ACTIVATION | _T.INCREASING | _T.FUSED, _SCORE),
    _function("Tanh", _T.ACTIVATION | _T.INCREASING | _T.FUSED, _SYMMETRIC),
    _function("Softsign", _T.ACTIVATION | _T.INCREASING, _SYMMETRIC),
)

_FUNCTIONS = (
    *(_function(name) for name in "Acos Asin Cosh Reciprocal Tan BitwiseNot Not IsInf IsNaN".split()),
    *(_function(name, bounds=_SYMMETRIC) for name in "Sin Cos".split()),
    *(_function(name, _T.INCREASING) for name in "Acosh Asinh Atanh Atan Log Sinh".split()),
    *(_function(name, _T.INCREASING | _T.ROUNDS) for name in "Floor Ceil Round".split()),
    *(_function(name, _T.INCREASING, _POSITIVE) for name in "Exp Sqrt".split()),
    *(_function(name, _T.INCREASING, _SYMMETRIC) for name in "Erf Sign".split()),
    _function("Abs", _T.HOMOGENEOUS, _POSITIVE),
    _function("Neg", _T.HOMOGENEOUS),
    _function("Shrink", _T.INCREASING),
)

_COPYING = (
    Operator("Identity", _T.COPIES | _T.ELEMENTWISE | _T.INCREASING, batch=BatchAxis.FREE),
    Operator("Cast", _T.COPIES | _T.ELEMENTWISE | _T.INCREASING | _T.INFERS_SIZES, batch=BatchAxis.FREE),
    Operator("CastLike", _T.COPIES | _T.ELEMENTWISE | _T.INCREASING, batch=BatchAxis.FREE),
    Operator("Dropout", _T.COPIES, batch=BatchAxis.OWN),
    Operator("QuantizeLinear", _T.QUANTIZES, batch=BatchAxis.OWN),
    Operator("DequantizeLinear", _T.QUANTIZES, batch=BatchAxis.OWN),
    Operator("DynamicQuantizeLinear", _T.QUANTIZES | _T.DYNAMIC),
)

_COMBINATIONS = (
    _combination("Add", _T.ADDS | _T.COMMUTATIVE | _T.INFERS_SIZES, static=_STATIC.OWN),
    _combination("Sub", _T.ADDS | _T.INFERS_SIZES),
    _combination("Sum", _T.ADDS | _T.COMMUTATIVE),
    _combination("Mul", _T.SCALES | _T.COMMUTATIVE | _T.INFERS_SIZES, static=_STATIC.OWN),
    _combination("Div", _T.SCALES),
    _combination("Max", _T.CHOOSES | _T.COMMUTATIVE),
    _combination("Min", _T.CHOOSES | _T.COMMUTATIVE),
    Operator("Where", _T.ELEMENTWISE | _T.CHOOSES, data=(1, 2), batch=BatchAxis.BROADCAST, static=_STATIC.ALL),
    _combination("Mean", _T.COMMUTATIVE),
    *(_combination(name) for name in "Pow Mod Greater GreaterOrEqual Less LessOrEqual".split()),
    _combination("BitShift", _T.ROUNDS),
    *(_combination(name, _T.COMMUTATIVE) for name in "Equal And Or Xor BitwiseAnd BitwiseOr BitwiseXor".split()),
)

_RESHAPING = _T.REARRANGES | _T.RESHAPES
_MOVING = (
    Operator("Reshape", _RESHAPING, batch=BatchAxis.OWN, static=_STATIC.KEPT),
    Operator("Flatten", _RESHAPING, axis=1, batch=BatchAxis.OWN, static=_STATIC.KEPT),
    Operator("Squeeze", _RESHAPING | _T.INFERS_SIZES, batch=BatchAxis.ALONG_AXES, static=_STATIC.KEPT),
    Operator("Unsqueeze", _RESHAPING | _T.INFERS_SIZES, batch=BatchAxis.ALONG_AXES, static=_STATIC.KEPT),
    Operator("Transpose", _T.REARRANGES, batch=BatchAxis.OWN, static=_STATIC.KEPT),
    _pooling("DepthToSpace", _T.REARRANGES),
    _pooling("SpaceToDepth", _T.REARRANGES),
    Operator("ReverseSequence", _T.REARRANGES),
    Operator("Split", _T.SELECTS, axis=0, results=None, batch=BatchAxis.OWN, static=_STATIC.ASKED),
    Operator("Slice", _T.SELECTS | _T.INFERS_SIZES, batch=BatchAxis.OWN, static=_STATIC.KEPT),
    Operator("Gather", _T.SELECTS | _T.INFERS_SIZES, axis=0, batch=BatchAxis.OWN, static=_STATIC.KEPT),
    Operator("GatherElements", _T.SELECTS, axis=0, batch=BatchAxis.JOINED, static=_STATIC.KEPT),
    Operator("GatherND", _T.SELECTS),
    Operator("Compress", _T.SELECTS),
    Operator("Expand", _T.REPEATS, batch=BatchAxis.OWN),
    Operator("Tile", _T.REPEATS, batch=BatchAxis.OWN),
    Operator("Pad", _T.FILLS, batch=BatchAxis.OWN, static=_STATIC.ASKED),
    Operator("CenterCropPad", _T.FILLS),
    Operator("Trilu", _T.FILLS),
    Operator("Concat", _T.JOINS | _T.INFERS_SIZES, data=None, batch=BatchAxis.JOINED, static=_STATIC.OWN),
    *_plain("Scatter ScatterElements ScatterND TensorScatter"),
    # Sorted values: no move, as the place of a value in the result says nothing about where it was.
    _along_axis("TopK", static=_STATIC.KEPT),
    Operator("Unique"),
    Operator(
        "Resize", _T.RESAMPLES, channels=Channels.SECOND, batch=BatchAxis.OWN, static=_STATIC.LENT, static_since=11
    ),
    Operator("Upsample", _T.RESAMPLES, channels=Channels.SECOND, batch=BatchAxis.OWN),
)

_REDUCING = (
    _pooling("MaxPool", _T.SELECTS, BatchAxis.FIRST_RESULT, static=_STATIC.KEPT, static_since=12),
    _pooling("GlobalMaxPool", _T.SELECTS),
    _pooling("AveragePool", _T.AVERAGES, static=_STATIC.LENT),
    _pooling("GlobalAveragePool", _T.AVERAGES, static=_STATIC.OWN),
    *(_pooling(name) for name in "LpPool GlobalLpPool LRN".split()),
    *(Operator(name, channels=Channels.SECOND) for name in "MaxUnpool MaxRoiPool RoiAlign GridSample Col2Im".split()),
    _reduction("ReduceMean", _T.AVERAGES),
    _reduction("ReduceMax", _T.SELECTS),
    _reduction("ReduceMin", _T.SELECTS),
    *(_reduction(name) for name in "ReduceSum ReduceProd ReduceLogSum ReduceLogSumExp".split()),
    *(_reduction(name, bounds=_POSITIVE) for name in "ReduceL1 ReduceL2 ReduceSumSquare".split()),
    _along_axis("ArgMax", axis=0, static=_STATIC.OWN),
    _along_axis("ArgMin", axis=0),
    Operator("CumSum", batch=BatchAxis.OWN, static=_STATIC.OWN),
    Operator("CumProd"),
)

_NORMALISING = (
    _pooling("BatchNormalization", _T.SCALES, BatchAxis.FIRST_RESULT, static=_STATIC.OWN),
    _pooling("InstanceNormalization", _T.NORMALISES, static=_STATIC.OWN),
    _pooling("GroupNormalization", _T.NORMALISES),
    _pooling("MeanVarianceNormalization", _T.NORMALISES, batch=BatchAxis.ALONG_AXES),
    _along_axis("LayerNormalization", _T.NORMALISES, channels=Channels.LAST, static=_STATIC.OWN),
    _along_axis("RMSNormalization", _T.NORMALISES, channels=Channels.LAST),
    _along_axis("SimplifiedLayerNormalization", _T.NORMALISES, channels=Channels.LAST),
    _along_axis("LpNormalization", _T.NORMALISES, bounds=_SYMMETRIC),
    _along_axis("Softmax", _T.SCORES, bounds=_SCORE, static=_STATIC.OWN),
    _along_axis("LogSoftmax", _T.SCORES, bounds=_NEGATIVE),
    _along_axis("Hardmax", bounds=_SCORE),
)

_TWO_PAIRS = Codes(((0, 1, 2), (3, 4, 5)), (6, 7))
_ONE_PAIR = Codes(((0, 1, 2),), (3, 4))
_CONV, _CONV_TRANSPOSE = Product.CONVOLUTION, Product.TRANSPOSED
_LAYERS = (
    _layer("Conv", LayerInputs(_CONV, 0, 1, 2), batch=BatchAxis.FREE, static=_STATIC.OWN),
    _layer("ConvTranspose", LayerInputs(_CONV_TRANSPOSE, 0, 1, 2), batch=BatchAxis.FREE, static=_STATIC.OWN),
    _layer("Gemm", LayerInputs(Product.GEMM, 0, 1, 2), batch=BatchAxis.OWN, static=_STATIC.OWN),
    _layer("MatMul", LayerInputs(Product.MATMUL, 0, 1), batch=BatchAxis.OWN, static=_STATIC.OWN),
    # A product and more behind it; the bias of Attention is that of its product.
    _layer("Attention", LayerInputs(Product.MATMUL, 0, 1, 2), MICROSOFT),
    _layer("FusedMatMul", LayerInputs(Product.GEMM, 0, 1), MICROSOFT, form="MatMul"),
    _layer("QLinearConv", LayerInputs(_CONV, 0, 3, 8, 4, 5), codes=_TWO_PAIRS, form="Conv"),
    _layer("QLinearMatMul", LayerInputs(Product.MATMUL, 0, 3, None, 4, 5), codes=_TWO_PAIRS, form="MatMul"),
    _layer("ConvInteger", LayerInputs(_CONV, 0, 1, None, None, 3), form="Conv"),
    _layer("MatMulInteger", LayerInputs(Product.MATMUL, 0, 1, None, None, 3), form="MatMul"),
    _layer("QLinearConv", LayerInputs(_CONV, 0, 3, 8, 4, 5), MICROSOFT, codes=_TWO_PAIRS, form="Conv"),
    _layer(
        "QGemm",
        LayerInputs(Product.GEMM, 0, 3, 6, 4, 5),
        MICROSOFT,
        codes=Codes(((0, 1, 2), (3, 4, 5)), (7, 8)),
        form="Gemm",
    ),
    _layer(
        "DynamicQuantizeMatMul",
        LayerInputs(Product.MATMUL, 0, 1, 4, 2, 3),
        MICROSOFT,
        codes=Codes(((1, 2, 3),)),
        form="MatMul",
        traits=_T.DYNAMIC,
    ),
    _layer(
        "MatMulNBits",
        LayerInputs(Product.MATMUL, 0, 1, 5, 2, 3, packed=True),
        MICROSOFT,
        form="MatMul",
    ),
    _layer("MatMulBnb4", LayerInputs(Product.MATMUL, 0, 1, None, 2, packed=True), MICROSOFT, form="MatMul"),
    _layer(
        "MatMulIntegerToFloat",
        LayerInputs(Product.MATMUL, 0, 1, 6, 3, 5),
        MICROSOFT,
        codes=Codes(((0, 2, 4), (1, 3, 5))),
        form="MatMul",
    ),
)

_OTHER_WEIGHTS = (
    _recurrent("LSTM"),
    _recurrent("GRU"),
    _recurrent("RNN"),
    Operator(
        "DynamicQuantizeLSTM",
        _T.RECURRENT | _T.DYNAMIC,
        MICROSOFT,
        results=None,
        bounds=_SYMMETRIC,
        channels=Channels.LAST,
        layer=LayerInputs(
            Product.RECURRENT,
            0,
            1,
            None,
            8,
            9,
            operands=(("W", 1), ("R", 2)),
            parameters=((8, 9), (10, 11)),
            packed=True,
        ),
        form="LSTM",
    ),
    Operator("Einsum", data=None, weights=(0, 1)),
    Operator("DeformConv", channels=Channels.SECOND, weights=(1,)),
    *_with_weights("CausalConvWithState", (1,)),
    *_with_weights("FusedConv NhwcConv NhwcFusedConv", (1,), MICROSOFT, "Conv"),
    *_with_weights("ConvTransposeWithDynamicPads", (1,), MICROSOFT, "ConvTranspose"),
    *_with_weights("FusedGemm GemmFastGelu GemmFloat8", (1,), MICROSOFT, "Gemm"),
    *_with_weights("FusedMatMulActivation TransposeMatMul", (1,), MICROSOFT, "MatMul"),
    *_with_weights("MatMulFpQ4 MatMulInteger16", (1,), MICROSOFT, "MatMul"),
    *_with_weights("LongformerAttention PackedAttention", (1,), MICROSOFT),
    *_with_weights("QAttention QOrderedAttention", (1,), MICROSOFT, "Attention"),
    *_with_weights("DecoderAttention", (2, 3), MICROSOFT),
    *_with_weights("MoE QMoE", (2, 3, 4), MICROSOFT),
    *_with_weights("WordConvEmbedding", (1, 3), MICROSOFT),
    *_with_weights("TorchEmbedding GatherBlockQuantized", (0,), MICROSOFT),
    Operator("EmbedLayerNormalization", domain=MICROSOFT, weights=(2, 3, 4), static=_STATIC.OWN),
    *_with_weights("QEmbedLayerNormalization", (2, 3, 4), MICROSOFT, "EmbedLayerNormalization"),
)

_ON_CODES = (
    _on_codes("QLinearAdd", "Add", _T.ADDS | _T.COMMUTATIVE, _TWO_PAIRS, (0, 3)),
    _on_codes("QLinearMul", "Mul", _T.SCALES | _T.COMMUTATIVE, _TWO_PAIRS, (0, 3)),
    _on_codes("QLinearWhere", "Where", _T.CHOOSES, Codes(((1, 2, 3), (4, 5, 6)), (7, 8)), (1, 4)),
    _on_codes("QLinearConcat", "Concat", _T.JOINS, Codes(((2, 3, 4),), (0, 1), repeats=True), None),
    _on_codes("QLinearLeakyRelu", "LeakyRelu", _T.ACTIVATION | _T.RECTIFIES | _T.HOMOGENEOUS, _ONE_PAIR),
    _on_codes("QLinearSigmoid", "Sigmoid", _T.ACTIVATION, _ONE_PAIR, bounds=_SCORE),
    _on_codes("QLinearSoftmax", "Softmax", _T.SCORES, _ONE_PAIR, bounds=_SCORE),
    _on_codes("QLinearAveragePool", "AveragePool", _T.AVERAGES, _ONE_PAIR, channels=Channels.SECOND),
    _on_codes("QLinearGlobalAveragePool", "GlobalAveragePool", _T.AVERAGES, _ONE_PAIR, channels=Channels.SECOND),
    _on_codes("QLinearReduceMean", "ReduceMean", _T.AVERAGES, _ONE_PAIR),
    _on_codes("NhwcMaxPool", "MaxPool", _T.SELECTS, channels=Channels.LAST),
    *_plain("QuantizeLinear DequantizeLinear", _T.QUANTIZES, MICROSOFT),
    *_plain("MulInteger ReduceSumInteger QuantizeBFP DequantizeBFP", domain=MICROSOFT),
    *_plain("QuantizeWithOrder DequantizeWithOrder QOrderedGelu QOrderedLayerNormalization", domain=MICROSOFT),
    *_plain("QOrderedLongformerAttention QOrderedMatMul", domain=MICROSOFT),
)

_MICROSOFT = (
    _function("Gelu", _T.ACTIVATION | _T.RECTIFIES, _GELU, MICROSOFT),
    _function("QuickGelu", _T.ACTIVATION | _T.RECTIFIES, domain=MICROSOFT),
    # With a bias, which is added before the function is applied.
    _function("FastGelu", _T.ACTIVATION | _T.RECTIFIES, _GELU, MICROSOFT),
    _function("BiasGelu", _T.ACTIVATION | _T.RECTIFIES, _GELU, MICROSOFT),
    Operator("SkipLayerNormalization", _T.NORMALISES, domain=MICROSOFT, data=(0, 1), channels=Channels.LAST),
    Operator("SkipSimplifiedLayerNormalization", _T.NORMALISES, domain=MICROSOFT, data=(0, 1), channels=Channels.LAST),
    *_plain("GroupNorm SkipGroupNorm", _T.NORMALISES, MICROSOFT),
    Operator("MultiHeadAttention", domain=MICROSOFT, channels=Channels.LAST),
    Operator("GroupQueryAttention", domain=MICROSOFT, channels=Channels.LAST),
    *_plain(
        "BiasAdd BiasDropout BiasSoftmax BiasSplitGelu BitmaskDropout BitmaskBiasDropout CDist ComplexMul "
        "ComplexMulConj CropAndResize DecoderMaskedMultiHeadAttention DecoderMaskedSelfAttention DynamicTimeWarping "
        "EPContext ExpandDims GatedRelativePositionBias GatherND GemmaRotaryEmbedding GridSample Inverse "
        "Irfft MaxpoolWithMask MurmurHash3 NGramRepeatBlock PackedMultiHeadAttention PagedAttention Pad Range "
        "RelativePositionBias RemovePadding RestorePadding Rfft RotaryEmbedding SparseAttention "
        "SparseToDenseMatMul Tokenizer Trilu UnfoldTensor Unique GreedySearch BeamSearch WhisperBeamSearch Sampling",
        domain=MICROSOFT,
    ),
)

_TRAINED = tuple(
    Operator(name, _T.QUANTIZES, domain)
    for domain in TRAINERS
    for name in "Quant IntQuant BipolarQuant FloatQuant Trunc".split()
)

_OTHERS = (
    Operator("Shape", _T.MEASURES | _T.INFERS_SIZES),
    Operator("Size", _T.MEASURES | _T.INFERS_SIZES),
    *_plain("NonZero ConstantOfShape Range", _T.MEASURES),
    *_plain("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Multinomial Bernoulli", _T.RANDOM),
    Operator("Attention", channels=Channels.LAST),
    *_plain("LinearAttention RotaryEmbedding SwiGLU"),
    *_plain("If Loop Scan Constant EyeLike OneHot NonMaxSuppression Det BitCast AffineGrid DFT STFT MelWeightMatrix"),
    *_plain("BlackmanWindow HammingWindow HannWindow ImageDecoder NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss"),
    *_plain("Optional OptionalGetElement OptionalHasElement SequenceAt SequenceConstruct SequenceEmpty SequenceErase"),
    *_plain("SequenceInsert SequenceLength SequenceMap SplitToSequence ConcatFromSequence"),
    *_plain("RegexFullMatch StringConcat StringNormalizer StringSplit TfIdfVectorizer"),
)

_TABLE: Mapping[tuple[str, str], Operator] = {
    (row.domain, row.name): row if row.form else replace(row, form=row.name)
    for row in (
        *_ACTIVATIONS,
        *_FUNCTIONS,
        *_COPYING,
        *_COMBINATIONS,
        *_MOVING,
        *_REDUCING,
        *_NORMALISING,
        *_LAYERS,
        *_OTHER_WEIGHTS,
        *_ON_CODES,
        *_MICROSOFT,
        *_TRAINED,
        *_OTHERS,
    )
}
