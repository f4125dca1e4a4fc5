"""Signals as pictures: time-frequency maps and waveforms."""

from functools import partial

import numpy as np

from thesis_rec.tasks import canvas
from thesis_rec.tasks.base import family, named
from thesis_rec.tasks.canvas import Array, Rng

HOP, WINDOW = 20, 64
SAMPLES = HOP * (canvas.SIZE - 1) + WINDOW


def _picture(signal: Array, rng: Rng, noise: Array | float) -> Array:
    """Log magnitudes of a short-time Fourier transform, (n, 32, 32), low frequencies at the bottom."""
    n = len(signal)
    signal = signal / (np.abs(signal).max(1, keepdims=True) + 1e-6) + np.asarray(noise).reshape(
        -1, 1
    ) * rng.standard_normal((n, SAMPLES))
    frames = np.stack([signal[:, k * HOP : k * HOP + WINDOW] for k in range(canvas.SIZE)], axis=2)
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW)[None, :, None], axis=1))[:, 1:33]
    level = np.log(power + 0.25)
    return canvas.normalise(level[:, ::-1].astype(np.float32))


def _tone(frequency: Array, t: Array) -> Array:
    """Sinusoid of an instantaneous frequency (cycles per sample), (n, SAMPLES)."""
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(frequency, (len(frequency), t.shape[1])), axis=1))


def _envelope(n: int, rng: Rng, t: Array) -> Array:
    middle, width = rng.uniform(0.35, 0.65, (n, 1)), rng.uniform(0.25, 0.5, (n, 1))
    return np.exp(-(((t - middle) / width) ** 4))


def _signal(kind: str, n: int, rng: Rng) -> Array:
    t = np.linspace(0, 1, SAMPLES)[None]
    low, high = rng.uniform(0.04, 0.14, (n, 1)), rng.uniform(0.28, 0.44, (n, 1))
    base = rng.uniform(0.12, 0.32, (n, 1))
    sound = {
        "tone": lambda: _tone(base + 0 * t, t),
        "rising": lambda: _tone(low + (high - low) * t, t),
        "falling": lambda: _tone(high + (low - high) * t, t),
        "vibrato": lambda: _tone(
            base + 0.07 * np.sin(2 * np.pi * rng.uniform(2.5, 5, (n, 1)) * t + rng.uniform(0, 6, (n, 1))), t
        ),
        "harmonics": lambda: sum(_tone(low * 0.7 * k + 0 * t, t) / k for k in range(1, 6)),
        "noise": lambda: rng.standard_normal((n, SAMPLES)),
        "clicks": lambda: (np.mod(t * rng.uniform(4, 9, (n, 1)) + rng.random((n, 1)), 1) < 0.02) * 6.0,
        "pulsed": lambda: (
            _tone(base + 0 * t, t) * (np.mod(t * rng.uniform(3, 6, (n, 1)) + rng.random((n, 1)), 1) < 0.5)
        ),
        "hyperbola": lambda: _tone(low + (high - low) * (2 * t - 1) ** 2, t),
        "siren": lambda: _tone(base + 0.12 * (2 * np.abs(np.mod(3 * t + rng.random((n, 1)), 1) - 0.5) - 0.5), t),
    }[kind]()
    return np.asarray(sound) * (_envelope(n, rng, t) if kind != "clicks" else 1)


KINDS = ["tone", "rising", "falling", "vibrato", "harmonics", "noise", "clicks", "pulsed", "hyperbola", "siren"]


def _kind(kind: str, n: int, rng: Rng, noise: tuple[float, float] = (0.05, 0.5)) -> Array:
    return _picture(_signal(kind, n, rng), rng, rng.uniform(*noise, n))


def _rhythm(k: int, n: int, rng: Rng) -> Array:
    """Bursts: k + 1 per picture."""
    t = np.linspace(0, 1, SAMPLES)[None]
    phase = np.mod(t * (k + 1) + rng.random((n, 1)), 1)
    burst = np.exp(-phase * rng.uniform(5, 9, (n, 1)))
    colour = _tone(rng.uniform(0.08, 0.4, (n, 1)) + 0 * t, t) + 0.7 * rng.standard_normal((n, SAMPLES))
    return _picture(burst * colour, rng, 0.06)


def _harmonic_count(k: int, n: int, rng: Rng) -> Array:
    t = np.linspace(0, 1, SAMPLES)[None]
    f = rng.uniform(0.05, 0.075, (n, 1)) * (
        1 + 0.15 * np.sin(2 * np.pi * (t * rng.uniform(0.5, 2, (n, 1)) + rng.random((n, 1))))
    )
    sound = sum(_tone(f * (i + 1), t) * rng.uniform(0.5, 1, (n, 1)) for i in range(k))
    return _picture(np.asarray(sound) * _envelope(n, rng, t), rng, rng.uniform(0.05, 0.3, n))


#: Syllables in a picture, the share of a syllable that sounds, and how far its pitch bends.
CALLS = {
    "tick_tick": (4, 0.12, 0.0),
    "whistle": (1, 0.8, 0.02),
    "trill": (8, 0.5, 0.06),
    "sweep_pair": (2, 0.7, 0.2),
    "chirrup": (3, 0.5, -0.16),
    "buzz": (1, 0.85, 0.0),
    "hoot": (2, 0.6, -0.03),
    "glide": (1, 0.9, -0.18),
}


def _call(kind: str, n: int, rng: Rng) -> Array:
    """Bird-like calls composed of syllables."""
    t = np.linspace(0, 1, SAMPLES)[None]
    base = rng.uniform(0.18, 0.3, (n, 1))
    rate = rng.uniform(0.85, 1.15, (n, 1))
    syllables, gate, bend = CALLS[kind]
    phase = np.mod(t * rate * syllables + rng.random((n, 1)), 1)
    frequency = base * (0.4 if kind == "hoot" else 1) + bend * (phase - 0.3)
    sound = _tone(frequency, t)
    if kind == "buzz":
        sound = sound * np.sin(2 * np.pi * 0.045 * np.arange(SAMPLES))[None]
    if kind == "hoot":
        sound = sound + 0.4 * _tone(frequency * 2, t)
    return _picture(sound * (phase < gate), rng, rng.uniform(0.05, 0.4, n))


WAVES = ["sine", "square", "saw", "triangle", "noise", "beat", "decay", "pulse", "growing", "double"]


def _waveform(kind: str, n: int, rng: Rng) -> Array:
    """Oscilloscope traces."""
    t = np.linspace(-0.95, 0.95, 56)[None]
    p = t * rng.uniform(1.6, 2.6, (n, 1)) + rng.random((n, 1))
    s = np.sin(2 * np.pi * p)
    saw = np.mod(p, 1) * 2 - 1
    value = {
        "sine": lambda: s,
        "square": lambda: np.tanh(s * 9),
        "saw": lambda: saw,
        "triangle": lambda: 2 * np.abs(saw) - 1,
        "noise": lambda: np.clip(rng.normal(0, 0.5, (n, 56)), -1, 1),
        "beat": lambda: np.sin(2 * np.pi * p * 1.6) * np.sin(np.pi * p * 0.4 + 0.3),
        "decay": lambda: np.sin(2 * np.pi * p * 1.3) * np.exp(-(t + 0.95) * 1.6),
        "pulse": lambda: np.exp(-((np.mod(p * 0.8, 1) - 0.5) ** 2) / 0.006) * 1.6 - 0.8,
        "growing": lambda: np.sin(2 * np.pi * p * 1.3) * np.exp((t - 0.95) * 1.6),
        "double": lambda: (s + np.sin(4 * np.pi * p + 0.8)) / 1.8,
    }[kind]()
    x, y = canvas.grid()
    points = np.stack(
        [
            np.broadcast_to(t, value.shape),
            value * rng.uniform(0.4, 0.75, (n, 1)) + rng.uniform(-0.1, 0.1, (n, 1)) + rng.normal(0, 0.02, value.shape),
        ],
        -1,
    )
    return canvas.cover(canvas.polyline(x, y, points) - canvas.uniform(rng, 0.025, 0.06, n))


def _band(k: int, n: int, rng: Rng) -> Array:
    """Filtered noise: which band passes."""
    noise = rng.standard_normal((n, SAMPLES))
    spectrum = np.fft.rfft(noise, axis=1)
    f = np.linspace(0, 1, spectrum.shape[1])[None]
    centre = (k + rng.uniform(0.2, 0.8, (n, 1))) / 6
    kept = np.fft.irfft(spectrum * np.exp(-(((f - centre) / rng.uniform(0.05, 0.12, (n, 1))) ** 2)), SAMPLES, axis=1)
    return _picture(kept, rng, rng.uniform(0.05, 0.3, n))


TASKS = family(
    "spectrograms",
    "structured",
    [
        ("kind", "plain", "Which signal the spectrogram shows.", _kind, KINDS),
        ("faint", "grey", "Which faint signal the spectrogram shows.", partial(_kind, noise=(0.6, 1.1)), KINDS),
        ("rhythm", "lighting", "How many bursts there are.", _rhythm, {f"{k + 1}_bursts": k for k in range(6)}),
        ("harmonics", "blur", "How many harmonics the voice has.", _harmonic_count, named("{}_harmonics", range(1, 7))),
        ("call", "low_contrast", "Which call it is.", _call, list(CALLS)),
        ("waveform", "clutter", "Which waveform the trace shows.", _waveform, WAVES),
        ("band", "occlusion", "Which band of the noise passes.", _band, named("band_{}", range(6))),
    ],
)
