"""Records what the embedding buys: the test photographs by two networks that differ in the fusion
alone.

    koala prepare PHOTOS -o records --size 144 --extractor mobilenet_v2
    koala train records -o with-fusion --crop 64 --epochs 2 --schedule cosine
    koala train records -o without-fusion --crop 64 --epochs 2 --schedule cosine --no-fusion
    python report/pair.py with-fusion/koala.safetensors without-fusion/koala.safetensors

Writes report/recorded/pair.csv, the scores of both, and report/recorded/without_fusion.jpg, what
the second made of the photographs that figures.py shows. The weights themselves are not shipped.
"""

import argparse
from pathlib import Path

from figures import METHODS

from koala_utils import downloads, evaluation, notebook, photos
from koala_utils.colorizer import colorize

RECORDED = Path(__file__).parent / "recorded"
SIDE = 160  # pixels of a photograph in its figure


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "weights", nargs=2, type=Path, metavar="WEIGHTS", help="with fusion, without fusion"
    )
    paths = downloads.find_photos("test")
    methods = {
        name: lambda photo, weights=weights: colorize(photo, weights, "mobilenet_v2", size=96)
        for name, weights in zip(("with fusion", "without fusion"), parser.parse_args().weights)
    }
    strip = {}

    def keep(path, truth, outputs):
        if path in paths[METHODS]:
            strip[path] = photos.resize_short_side(
                photos.crop_square(outputs["without fusion"]), SIDE
            )

    evaluation.write_scores(
        evaluation.evaluate(paths, methods, on_photo=keep), RECORDED / "pair.csv"
    )
    notebook.contact_sheet(
        [list(strip.values())],
        RECORDED / "without_fusion.jpg",
        side=SIDE,
        alt="Test photographs as a network trained without the embedding colours them: "
        + ", ".join(p.name for p in strip),
    )


if __name__ == "__main__":
    main()
