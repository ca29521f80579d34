"""A colour photograph -> the grey photograph that black-and-white film would have made of it.

The network is used on grey photographs, so it is trained on grey photographs made here, and never
on the L* channel of the colour photograph, which no user of it has. What the training draws is TensorFlow and
runs inside `tf.data`, with inputs float32 in [0, 1]; what is done to a photograph as it was read is NumPy.
"""

import numpy as np

from koala_utils.backend import tf

# Weights of red, green and blue in a film's answer to light. Panchromatic film, from about 1930 on,
# sees roughly as the eye does (the luma of ITU-R BT.601); orthochromatic film, usual before, is blind
# to red; the earliest plates see blue and little else.
PANCHROMATIC = (0.299, 0.587, 0.114)
ORTHOCHROMATIC = (0.05, 0.55, 0.40)
BLUE_SENSITIVE = (0.0, 0.15, 0.85)

NEARLY_BLACK, NEARLY_WHITE = 0.16, 0.97  # of scanned film edges and print borders


def to_grey(rgb, response=PANCHROMATIC):
    """The grey photograph of a film with the given spectral response.

    Args:
        rgb: float (..., 3) in [0, 1], gamma-encoded sRGB.
        response: three weights that sum to 1.

    Returns:
        float (..., 1) in [0, 1].
    """
    return tf.tensordot(tf.cast(rgb, tf.float32), tf.constant(response, tf.float32)[:, None], 1)


def grey_of(photo):
    """The panchromatic grey of a photograph as it was read.

    Args:
        photo: uint8 or uint16 (H, W, 3), or (H, W) where it is grey already.

    Returns:
        float32 array (H, W, 1) in [0, 1].
    """
    top = np.float32(np.iinfo(photo.dtype).max)
    if photo.ndim == 2:
        return photo[..., None] / top
    return (photo @ np.array(PANCHROMATIC, np.float32) / top)[..., None]


def grey_photo(photo):
    """The same grey as a photograph again: uint8 (H, W, 3) with three equal channels."""
    return np.repeat(np.round(grey_of(photo) * 255).astype(np.uint8), 3, axis=-1)


def find_picture(grey, deepest=0.2):
    """Where the picture lies inside the black edge of a film or the white one of a print.

    From each side, lines are taken for an edge as long as seven in ten of their pixels are of the outermost lines'
    nearly black or nearly white; writing on the edge and the round corners of a film's gate are why not all need be.
    A line or two of something else (a notch, the rim between mount and film) is passed over. An edge ends at once: where
    it fades into the picture, goes deeper than `deepest` or is on one side alone, it is a dark picture's own.

    Args:
        grey: float (H, W, 1) in [0, 1].
        deepest: a share of the side.

    Returns:
        (top, bottom, left, right), so that `grey[top:bottom, left:right]` is the picture; all of it where no edge is.
    """
    grey = grey[..., 0]
    edges = {"top": 0, "bottom": 0, "left": 0, "right": 0}

    def inside():
        return (
            slice(edges["top"], grey.shape[0] - edges["bottom"]),
            slice(edges["left"], grey.shape[1] - edges["right"]),
        )

    for _ in range(2):  # twice, for an edge on one side hides the ends of the lines on the others
        for side in edges:
            across = side in ("top", "bottom")
            lines = grey[inside()] if across else grey[inside()].T
            lines = lines if side in ("top", "left") else lines[::-1]
            whole = grey.shape[0 if across else 1]
            reach = int(deepest * whole) - edges[side]
            if reach < 1:
                continue
            alike = _likeness_to_an_edge(lines[:reach], max(1, whole // 100))
            last, gap = -1, max(2, whole // 60)
            for i in np.flatnonzero(alike > 0.7):
                if i - last > gap + 1:
                    break
                last = int(i)
            after = alike[last + 1 + gap // 2 : last + 2 + 2 * gap]
            if last >= 0 and len(after) and after.mean() < 0.5:
                # The picture begins a little further in: scans are soft, and films lie askew.
                edges[side] += last + 1 + whole // 150
    if sum(depth > 0 for depth in edges.values()) < 2:
        return 0, grey.shape[0], 0, grey.shape[1]
    rows, columns = inside()
    return rows.start, rows.stop, columns.start, columns.stop


def _likeness_to_an_edge(lines, outermost):
    """The share of each line's pixels that are as the outermost lines are, where those are nearly black or white."""
    share = np.zeros(len(lines))
    for start in (
        0,
        len(lines) // 12,
    ):  # there may be two edges: the white rim of a mount, and the black film in it
        level = np.median(lines[start : start + outermost])
        if level < NEARLY_BLACK or level > NEARLY_WHITE:
            share = np.maximum(share, (np.abs(lines - level) < 0.06).mean(1))
    return share


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
