"""RGB <-> lightness in [-1, 1] and chroma in [-1, 1], the two halves of CIE L*a*b*.

Written in TensorFlow, so that it runs inside `tf.data` and on whole batches; equal to
`skimage.color.rgb2lab` (D65 white, 2 degree observer) to 1e-3. Only :func:`to_rgb`, which makes
pictures, is in NumPy. Formulas: IEC 61966-2-1 for sRGB, CIE 15:2004 for L*a*b*.
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
_BLOCK = 2**16  # pixels turned into sRGB together: intermediate arrays stay in the cache
# Linear light of the sRGB values -1e-3 and 1 + 1e-3.
_DARKEST, _BRIGHTEST = -1e-3 / 12.92, ((1.001 + 0.055) / 1.055) ** 2.4


def to_linear(srgb):
    """sRGB values, float in [0, 1], any shape -> linear light in [0, 1], a float32 tensor."""
    srgb = tf.convert_to_tensor(srgb, tf.float32)
    # The base of the power is kept positive: TensorFlow computes both branches and their gradients.
    power = ((tf.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4
    return tf.where(srgb > 0.04045, power, srgb / 12.92)


def from_linear(light):
    """Linear light -> sRGB values: the inverse of :func:`to_linear`."""
    power = 1.055 * tf.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055
    return tf.where(light > 0.0031308, power, 12.92 * light)


def _cube_root(t):
    """The function f of CIE 15:2004: a cube root, and a straight line near black."""
    line = t / (3 * _THRESHOLD**2) + 4 / 29
    return tf.where(t > _THRESHOLD**3, tf.maximum(t, _THRESHOLD**3) ** (1 / 3), line)


def to_lab(rgb):
    """sRGB, float (..., 3) in [0, 1] -> L*, a*, b*, float32 (..., 3), L* in [0, 100]."""
    xyz = tf.tensordot(to_linear(rgb), tf.transpose(tf.constant(_RGB_TO_XYZ)), 1)
    x, y, z = tf.unstack(_cube_root(xyz / tf.constant(_WHITE)), axis=-1)
    return tf.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def from_lab(lab):
    """L*, a*, b*, float (..., 3) -> sRGB, float32 (..., 3).

    Colours outside sRGB fall outside [0, 1].
    """
    lightness, a, b = tf.unstack(tf.convert_to_tensor(lab, tf.float32), axis=-1)
    y = (lightness + 16) / 116
    f = tf.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = tf.where(f > _THRESHOLD, f**3, 3 * _THRESHOLD**2 * (f - 4 / 29)) * tf.constant(_WHITE)
    return from_linear(tf.tensordot(xyz, tf.constant(_XYZ_TO_RGB.T), 1))


def lightness(grey):
    """The lightness of a grey photograph, float (..., 1) in [0, 1] -> float32 (..., 1) in [-1, 1].

    L* of a grey depends only on its single value: this is :func:`to_lab` without the colour.
    """
    return (116 * _cube_root(to_linear(grey)) - 16) / 50 - 1


def chroma(rgb):
    """The chroma of a colour photograph: sRGB (..., 3) in [0, 1] -> float32 (..., 2) in [-1, 1]."""
    return to_lab(rgb)[..., 1:] / CHROMA_SCALE


def to_rgb(lightness, chroma):
    """Lightness (..., 1) and chroma (..., 2) in [-1, 1] -> sRGB, float32 array (..., 3) in [0, 1].

    A colour that sRGB cannot show is moved towards grey at the same lightness and hue. Clipping
    each channel would change the hue and the lightness. The largest share of the chroma that fits
    is found by bisection in linear light, for the pixels that need it.
    """
    lightness = np.asarray(lightness, np.float32)
    chroma = np.broadcast_to(np.asarray(chroma, np.float32), (*lightness.shape[:-1], 2))
    rgb = np.empty((*lightness.shape[:-1], 3), np.float32)
    flat = rgb.reshape(-1, 3), lightness.reshape(-1), chroma.reshape(-1, 2)
    for start in range(0, lightness.size, _BLOCK):
        block, light, ab = (each[start : start + _BLOCK] for each in flat)
        y = (light * 50 + 66) / 116
        a, b = ab[:, 0] * (CHROMA_SCALE / 500), ab[:, 1] * (-CHROMA_SCALE / 200)
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
        block[:] = srgb_curve()[(np.clip(linear, 0, 1) * 65535 + 0.5).astype(np.uint16)].T
    return rgb


def _linear_light(y, a, b):
    """Linear red, green and blue (3, N) of (L* + 16) / 116, a* / 500 and -b* / 200, (N,) each."""
    f = np.stack([y + a, y, y + b])
    above = np.maximum(f, _THRESHOLD)  # the cube and the line meet there, so they can be added
    below = 3 * _THRESHOLD**2 * np.minimum(f - _THRESHOLD, 0)
    return (_XYZ_TO_RGB * np.float32(_WHITE)) @ (above * above * above + below)


@functools.cache
def srgb_curve():
    """sRGB's curve at 65,536 steps of linear light: looking it up is faster than taking powers.

    The error is at most 1e-4, one fortieth of a step of 8 bits.
    """
    return from_linear(tf.linspace(0.0, 1.0, 2**16)).numpy()
