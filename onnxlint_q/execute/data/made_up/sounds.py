"""Sounds with the statistics of speech and music: tones with harmonics, noise, pauses, and some noise behind it all.

A voice is a tone that glides, its harmonics weighted by a few resonances and swelling a few times a second, as
syllables do; music is a few notes that begin and fade. Recordings differ in loudness, as those of people do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

Signal = npt.NDArray[np.float64]

# Values a second. Networks take from 8000 to 48000; no statistic here is sharp enough to tell them apart.
_RATE = 16000
_HIGHEST = 0.45
_SYLLABLES = (2.5, 5.0)
_VOICES, _NOTES = (85.0, 260.0), (110.0, 880.0)
_RESONANCES = ((500.0, 250.0), (1500.0, 500.0), (2600.0, 700.0))
# Root mean squares of recordings, as natural logarithms, 1 being the largest value there is; noise behind it, in those.
_LOUDNESS, _BEHIND = (-4.0, -1.8), (-6.0, -2.5)
_BREATH = 0.15


def recording(length: int, generator: np.random.Generator) -> Signal:
    """So many values between -1 and 1, of a voice or of a few notes."""
    sound = (_voice if generator.random() < 0.7 else _music)(length, generator)
    sound /= np.sqrt(np.mean(np.square(sound))) + 1e-12
    sound += np.exp(generator.uniform(*_BEHIND)) * generator.standard_normal(length)
    return np.asarray(np.tanh(np.exp(generator.uniform(*_LOUDNESS)) * sound), np.float64)


def spectra(shape: Sequence[int], count: int, generator: np.random.Generator) -> Iterator[Signal]:
    """So many arrays of this shape, with the spectra of a recording.

    The axis with 2^n + 1 places holds frequencies, and the longest other one times. Where one more axis has two
    places, these hold the real and the imaginary part, else the values are magnitudes.
    """
    rank = len(shape)
    frequencies = max(range(1, rank), key=lambda axis: (_is_transform(shape[axis]), shape[axis]))
    others = [axis for axis in range(1, rank) if axis != frequencies]
    parts = next((axis for axis in reversed(others) if shape[axis] == 2), rank)
    times = max((axis for axis in others if axis != parts), key=lambda axis: shape[axis], default=rank + 1)
    steps, width = (shape[times] if times < rank else 1), 2 * (shape[frequencies] - 1)
    hop = max(width // 2, 1)
    sound = recording(hop * count * steps + width, generator)
    windows = np.lib.stride_tricks.sliding_window_view(sound, width)[: hop * count * steps : hop]
    found = np.fft.rfft(windows * np.hanning(width)).reshape(count, steps, -1)
    for one in found:
        made = np.empty((*shape, *(1 for axis in (rank, rank + 1))))
        view = np.moveaxis(made, (times, frequencies, parts), (-3, -2, -1))
        view[...] = np.stack([one.real, one.imag], axis=-1) if parts < rank else np.abs(one)[..., None]
        yield made.reshape(shape)


def _is_transform(length: int) -> bool:
    return length > 2 and (length - 1) & (length - 2) == 0


def _voice(length: int, generator: np.random.Generator) -> Signal:
    seconds = np.arange(length) / _RATE
    pitch = generator.uniform(*_VOICES) * np.exp(0.15 * _slow(seconds, 2.0, generator))
    phase = 2 * np.pi * np.cumsum(pitch) / _RATE
    highest = max(1, int(_HIGHEST * _RATE / pitch.max()))
    sound = np.zeros(length)
    shift = generator.uniform(0.8, 1.25)
    for number in range(1, min(highest, 40) + 1):
        frequency = number * float(pitch.mean())
        gain = sum(1 / (1 + ((frequency - shift * centre) / width) ** 2) for centre, width in _RESONANCES)
        sound += gain / number**0.5 * np.sin(number * phase + generator.uniform(0, 2 * np.pi))
    sound += _BREATH * generator.standard_normal(length)
    swelling = 0.5 + 0.6 * np.sin(2 * np.pi * generator.uniform(*_SYLLABLES) * seconds + generator.uniform(0, 6))
    return np.asarray(sound * np.clip(swelling, 0.02, None), np.float64)


def _music(length: int, generator: np.random.Generator) -> Signal:
    seconds = np.arange(length) / _RATE
    sound = np.zeros(length)
    for _ in range(int(generator.integers(2, 6))):
        frequency = np.exp(generator.uniform(*np.log(_NOTES)))
        begun = seconds - generator.uniform(-0.3, 0.8) * length / _RATE
        fading = np.where(begun > 0, np.exp(-np.clip(begun, 0, None) / generator.uniform(0.2, 1.5)), 0.0)
        for number in range(1, 1 + min(10, max(1, int(_HIGHEST * _RATE / frequency)))):
            tone = np.sin(2 * np.pi * number * frequency * seconds + generator.uniform(0, 2 * np.pi))
            sound += fading / number * tone
    return sound


def _slow(seconds: Signal, rate: float, generator: np.random.Generator) -> Signal:
    """A smooth curve between -1 and 1 that turns about so many times a second."""
    return np.asarray(np.sin(2 * np.pi * rate * generator.uniform(0.5, 1.5) * seconds + generator.uniform(0, 6)))
