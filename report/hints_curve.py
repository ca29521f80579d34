"""What hints are worth: the squared ab error against the number of hints, drawn from the truth.

    python report/hints_curve.py test -o report/tables/hints.csv [--every 5]

Hints are drawn as Zhang et al. do, "Real-Time User-Guided Image Colorization with Learned Deep
Priors" (2017): the mean chroma of squares of 6 pixels, the places from a normal distribution around
the photograph's middle, with a quarter of its sides for a spread. Errors are measured on the small
copy that the chroma is predicted on. Without hints that gives what `koala evaluate` measures at
full resolution, to 0.01 of grey's error, in a tenth of the time.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from tqdm import tqdm

from koala_utils import evaluation, lab
from koala_utils.colorizer import predict
from koala_utils.downloads import find_photos
from koala_utils.files import replacing
from koala_utils.network import chroma_of
from koala_utils.photos import read_photo, resize

COUNTS = (0, 1, 2, 5, 10, 50)
PATCH = 6  # pixels of the small copy
STARTS = ("grey", "koala-plus 0")  # hints alone, and hints on the network's cautious answer


def draw(truth, count, seed):
    """Random hints from the true chroma (h, w, 2): a list of (row, column, chroma, weight)."""
    random, sides = np.random.default_rng(seed), np.array(truth.shape[:2]) - PATCH
    found = []
    for place in random.normal((sides + 1) / 2, (sides + 1) / 4, (count, 2)):
        row, column = np.clip(place, 0, sides).astype(int)
        patch = truth[row : row + PATCH, column : column + PATCH]
        found.append((row + PATCH // 2, column + PATCH // 2, patch.mean((0, 1)), 1.0))
    return found


def measure(photo, seed):
    """Of one photograph: rows (start, hints, squared ab error, that of grey, PSNR in dB)."""
    prediction = predict(photo)
    top, bottom, left, right = prediction.picture
    height, width = prediction.lightness.shape[:2]
    copy = resize(photo[top:bottom, left:right], (height, width))
    truth = lab.chroma(copy / np.float32(255)).numpy()
    hints = draw(truth, max(COUNTS), seed)
    cautious = chroma_of(prediction.output, 0.0).numpy()[0, :height, :width]
    grey = np.mean(truth**2)
    for name, answer in zip(STARTS, (np.zeros_like(truth), cautious), strict=True):
        for count in COUNTS:
            chroma = prediction.spreader.spread(answer, hints[:count])
            output = np.rint(lab.to_rgb(prediction.lightness, chroma) * 255).astype(np.uint8)
            error = np.mean((chroma - truth) ** 2)
            yield name, count, error, grey, evaluation.psnr(output, copy)


def curve(paths, progress=True):
    """The table of several photographs: a list of dicts, one for each start and number of hints."""
    rows = [
        row
        for seed, path in enumerate(tqdm(paths, unit="photo", disable=not progress))
        for row in measure(read_photo(path), seed)
    ]
    table = []
    for name in STARTS:
        for count in COUNTS:
            mine = np.array([row[2:] for row in rows if row[:2] == (name, count)])
            error, grey, psnr = mine.T
            # Drawn again from the photographs: a 95 % bootstrap interval of the ratio.
            draws = np.random.default_rng(0).integers(len(mine), size=(2000, len(mine)))
            low, high = np.percentile(error[draws].sum(1) / grey[draws].sum(1), [2.5, 97.5])
            ratio = error.sum() / grey.sum()
            numbers = {"ratio": ratio, "low": low, "high": high, "psnr": psnr.mean()}
            numbers = {key: round(float(number), 4) for key, number in numbers.items()}
            table.append({"start": name, "hints": count, "photos": len(mine), **numbers})
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", help="colour photographs: a folder, glob, or bundled, test")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--every", type=int, default=1, help="take every n-th photograph only")
    options = parser.parse_args()
    table = curve(find_photos(options.photos)[:: options.every])
    with replacing(options.output) as temporary:
        with temporary.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, table[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(table)
    print(options.output.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
