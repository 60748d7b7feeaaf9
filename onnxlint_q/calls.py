"""Calls of ONNX Runtime's tools as they are typed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

# Columns of a list that stays in the line of the call, and of a line of one that does not.
_INLINE, _WIDTH = 28, 88


def quantize_static_call(*options: str) -> str:
    """The call with these options; empty if one of them is, because there is then no way to say it.

    Activations are of uint8 where no option says otherwise: the quantiser's own default is int8, which x86 computes in
    float wherever a tensor has several readers (QR004).
    """
    typed = any(option.startswith("activation_type=") for option in options)
    said = options if typed else ("activation_type=QuantType.QUInt8", *options)
    return f"quantize_static(..., {', '.join(said)})" if all(options) else ""


def exclude_option(names: Sequence[str]) -> str:
    """The option that keeps the nodes with these names in float; empty if one of the names is."""
    return f"nodes_to_exclude=[{_list(names)}]" if names and all(names) else ""


def float16_call(source: str, target: str, names: Sequence[str]) -> str:
    """The conversion of a float file to float16 that keeps these nodes in float32; empty if a name is.

    The converter casts to float16 and back between two nodes that it keeps, so values overflow there all the same.
    These casts are removed behind it.
    """
    if not names or not all(names):
        return ""
    kept = f"keep_io_types=True, node_block_list=[{_list(names)}]"
    return "\n".join(
        (
            "from onnxruntime.transformers import float16, onnx_model",
            f"model = onnx_model.OnnxModel(float16.convert_float_to_float16(onnx.load({source!a}), {kept}))",
            "model.topological_sort()",
            "model.remove_cascaded_cast_nodes()  # between nodes in float32",
            f"onnx.save(model.model, {target!a})",
        )
    )


def _list(names: Iterable[str]) -> str:
    """The names as Python writes them, on one line if they fit, else on as many as they need."""
    quoted = [ascii(name) for name in names]
    line = ", ".join(quoted)
    return line if len(line) <= _INLINE else "".join(f"\n    {row}" for row in _rows(quoted)) + "\n"


def _rows(words: Iterable[str]) -> Iterator[str]:
    row = ""
    for word in words:
        if row and len(row) + len(word) > _WIDTH:
            yield row.rstrip()
            row = ""
        row += f"{word}, "
    yield row.rstrip()
