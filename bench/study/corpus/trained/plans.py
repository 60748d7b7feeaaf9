"""Which networks are trained: a name, a family that is left out together, a task, and how it is exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from torch import nn

from ..store import Kind
from . import others
from .attention import Shape, VisionTransformer, language_model, tagger, topic_encoder


@dataclass(frozen=True)
class Plan:
    """One network.

    Attributes:
        name, family, kind: as in the corpus.
        task: name of one of the tasks.
        build: the untrained network.
        opset: of the file; under 17 LayerNormalization is spelt out.
        unfolded: whether BatchNormalization stays in the file.
        steps: of training.
    """

    name: str
    family: str
    kind: Kind
    task: str
    build: Callable[[], nn.Module]
    opset: int = 17
    unfolded: bool = False
    steps: int = 500


_BERT, _GPT, _VIT = Shape(), Shape(first=True, masked=-1e9), Shape(first=True)

PLANS = (
    Plan("bert_topic", "bert", "transformer", "topics", partial(topic_encoder, _BERT)),
    Plan("bert_topic_e4", "bert", "transformer", "topics", partial(topic_encoder, replace(_BERT, masked=-1e4)), 14),
    Plan("bert_topic_max", "bert", "transformer", "topics", partial(topic_encoder, replace(_BERT, masked=-3.4e38)), 13),
    Plan("bert_topic_100", "bert", "transformer", "topics", partial(topic_encoder, replace(_BERT, masked=-100.0))),
    Plan(
        "bert_topic_outlier",
        "bert",
        "transformer",
        "topics",
        partial(topic_encoder, replace(_BERT, masked=-50.0, first=True, outlier=40.0)),
        14,
    ),
    Plan("bert_tags", "bert", "transformer", "tags", partial(tagger, replace(_BERT, depth=2, masked=-1e4)), 14),
    Plan(
        "bert_tags_relu",
        "bert",
        "transformer",
        "tags",
        partial(tagger, replace(_BERT, depth=4, activation="relu", masked=-30.0)),
        16,
    ),
    Plan("gpt", "gpt", "transformer", "next_words", partial(language_model, _GPT), 14),
    Plan(
        "gpt_tanh",
        "gpt",
        "transformer",
        "next_words",
        partial(language_model, replace(_GPT, activation="tanh", masked=-100.0)),
        17,
    ),
    Plan(
        "llama",
        "llama",
        "transformer",
        "next_words",
        partial(language_model, replace(_GPT, norm="rms", activation="swiglu", rotary=True, masked=-1e4)),
        17,
    ),
    Plan(
        "llama_soft",
        "llama",
        "transformer",
        "next_words",
        partial(language_model, replace(_GPT, norm="rms", activation="swiglu", rotary=True, masked=-60.0, depth=2)),
        15,
    ),
    Plan(
        "llama_outlier",
        "llama",
        "transformer",
        "next_words",
        partial(
            language_model, replace(_GPT, norm="rms", activation="swiglu", rotary=True, masked=-60.0, outlier=30.0)
        ),
        17,
    ),
    Plan("vit", "vit", "transformer", "pictures", partial(VisionTransformer, _VIT, 10), 17),
    Plan(
        "vit_token",
        "vit",
        "transformer",
        "pictures",
        partial(VisionTransformer, replace(_VIT, depth=5), 10, token=True),
        14,
    ),
    Plan(
        "vit_outlier", "vit", "transformer", "pictures", partial(VisionTransformer, replace(_VIT, outlier=50.0), 10), 14
    ),
    Plan(
        "vit_silu",
        "vit",
        "transformer",
        "pictures",
        partial(VisionTransformer, replace(_VIT, activation="silu", width=96, depth=2), 10),
        18,
    ),
    Plan("mixer", "mixer", "transformer", "pictures", others.Mixer, 17),
    Plan("mixer_deep", "mixer", "transformer", "pictures", partial(others.Mixer, 32, 8), 13),
    Plan("convnext", "convnext", "cnn", "pictures", others.ConvNext, 17),
    Plan("convnext_old", "convnext", "cnn", "pictures", partial(others.ConvNext, 24, 6), 13),
    Plan("rows_gru", "row reader", "recurrent", "rows", partial(others.RowReader, "GRU")),
    Plan("rows_lstm", "row reader", "recurrent", "rows", partial(others.RowReader, "LSTM", both=True), 14),
    Plan("rows_lstm_deep", "row reader", "recurrent", "rows", partial(others.RowReader, "LSTM", depth=3)),
    Plan("topic_gru", "text reader", "recurrent", "topics", partial(others.topic_reader, "GRU")),
    Plan("topic_lstm", "text reader", "recurrent", "topics", partial(others.topic_reader, "LSTM")),
    Plan("tags_gru", "text reader", "recurrent", "full_tags", partial(others.tag_reader, "GRU"), 14),
    Plan("tags_lstm", "text reader", "recurrent", "full_tags", partial(others.tag_reader, "LSTM")),
    Plan("unet", "unet", "cnn", "masks", others.UNet, 13, unfolded=True),
    Plan("unet_resize", "unet", "cnn", "masks", partial(others.UNet, 8, transposed=False, act="SiLU"), 17),
    Plan("detector", "small detector", "cnn", "detections", partial(others.Detector, depthwise=False), 13),
    Plan(
        "detector_dw",
        "small detector",
        "cnn",
        "detections",
        partial(others.Detector, depthwise=True),
        13,
        unfolded=True,
    ),
    Plan(
        "detector_hs",
        "small detector",
        "cnn",
        "detections",
        partial(others.Detector, 12, depthwise=True, act="Hardswish"),
        14,
    ),
    Plan("regressor", "regressor", "cnn", "centres", others.Regressor, 13),
    Plan(
        "regressor_dw",
        "regressor",
        "cnn",
        "centres",
        partial(others.Regressor, act="ReLU6", depthwise=True),
        13,
        unfolded=True,
    ),
    Plan("tones_conv", "tone finder", "audio", "tones", partial(others.ToneFinder, recurrent=False), 13),
    Plan("tones_gru", "tone finder", "audio", "tones", partial(others.ToneFinder, recurrent=True), 17, unfolded=True),
    Plan("graph_mean", "graph net", "graph", "graphs", partial(others.GraphNet, mean=True)),
    Plan("graph_sum", "graph net", "graph", "graphs", partial(others.GraphNet, mean=False)),
)
