"""What the networks learn: scikit-learn's digits as pictures, rows and scenes, and made-up texts, tones and graphs.

A task gives inputs by name, samples along the first axis, and a target for each loss.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from ...digits import load_digits

Arrays = Mapping[str, npt.NDArray[np.generic]]
Random = np.random.Generator
VOCABULARY, TOPICS, LENGTH = 120, 6, 24
SCENE, SAMPLES = 32, 2048
WAVE, FRAME, TONES = 800, 20, 5
NODES = 12


@dataclass(frozen=True)
class Task:
    """Samples of a task.

    Attributes:
        inputs: by the name of the network's input.
        targets: one for each output of the network; class numbers, or values.
    """

    inputs: Arrays
    targets: tuple[npt.NDArray[np.generic], ...]


def pictures(random: Random) -> Task:
    """Digits of 16 x 16: which one is it?"""
    images, labels = _digits(random)
    return Task({"image": images}, (labels,))


def rows(random: Random) -> Task:
    """The same, read row by row."""
    images, labels = _digits(random)
    return Task({"rows": images[:, 0]}, (labels,))


def masks(random: Random) -> Task:
    """A noisy digit: which pixels are ink?"""
    images, _ = _digits(random)
    noise = 0.3 * random.standard_normal(images.shape).astype(np.float32)
    return Task({"image": images + noise}, ((images > 0.5).astype(np.float32),))


def centres(random: Random) -> Task:
    """Where a digit lies in a scene, and how large it is: three values."""
    scenes, _, values = _scenes(random)
    return Task({"image": scenes}, (values,))


def detections(random: Random) -> Task:
    """A scene of 8 x 8 cells: the class of the digit in each (0 for none), and the offset of its middle."""
    scenes, labels, values = _scenes(random)
    classes = np.zeros((SAMPLES, 8, 8), np.int64)
    offsets = np.zeros((SAMPLES, 2, 8, 8), np.float32)
    cell = np.minimum((values[:, :2] * 8).astype(int), 7)
    classes[np.arange(SAMPLES), cell[:, 1], cell[:, 0]] = labels + 1
    offsets[np.arange(SAMPLES), :, cell[:, 1], cell[:, 0]] = values[:, :2] * 8 - cell
    return Task({"image": scenes}, (classes, offsets))


def topics(random: Random) -> Task:
    """Texts of a topic, which decides how often words come; shorter ones are padded with 0."""
    ids, mask, topic = _texts(random)
    return Task({"ids": ids, "mask": mask}, (topic,))


def tags(random: Random) -> Task:
    """Each word's tag: its class, unless the word in front turns it."""
    ids, mask, _ = _texts(random)
    before = np.pad(ids[:, :-1], ((0, 0), (1, 0)))
    return Task({"ids": ids, "mask": mask}, (np.where(mask, (ids % 5 + before % 3) % 5, -100),))


def full_tags(random: Random) -> Task:
    """The same without padding: a network that says nothing of a mask has every position judged."""
    ids, _, _ = _texts(random, least=LENGTH)
    before = np.pad(ids[:, :-1], ((0, 0), (1, 0)))
    return Task({"ids": ids, "mask": np.ones_like(ids)}, ((ids % 5 + before % 3) % 5,))


def next_words(random: Random) -> Task:
    """Each word's successor; there is no padding."""
    ids, _, _ = _texts(random, least=LENGTH)
    return Task({"ids": ids}, (np.pad(ids[:, 1:], ((0, 0), (0, 1)), constant_values=-100),))


def tones(random: Random) -> Task:
    """Noise with a tone of one of so many pitches in parts of it: which pitches sound, frame by frame."""
    time = np.arange(WAVE) / 8000
    frames = WAVE // FRAME
    on = (random.random((SAMPLES, TONES, frames // 8)) < 0.3).repeat(8, axis=2)
    pitch = 300 * 1.5 ** np.arange(TONES)[:, None] * random.uniform(0.97, 1.03, (SAMPLES, TONES, 1))
    waves = (np.sin(2 * np.pi * pitch * time) * on.repeat(FRAME, axis=2)).sum(axis=1)
    level = random.uniform(0.05, 0.5, (SAMPLES, 1))
    waves = level * (waves + random.uniform(0.1, 1, (SAMPLES, 1)) * random.standard_normal((SAMPLES, WAVE)))
    return Task({"wave": waves.astype(np.float32)}, (on.transpose(0, 2, 1).astype(np.float32),))


def graphs(random: Random) -> Task:
    """Random graphs with numbers at their nodes: which nodes have more neighbours above the mean than below it?"""
    upper = np.triu(random.random((SAMPLES, NODES, NODES)) < 0.25, 1)
    links = (upper | upper.transpose(0, 2, 1)).astype(np.float32)
    values = random.standard_normal((SAMPLES, NODES, 8)).astype(np.float32)
    around = (links @ (values[..., :1] > 0) * 2 - links.sum(-1, keepdims=True))[..., 0]
    return Task({"nodes": values, "links": links}, ((around > 0).astype(np.int64),))


TASKS: Mapping[str, Callable[[Random], Task]] = {
    task.__name__: task
    for task in (pictures, rows, masks, centres, detections, topics, tags, full_tags, next_words, tones, graphs)
}


@cache
def _read() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    digits = load_digits()
    return np.concatenate([digits.train, digits.test]), np.concatenate([digits.train_labels, digits.test_labels])


def _digits(random: Random) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    images, labels = _read()
    order = random.integers(len(images), size=SAMPLES)
    noise = 0.05 * random.standard_normal((SAMPLES, *images.shape[1:])).astype(np.float32)
    return np.clip(images[order] + noise, 0, 1), labels[order]


def _scenes(random: Random) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Scenes, the digit in each, and the middle and size of it as parts of the scene."""
    images, labels = _digits(random)
    scenes = 0.1 * random.random((SAMPLES, 1, SCENE, SCENE), np.float32)
    values = np.zeros((SAMPLES, 3), np.float32)
    for scene, image, value in zip(scenes, images, values, strict=True):
        step = int(random.integers(1, 3))
        small = image[0, ::step, ::step]
        side = len(small)
        left, top = random.integers(0, SCENE - side + 1, 2)
        scene[0, top : top + side, left : left + side] += small
        value[:] = ((left + side / 2) / SCENE, (top + side / 2) / SCENE, side / SCENE)
    return scenes, labels, values


def _texts(
    random: Random, least: int = 8
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Word numbers from 1, ones where there is a word, and the topic. Words follow each other in chains."""
    fixed = np.random.default_rng(0)
    likely = fixed.integers(1, VOCABULARY, (TOPICS, VOCABULARY, 3))
    topic = random.integers(0, TOPICS, SAMPLES)
    ids = np.zeros((SAMPLES, LENGTH), np.int64)
    ids[:, 0] = random.integers(1, VOCABULARY, SAMPLES)
    for place in range(1, LENGTH):
        follows = likely[topic, ids[:, place - 1], random.integers(0, 3, SAMPLES)]
        ids[:, place] = np.where(random.random(SAMPLES) < 0.8, follows, random.integers(1, VOCABULARY, SAMPLES))
    mask = (np.arange(LENGTH) < random.integers(least, LENGTH + 1, (SAMPLES, 1))).astype(np.int64)
    return ids * mask, mask, topic
