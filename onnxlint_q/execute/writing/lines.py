"""A recipe as lines of Python that need onnx, numpy and ONNX Runtime alone.

They read the recipe from its file: ranges of a few hundred tensors are nothing to type. Scales are made from these
ranges, so nothing is calibrated, no sample is needed, and the float model does not run: `QDQQuantizer` is what
`quantize_static` hands its ranges to once it has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from onnxlint_q.analysis.number_formats import INT4, INT8, UINT8, UINT16
from onnxlint_q.analysis.placement import FLOAT_RESULTS, HANDS_ON, LAYER_TYPES
from onnxlint_q.analysis.recipe import SYNTHETIC, Recipe
from onnxlint_q.analysis.schemes import PER_CHANNEL_OPSET, Quantizer, Scheme

# From here on there are the operators of quantised files.
_STATIC_OPSET = 10
_MADE_UP = ("# The ranges come from synthetic inputs: nothing about accuracy on real data was measured.",)
_QUANT_TYPES = {
    INT8: "QInt8",
    UINT8: "QUInt8",
    INT4: "QInt4",
    UINT16: "QUInt16",
    INT8.widened: "QInt16",
}


@dataclass(frozen=True, slots=True)
class Files:
    """Names of files in the lines.

    Attributes:
        source: the float model, prepared.
        recipe: in JSON.
        target: the file to write.
        outside: whether weights go to a file beside it, as a protobuf would become too large.
    """

    source: str
    recipe: str
    target: str
    outside: bool = False


def lines(recipe: Recipe, files: Files) -> str:
    """The lines that write the file of a recipe for which there is no `obstacle`."""
    match recipe.scheme.quantizer:
        case Quantizer.STATIC:
            return _static(recipe, files)
        case Quantizer.DYNAMIC:
            return _dynamic(recipe, files)
        case Quantizer.BLOCKS:
            return _blocks(recipe, files)


def obstacle(scheme: Scheme, opset: int) -> str:
    """Why no file of a scheme can be written for a model of this opset; empty where one can."""
    static = scheme.quantizer is Quantizer.STATIC
    if scheme.quantizer is Quantizer.BLOCKS and find_spec("onnx_ir") is None:
        return f"scheme {scheme.name} needs the package onnx-ir: pip install 'onnxlint-q[int4]'"
    if static and (scheme.activations is None or not {scheme.activations, scheme.weights} <= _QUANT_TYPES.keys()):
        return f"no quantiser of ONNX Runtime writes files of scheme {scheme.name}"
    least = PER_CHANNEL_OPSET if scheme.needs_opset(opset) else _STATIC_OPSET if static else opset
    return f"scheme {scheme.name} needs opset {least}, and the model has opset {opset}" if opset < least else ""


def _static(recipe: Recipe, files: Files) -> str:
    scheme = recipe.scheme
    assert scheme.activations is not None
    options = ['"UseQDQContribOps": bool(half)']
    if scheme.activations.symmetric:
        options.append('"ActivationSymmetric": True')
    if recipe.keeps_activations:
        options.append('"QDQKeepRemovableActivations": True')
    if recipe.wide:
        wide = _QUANT_TYPES[scheme.activations.widened]
        given = f'{{name: [{{"quant_type": QuantType.{wide}}}] for name in recipe["wide"]}}'
        options.append(f'"TensorQuantOverrides": {given}')
    kinds = "sorted({*QLinearOpsRegistry, *QDQRegistry})"
    if scheme.layers_only:
        kinds = repr(sorted(LAYER_TYPES | HANDS_ON))
        options.append(f'"OpTypesToExcludeOutputQuantization": {sorted(FLOAT_RESULTS)!r}')
    return "\n".join(
        (
            "import json",
            "",
            "import numpy as np",
            "import onnx",
            "from onnxruntime.quantization import QDQQuantizer, QuantType",
            "from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData",
            "from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry",
            "",
            *(_MADE_UP if recipe.basis == SYNTHETIC else ()),
            f"with open({files.recipe!a}, encoding='utf-8') as file:",
            "    recipe = json.load(file)",
            f"model = onnx.load({files.source!a})",
            "",
            "# A range has the type of its tensor. Operators of older opsets take no scales of 16 bits.",
            "known = (*model.graph.value_info, *model.graph.input, *model.graph.output)",
            "kinds = {value.name: value.type.tensor_type.elem_type for value in known}",
            "half = {name for name, kind in kinds.items() if kind == onnx.TensorProto.FLOAT16}",
            "ranges = {}",
            'for name, ends in recipe["ranges"].items():',
            "    kind = np.float16 if name in half else np.float32",
            "    ranges[name] = tuple(kind(end) for end in ends)",
            "# The quantiser takes a Relu or Clip away, and asks for the range of what it reads; a Reshape keeps it.",
            "for node in reversed(model.graph.node):",
            '    if node.op_type in {"Relu", "Clip", "Reshape"} and node.output[0] in ranges:',
            "        ranges.setdefault(node.input[0], ranges[node.output[0]])",
            "for node in model.graph.node:",
            '    if node.op_type == "Reshape" and node.input[0] in ranges:',
            "        ranges.setdefault(node.output[0], ranges[node.input[0]])",
            "",
            "quantizer = QDQQuantizer(",
            "    model,",
            f"    per_channel={scheme.per_channel},",
            "    reduce_range=False,",
            f"    weight_qType=QuantType.{_QUANT_TYPES[scheme.weights]},",
            f"    activation_qType=QuantType.{_QUANT_TYPES[scheme.activations]},",
            "    tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),",
            "    nodes_to_quantize=[],",
            '    nodes_to_exclude=recipe["excluded"],',
            f"    op_types_to_quantize={kinds},",
            f"    extra_options={{{', '.join(options)}}},",
            ")",
            "quantizer.quantize_model()",
            f"quantizer.model.save_model_to_file({files.target!a}, use_external_data_format={files.outside})",
        )
    )


def _dynamic(recipe: Recipe, files: Files) -> str:
    return "\n".join(
        (
            "import json",
            "",
            "from onnxruntime.quantization import QuantType, quantize_dynamic",
            "",
            f"with open({files.recipe!a}, encoding='utf-8') as file:",
            "    recipe = json.load(file)",
            "# The quantiser makes a MatMul and an Add of each Gemm before it looks for these names.",
            'products = [f"{name}_MatMul" for name in recipe["excluded"]]',
            "quantize_dynamic(",
            f"    {files.source!a},",
            f"    {files.target!a},",
            f"    per_channel={recipe.scheme.sharing.axis is not None},",
            f"    weight_type=QuantType.{_QUANT_TYPES[recipe.scheme.weights]},",
            '    nodes_to_exclude=[*recipe["excluded"], *products],',
            f"    use_external_data_format={files.outside},",
            ")",
        )
    )


def _blocks(recipe: Recipe, files: Files) -> str:
    scheme = recipe.scheme
    return "\n".join(
        (
            "import json",
            "",
            "import onnx",
            "from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer",
            "",
            f"with open({files.recipe!a}, encoding='utf-8') as file:",
            "    recipe = json.load(file)",
            "quantizer = MatMulNBitsQuantizer(",
            f"    onnx.load({files.source!a}),",
            f"    block_size={scheme.sharing.block_size},",
            f"    is_symmetric={scheme.weights.symmetric},",
            '    nodes_to_exclude=recipe["excluded"],',
            ")",
            "quantizer.process()",
            f"quantizer.model.save_model_to_file({files.target!a}, use_external_data_format={files.outside})",
        )
    )
