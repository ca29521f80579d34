"""A colour photograph -> the grey photograph that black-and-white film would have made of it.

The network is used on grey photographs, so it is trained on grey photographs made here, and never
on the L* channel of the colour photograph, which no user of it has. Everything is TensorFlow and
runs inside `tf.data`; inputs are float32 in [0, 1].
"""

from koala_utils.backend import tf


# Weights of red, green and blue in a film's answer to light. Panchromatic film, from about 1930 on,
# sees roughly as the eye does (the luma of ITU-R BT.601); orthochromatic film, usual before, is blind
# to red; the earliest plates see blue and little else.
PANCHROMATIC = (0.299, 0.587, 0.114)
ORTHOCHROMATIC = (0.05, 0.55, 0.40)
BLUE_SENSITIVE = (0.0, 0.15, 0.85)


def to_grey(rgb, response=PANCHROMATIC):
    """The grey photograph of a film with the given spectral response.

    Args:
        rgb: float (..., 3) in [0, 1], gamma-encoded sRGB.
        response: three weights that sum to 1.

    Returns:
        float (..., 1) in [0, 1].
    """
    return tf.tensordot(tf.cast(rgb, tf.float32), tf.constant(response, tf.float32)[:, None], 1)


def random_film(rgb, seed):
    """Grey photographs of random films and archives: the augmentation of the training.

    Of each photograph a random spectral response up to 60 % of the way from panchromatic to
    orthochromatic, contrast, fading (black lifted, white lowered), and grain that is strongest in the
    mid-tones. Half of the photographs are left as plain panchromatic film made them.

    Args:
        rgb: float (N, H, W, 3) in [0, 1].
        seed: integers (2,), for a stateless draw: the same seed gives the same films.

    Returns:
        float (N, H, W, 1) in [0, 1].
    """
    seeds = tf.unstack(tf.random.split(seed, 7))

    def draw(i, low, high):
        return tf.random.stateless_uniform((tf.shape(rgb)[0], 1, 1, 1), seeds[i], low, high)

    share = draw(0, 0.0, 0.6)  # of orthochromatic film in the mixture
    grey = (1 - share) * to_grey(rgb) + share * to_grey(rgb, ORTHOCHROMATIC)

    grey = tf.clip_by_value(grey, 0.0, 1.0) ** tf.exp(draw(1, -0.35, 0.35))  # contrast
    black, white = draw(2, 0.0, 0.15), draw(3, 0.85, 1.0)  # fading
    grey = black + (white - black) * grey

    grain = tf.random.stateless_normal(tf.shape(grey), seeds[5])
    grey += draw(4, 0.0, 0.05) * grain * (0.3 + 2.8 * grey * (1 - grey))

    plain = draw(6, 0.0, 1.0) < 0.5
    return tf.clip_by_value(tf.where(plain, to_grey(rgb), grey), 0.0, 1.0)
