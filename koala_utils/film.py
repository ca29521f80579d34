"""A colour photograph -> the grey photograph that black-and-white film would have made of it.

The network is used on grey photographs, so it is trained on the grey photographs made here. It is
never trained on the L* channel of the colour photograph, which no user has. Film reacts to light,
so the channels are weighted in linear light: sRGB's curve is undone first and applied again at the
end (IEC 61966-2-1). The functions for the training use TensorFlow and run inside `tf.data`. The
functions for single photographs use NumPy.
"""

import functools

import numpy as np

from koala_utils import lab
from koala_utils.backend import tf

# Weights of red, green and blue light. They sum to 1: every film sees grey as the same grey.
PANCHROMATIC = (0.2126, 0.7152, 0.0722)  # sees like the eye: the luminance of ITU-R BT.709
ORTHOCHROMATIC = (0.02, 0.58, 0.40)  # usual before about 1930: blind to red
BLUE_SENSITIVE = (0.0, 0.12, 0.88)  # the earliest plates see blue and little else


def to_grey(rgb, response=PANCHROMATIC):
    """The grey photograph of a film with the given spectral response.

    Args:
        rgb: float (..., 3) in [0, 1], sRGB.
        response: weights of red, green and blue light that sum to 1; (3,) or as `rgb` broadcasts.

    Returns:
        float32 tensor (..., 1) in [0, 1], sRGB.
    """
    light = lab.to_linear(rgb) * tf.convert_to_tensor(response, tf.float32)
    return lab.from_linear(tf.reduce_sum(light, -1, keepdims=True))


def grey_of(photo):
    """The panchromatic grey of a single photograph.

    Args:
        photo: uint8 or uint16 (H, W, 3), or (H, W) where it is grey already.

    Returns:
        float32 array (H, W, 1) in [0, 1], sRGB.
    """
    top = np.iinfo(photo.dtype).max
    if photo.ndim == 2:
        return photo[..., None] / np.float32(top)
    light = _light_of_levels(top)[photo] @ np.array(PANCHROMATIC, np.float32)
    return lab.srgb_curve()[(light * 65535 + 0.5).astype(np.uint16)][..., None]


@functools.cache
def _light_of_levels(top):
    """Linear light, float32, of every level of an 8-bit or 16-bit photograph."""
    return lab.to_linear(np.arange(top + 1) / top).numpy()


def grey_photo(photo):
    """The same grey as a photograph: uint8 (H, W, 3) with three equal channels."""
    return np.repeat(np.round(grey_of(photo) * 255).astype(np.uint8), 3, axis=-1)


def random_film(rgb, seed):
    """Grey photographs of random films and archives: the augmentation of the training.

    Two photographs in five are those of plain panchromatic film. Each of the others gets a random
    emulsion, between panchromatic and orthochromatic or blue-sensitive film, and random contrast,
    fading (lighter black, darker white) and grain, which is strongest in the mid-tones.

    Args:
        rgb: float (N, H, W, 3) in [0, 1], sRGB.
        seed: integers (2,), for a stateless draw: the same seed gives the same films.

    Returns:
        float32 tensor (N, H, W, 1) in [0, 1].
    """
    seeds = tf.unstack(tf.random.split(seed, 8))

    def draw(i, low, high):
        return tf.random.stateless_uniform((tf.shape(rgb)[0], 1, 1, 1), seeds[i], low, high)

    pan, ortho, blue = (
        tf.constant(each) for each in (PANCHROMATIC, ORTHOCHROMATIC, BLUE_SENSITIVE)
    )
    share = draw(0, 0.0, 1.0)
    early = tf.where(draw(7, 0.0, 1.0) < 0.6, ortho, blue)
    grey = to_grey(rgb, (1 - share) * pan + share * early)

    grey = tf.clip_by_value(grey, 0.0, 1.0) ** tf.exp(draw(1, -0.35, 0.35))  # contrast
    black, white = draw(2, 0.0, 0.15), draw(3, 0.85, 1.0)  # fading
    grey = black + (white - black) * grey

    grain = tf.random.stateless_normal(tf.shape(grey), seeds[5])
    grey += draw(4, 0.0, 0.05) * grain * (0.3 + 2.8 * grey * (1 - grey))

    plain = draw(6, 0.0, 1.0) < 0.4
    return tf.clip_by_value(tf.where(plain, to_grey(rgb), grey), 0.0, 1.0)
