"""RGB <-> lightness in [-1, 1] and chroma in [-1, 1], the two halves of CIE L*a*b*.

Written in TensorFlow, so that it runs inside `tf.data` and on whole batches; equal to
`skimage.color.rgb2lab` (D65 white, 2 degree observer) to 1e-3. Formulas: IEC 61966-2-1 for sRGB,
CIE 15:2004 for L*a*b*.
"""

from koala_utils.backend import tf


# a* and b* of all sRGB colours lie in [-86.2, 98.3] and [-107.9, 94.5]: 110 holds them in [-1, 1].
CHROMA_SCALE = 110.0

_RGB_TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
_WHITE = (0.95047, 1.0, 1.08883)
_THRESHOLD = 6 / 29
_DARKEST, _BRIGHTEST = -1e-3 / 12.92, ((1.001 + 0.055) / 1.055) ** 2.4  # linear light of the sRGB values -1e-3 and 1 + 1e-3


def to_lab(rgb):
    """sRGB, float (..., 3) in [0, 1] -> L*, a*, b*, float32 (..., 3), L* in [0, 100]."""
    rgb = tf.convert_to_tensor(rgb, tf.float32)
    # The exponent's base is kept positive: TensorFlow evaluates both branches, and so would its gradient.
    linear = tf.where(rgb > 0.04045, ((tf.maximum(rgb, 0.04045) + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = tf.tensordot(linear, tf.transpose(tf.constant(_RGB_TO_XYZ)), 1) / tf.constant(_WHITE)
    f = tf.where(xyz > _THRESHOLD**3, tf.maximum(xyz, _THRESHOLD**3) ** (1 / 3),
                 xyz / (3 * _THRESHOLD**2) + 4 / 29)
    x, y, z = tf.unstack(f, axis=-1)
    return tf.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def from_lab(lab):
    """L*, a*, b*, float (..., 3) -> sRGB, float32 (..., 3); colours outside sRGB fall outside [0, 1]."""
    return _with_gamma(_linear_from_lab(tf.convert_to_tensor(lab, tf.float32)))


def _linear_from_lab(lab):
    """L*, a*, b* -> red, green and blue in linear light."""
    l, a, b = tf.unstack(lab, axis=-1)
    y = (l + 16) / 116
    f = tf.stack([y + a / 500, y, y - b / 200], axis=-1)
    xyz = tf.where(f > _THRESHOLD, f * f * f, 3 * _THRESHOLD**2 * (f - 4 / 29)) * tf.constant(_WHITE)
    return tf.tensordot(xyz, tf.transpose(tf.linalg.inv(tf.constant(_RGB_TO_XYZ))), 1)


def _with_gamma(linear):
    """Linear light -> sRGB."""
    return tf.where(linear > 0.0031308, 1.055 * tf.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055, 12.92 * linear)


def lightness(grey):
    """The lightness of a grey photograph, float (..., 1) in [0, 1] -> float32 (..., 1) in [-1, 1].

    L* of a grey depends on its one value alone, so this is :func:`to_lab` without the work for colour.
    """
    grey = tf.convert_to_tensor(grey, tf.float32)
    linear = tf.where(grey > 0.04045, ((tf.maximum(grey, 0.04045) + 0.055) / 1.055) ** 2.4, grey / 12.92)
    y = tf.where(linear > _THRESHOLD**3, tf.maximum(linear, _THRESHOLD**3) ** (1 / 3),
                 linear / (3 * _THRESHOLD**2) + 4 / 29)
    return (116 * y - 16) / 50 - 1


def chroma(rgb):
    """The chroma of a colour photograph, float (..., 3) in [0, 1] -> float32 (..., 2) in [-1, 1]."""
    return to_lab(rgb)[..., 1:] / CHROMA_SCALE


def to_rgb(lightness, chroma):
    """Lightness (..., 1) and chroma (..., 2), both in [-1, 1] -> sRGB, float32 (..., 3) in [0, 1].

    Colours that sRGB cannot show are drawn towards grey at the same lightness and hue, and not cut
    off channel by channel, which would turn the hue and shift the lightness. The largest share of the
    chroma that still fits is found by bisection, for the pixels that need it, and in linear light, which costs no powers.
    """
    lightness, chroma = tf.convert_to_tensor(lightness, tf.float32), tf.convert_to_tensor(chroma, tf.float32)
    l, ab = (lightness + 1) * 50, chroma * CHROMA_SCALE
    linear = _linear_from_lab(tf.concat([l, ab], -1))
    outside = tf.reduce_any((linear < _DARKEST) | (linear > _BRIGHTEST), axis=-1)
    if tf.reduce_any(outside):
        l_out, ab_out = tf.boolean_mask(l, outside), tf.boolean_mask(ab, outside)
        low, high = tf.zeros_like(l_out), tf.ones_like(l_out)
        for _ in range(7):  # to 1/128 of the chroma, less than a step of 8 bits
            middle = (low + high) / 2
            tried = _linear_from_lab(tf.concat([l_out, ab_out * middle], -1))
            fits = tf.reduce_all((tried >= _DARKEST) & (tried <= _BRIGHTEST), axis=-1, keepdims=True)
            low, high = tf.where(fits, middle, low), tf.where(fits, high, middle)
        inside = _linear_from_lab(tf.concat([l_out, ab_out * low], -1))
        linear = tf.tensor_scatter_nd_update(linear, tf.where(outside), inside)
    return tf.clip_by_value(_with_gamma(linear), 0.0, 1.0)
