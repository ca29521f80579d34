"""How koala-plus's answer is made vivid: by weights against rarity, or by temperature and strength.

    python report/vividness.py PHOTOS [PHOTOS ...]

PHOTOS are validation photographs: folders, globs or collections. For each way of decoding it prints
the squared ab error as a share of grey's, the colourfulness as a share of the truth's, and how many
of a thousand pixels that are neutral in truth come out violet.
"""

import argparse

import numpy as np
import tensorflow as tf
from scipy.special import softmax

from koala_utils import colorizer, evaluation, film, lab, photos, quantization
from koala_utils.downloads import find_photos

BINS, _ = quantization.bins()
RARITY = np.log(quantization.rebalancing_weights())


def weighed(vividness):
    """Zhang et al.'s weights to the power of `vividness`, at a temperature of 1 to 0.6."""
    return lambda logits: softmax((logits + vividness * RARITY) / (1 - 0.4 * vividness), -1) @ BINS


def strengthened(temperature, strength):
    """The annealed mean, times `strength`."""
    return lambda logits: strength * softmax(logits / temperature, -1) @ BINS


WAYS = {f"weights against rarity, {v}": weighed(v) for v in (0.0, 0.5, 1.0)} | {
    f"temperature {t}, strength {s}": strengthened(t, s)
    for t in (1.0, 0.8, 0.6)
    for s in (1.2, 1.3, 1.4, 1.6, 1.8)
}


def measure(photo):
    """Sums over one photograph, uint8 (H, W, 3): for each way (error, colourfulness, violet)."""
    truth = lab.chroma(photo / np.float32(255)).numpy()
    light = lab.lightness(film.grey_of(photo)).numpy()
    neutral = np.linalg.norm(truth, axis=-1) * lab.CHROMA_SCALE < 8
    prediction = colorizer.predict(photo)
    height, width = prediction.lightness.shape[:2]
    sums = {}
    for name, decode in WAYS.items():
        chroma = decode(prediction.output[0])
        chroma = tf.image.resize(chroma, (4 * chroma.shape[0], 4 * chroma.shape[1]))
        chroma = tf.image.resize(chroma[:height, :width], photo.shape[:2]).numpy()
        a, b = np.moveaxis(chroma, -1, 0) * lab.CHROMA_SCALE
        hue = np.degrees(np.arctan2(b, a)) % 360
        violet = (hue > 285) & (hue < 350) & (np.hypot(a, b) > 10) & neutral
        shown = np.round(lab.to_rgb(light, chroma) * 255).astype(np.uint8)
        error = ((chroma - truth) ** 2).sum()
        sums[name] = error, evaluation.colorfulness(shown), violet.sum()
    return sums, (truth**2).sum(), evaluation.colorfulness(photo), neutral.sum()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", nargs="+")
    results = []
    for source in parser.parse_args().photos:
        for path in find_photos(source):
            results.append(measure(colorizer.shrink(photos.read_photo(path), 224)))
    grey, colorful, neutral = (sum(result[i] for result in results) for i in (1, 2, 3))
    print(f"{len(results)} photographs\nway, ratio, colourfulness, violet per 1,000")
    for name in WAYS:
        error, shown, violet = np.sum([result[0][name] for result in results], axis=0)
        print(f"{name}, {error / grey:.3f}, {shown / colorful:.2f},", end=" ")
        print(f"{1000 * violet / max(neutral, 1):.2f}")


if __name__ == "__main__":
    main()
