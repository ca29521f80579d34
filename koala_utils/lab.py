"""RGB <-> lightness in [-1, 1] and chroma in [-1, 1], the two halves of CIE L*a*b*.

Written in TensorFlow, so that it runs inside `tf.data` and on whole batches; equal to
`skimage.color.rgb2lab` (D65 white, 2 degree observer) to 1e-3; only :func:`to_rgb`, which makes pictures and is never part of
a graph, is in NumPy. Formulas: IEC 61966-2-1 for sRGB, CIE 15:2004 for L*a*b*.
"""

import functools

import numpy as np

from koala_utils.backend import tf

# a* and b* of all sRGB colours lie in [-86.2, 98.3] and [-107.9, 94.5]: 110 holds them in [-1, 1].
CHROMA_SCALE = 110.0

_RGB_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_XYZ_TO_RGB = np.linalg.inv(_RGB_TO_XYZ).astype(np.float32)
_WHITE = (0.95047, 1.0, 1.08883)
_THRESHOLD = 6 / 29
_BLOCK = (
    2**16
)  # pixels that are turned into sRGB together, so that what stands between stays in the cache
_DARKEST, _BRIGHTEST = (
    -1e-3 / 12.92,
    ((1.001 + 0.055) / 1.055) ** 2.4,
)  # linear light of the sRGB values -1e-3 and 1 + 1e-3


def to_lab(rgb):
    """sRGB, float (..., 3) in [0, 1] -> L*, a*, b*, float32 (..., 3), L* in [0, 100]."""
    rgb = tf.convert_to_tensor(rgb, tf.float32)
    # The exponent's base is kept positive: TensorFlow evaluates both branches, and so would its gradient.
    linear = tf.where(
        rgb > 0.04045, ((tf.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92
    )
    xyz = tf.tensordot(linear, tf.transpose(tf.constant(_RGB_TO_XYZ)), 1) / tf.constant(_WHITE)
    f = tf.where(
        xyz > _THRESHOLD**3,
        tf.maximum(xyz, _THRESHOLD**3) ** (1 / 3),
        xyz / (3 * _THRESHOLD**2) + 4 / 29,
    )
    x, y, z = tf.unstack(f, axis=-1)
    return tf.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def from_lab(lab):
    """L*, a*, b*, float (..., 3) -> sRGB, float32 (..., 3); colours outside sRGB fall outside [0, 1]."""
    l, a, b = tf.unstack(tf.convert_to_tensor(lab, tf.float32), axis=-1)
    y = (l + 16) / 116
    f = tf.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = tf.where(f > _THRESHOLD, f * f * f, 3 * _THRESHOLD**2 * (f - 4 / 29)) * tf.constant(
        _WHITE
    )
    linear = tf.tensordot(xyz, tf.constant(_XYZ_TO_RGB.T), 1)
    return tf.where(
        linear > 0.0031308,
        1.055 * tf.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055,
        12.92 * linear,
    )


def lightness(grey):
    """The lightness of a grey photograph, float (..., 1) in [0, 1] -> float32 (..., 1) in [-1, 1].

    L* of a grey depends on its one value alone, so this is :func:`to_lab` without the work for colour.
    """
    grey = tf.convert_to_tensor(grey, tf.float32)
    linear = tf.where(
        grey > 0.04045, ((tf.maximum(grey, 0.04045) + 0.055) / 1.055) ** 2.4, grey / 12.92
    )
    y = tf.where(
        linear > _THRESHOLD**3,
        tf.maximum(linear, _THRESHOLD**3) ** (1 / 3),
        linear / (3 * _THRESHOLD**2) + 4 / 29,
    )
    return (116 * y - 16) / 50 - 1


def chroma(rgb):
    """The chroma of a colour photograph, float (..., 3) in [0, 1] -> float32 (..., 2) in [-1, 1]."""
    return to_lab(rgb)[..., 1:] / CHROMA_SCALE


def to_rgb(lightness, chroma):
    """Lightness (..., 1) and chroma (..., 2), both in [-1, 1] -> sRGB, a float32 array (..., 3) in [0, 1].

    Colours that sRGB cannot show are drawn towards grey at the same lightness and hue, and not cut
    off channel by channel, which would turn the hue and shift the lightness. The largest share of the
    chroma that still fits is found by bisection, for the pixels that need it, and in linear light, which costs no powers.
    """
    lightness = np.asarray(lightness, np.float32)
    chroma = np.broadcast_to(np.asarray(chroma, np.float32), (*lightness.shape[:-1], 2))
    rgb = np.empty((*lightness.shape[:-1], 3), np.float32)
    flat = rgb.reshape(-1, 3), lightness.reshape(-1), chroma.reshape(-1, 2)
    for start in range(0, lightness.size, _BLOCK):
        block, l, ab = (each[start : start + _BLOCK] for each in flat)
        y, a, b = (
            (l * 50 + 66) / 116,
            ab[:, 0] * (CHROMA_SCALE / 500),
            ab[:, 1] * (-CHROMA_SCALE / 200),
        )
        linear = _linear_light(y, a, b)
        outside = np.flatnonzero((linear.min(0) < _DARKEST) | (linear.max(0) > _BRIGHTEST))
        if len(outside):
            y, a, b = y[outside], a[outside], b[outside]
            low, high = np.zeros_like(y), np.ones_like(y)
            for _ in range(7):  # to 1/128 of the chroma, less than a step of 8 bits
                middle = (low + high) / 2
                tried = _linear_light(y, a * middle, b * middle)
                fits = (tried.min(0) >= _DARKEST) & (tried.max(0) <= _BRIGHTEST)
                low, high = np.where(fits, middle, low), np.where(fits, high, middle)
            linear[:, outside] = _linear_light(y, a * low, b * low)
        block[:] = _curve()[(np.clip(linear, 0, 1) * 65535 + 0.5).astype(np.uint16)].T
    return rgb


def _linear_light(y, a, b):
    """Red, green and blue in linear light, (3, N), of (L* + 16) / 116, a* / 500 and -b* / 200, (N,) each.

    The cube and the straight line below the threshold meet there, so that a sum can take the place of the choice between them.
    """
    f = np.stack([y + a, y, y + b])
    above = np.maximum(f, _THRESHOLD)
    return (_XYZ_TO_RGB * np.float32(_WHITE)) @ (
        above * above * above + 3 * _THRESHOLD**2 * np.minimum(f - _THRESHOLD, 0)
    )


@functools.cache
def _curve():
    """sRGB's curve at 65,536 steps of linear light: looked up to 1e-4, a fortieth of a step of 8 bits, instead of taking powers."""
    linear = np.linspace(0, 1, 2**16)
    return np.where(linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear).astype(
        np.float32
    )
