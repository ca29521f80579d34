"""The released models in pictures and tables: writes report/models.md and two figures of a dozen photographs each.

    python report/models.py

Needs the test and historical photographs (downloaded once, or in KOALA_DATA_DIR) and the tables that stand in report/tables. The
photographs are not chosen: every twelfth of the test set's registry, every fourth of the historical one's.
"""

import csv
from pathlib import Path

from PIL import Image

from koala_utils import colorize, evaluation, figures, photos
from koala_utils.embedding import class_names

REPORT = Path(__file__).parent
SIDE = 120  # pixels


def dozen(collection, step):
    """Twelve photographs of a collection with their rows of the registry."""
    paths = {path.name: path for path in photos.find_photos(collection)}
    rows = [row for row in photos.registry(collection) if Path(row["path"]).name in paths]
    return [(row, photos.read_photo(paths[Path(row["path"]).name])) for row in rows[::step][:12]]


def square(photo):
    """The photograph's central square at the size of the figure, coloured before at its own size."""
    return photos.resize_short_side(photos.crop_square(photo), SIDE)


def colorings(photo):
    methods = {"grey": evaluation.grey_baseline, **evaluation.model_methods()}
    return [square(method(photo)) for method in methods.values()]


def write_sheet(rows, path, across):
    """`across` photographs with all their colourings in each line of the figure."""
    lines = [sum(rows[i:i + across], []) for i in range(0, len(rows), across)]
    figures.contact_sheet(lines, path, side=SIDE)
    Image.open(path).verify()


def table(path):
    """A csv file as a Markdown table."""
    with open(path, newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, ["---"] * len(header), *rows])


def main():
    test, old = dozen("test", 12), dozen("historical", 4)
    write_sheet([[*colorings(photo), square(photo)] for _, photo in test], REPORT / "figures" / "test_dozen.jpg", 2)
    write_sheet([colorings(photo) for _, photo in old], REPORT / "figures" / "historical_dozen.jpg", 2)
    names = class_names()[0]
    text = TEMPLATE.format(
        test_credits="\n".join(f"{i}. {names[int(row['label'])]}: {row['author']}, {row['license']}, <{row['link']}>"
                               for i, (row, _) in enumerate(test, 1)),
        old_credits="\n".join(f"{i}. {row['title'].rstrip('.')}: {row['photographer'] or 'unknown photographer'}, {row['year']};"
                              f" {row['collection']}, public domain, <{row['link']}>" for i, (row, _) in enumerate(old, 1)),
        test_table=(REPORT / "tables" / "test" / "table.md").read_text(encoding="utf-8").strip(),
        ablation=table(REPORT / "tables" / "ablation.csv"), exchange=table(REPORT / "tables" / "exchange.csv"))
    (REPORT / "models.md").write_text(text, encoding="utf-8")


TEMPLATE = """# The released models, in pictures and figures

Written by `python report/models.py`; the trainings are in [training](training/README.md), the models' card is
[here](../koala_utils/released/MODEL_CARD.md).

## A dozen test photographs

Every twelfth of the 150, two in a line; each as grey, koala, koala-plus at vividness 0, 0.5 and 1, and the truth.

![Twelve test photographs in grey, as koala and koala-plus colour them, and in truth.](figures/test_dozen.jpg)

{test_credits}

## A dozen historical photographs

Every fourth of the Farm Security Administration's, two in a line; each as grey, koala, and koala-plus at vividness 0, 0.5 and 1.

![Twelve photographs of 1935 to 1943 in grey, and as koala and koala-plus colour them.](figures/historical_dozen.jpg)

{old_credits}

## The test set

150 photographs; `koala evaluate test -o report/tables/test`; 95 % bootstrap intervals over photographs. The number behind koala-plus is its vividness.

{test_table}

## What each part of koala-plus buys

`python report/ablation.py RECORDS -o report/tables/ablation.csv`: every variant trained for the same number of steps, from the same seed, and measured on
validation photographs; the file says how. `ratio` is the squared ab error over grey's and `chroma_share` the mean chroma over the truth's, at vividness 0;
the vivid ones at vividness 1.

{ablation}

One seed and a short training: differences of a hundredth mean little. Choosing among bins is worth most (0.724 against 0.867 for the squared error), then the
finer feature maps (0.796 without), then the embedding (0.753 without). Weights against rarity in the loss make vivid colours that cannot be taken back;
in the decoding they can. Training the encoder too changes nothing in so short a run. The squared error of the mean beside the cross-entropy helps, 0.701; it was
measured after the released model had been trained, which does not have it.

## Other extractors

`python report/exchange.py …`: squared ab error over grey's on 158 of Imagenette's validation photographs, with embeddings of several classifiers, and how
often each classifier names these photographs rightly. No training saw the ResNet50.

{exchange}
"""

if __name__ == "__main__":
    main()
