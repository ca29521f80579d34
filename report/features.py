"""The README's pictures of what `koala colorize` can do, from the released weights.

    python report/features.py [-o DIR]

heroes.jpg  every twelfth of the 47 photographs of the FSA/OWI, in grey and in colour
hints.jpg   a photograph, the network's answer, the answer with five hints, and the truth
looks.jpg   the sheet that `koala colorize PHOTO --looks` writes
"""

import argparse
import contextlib
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from koala_utils import ROOT, colorize, downloads, film, notebook, photos
from koala_utils.app import cli
from koala_utils.colorizer import predict, render

# Places of coffee.png, 600 x 400 pixels: the saucer twice, the handle, the table, the coffee.
HINTS = [
    (130, 200, "#a7290f"),
    (460, 250, "#a7290f"),
    (228, 268, "#a7290f"),
    (520, 120, "#bc6936"),
    (268, 150, "#d8964a"),
]
LOOKS_OF = downloads.BUNDLED / "historical" / "dust_bowl_home.jpg"


def heroes(folder, step=12):
    """Squares from inside the film's edge of every `step`-th photograph, in grey and in colour."""
    fsa = [path for path in downloads.find_photos("historical") if path.parent.name == "fsa_owi"]
    row = []
    for path in fsa[::step]:
        prediction = predict(photos.read_photo(path))
        top, bottom, left, right = prediction.picture
        for photo in (prediction.photo, render(prediction)):
            square = photos.crop_square(photo[top:bottom, left:right])
            row.append(photos.resize_short_side(square, 440))
    grid(
        [row[:4], row[4:]],
        "Four photographs of the years 1935 to 1944, each in grey and in colour beside it: a man's"
        " face before a wall of boards; a person picking beans in a green field; a child in a room"
        " papered with newspapers; and a small white house on a plain.",
        folder / "heroes.jpg",
        width=11.0,
    )


def grid(rows, alt, path, **options):
    """`notebook.photo_grid` without what it prints outside of a notebook."""
    with contextlib.redirect_stdout(None):
        notebook.photo_grid(rows, alt=alt, path=path, **options)


def dots(photo, hints, radius=7):
    """The photograph with a white-edged dot of its colour at every hint."""
    marked = photo.copy()
    rows, columns = np.indices(photo.shape[:2])
    for x, y, colour in hints:
        distance = np.hypot(rows - y, columns - x)
        marked[distance <= radius + 2] = 255
        marked[distance <= radius] = tuple(bytes.fromhex(colour[1:]))
    return marked


def hints(folder):
    """A cup of coffee: what is shown, answered, hinted, and true."""
    truth = photos.read_photo(downloads.BUNDLED / "color" / "coffee.png")
    hinted = colorize(truth, hints=HINTS)
    grid(
        [[film.grey_photo(truth), colorize(truth)], [dots(hinted, HINTS), truth]],
        "A cup of coffee four times: in grey; as koala-plus colours it; with five hints, shown as"
        " dots on saucer, handle, table and coffee; and in truth.",
        folder / "hints.jpg",
    )


def looks(folder):
    """The sheet that the command writes, as a picture of at most 1,200 pixels."""
    with tempfile.TemporaryDirectory() as out:
        cli.main(["colorize", str(LOOKS_OF), "-o", out, "--looks"])
        (sheet,) = Path(out).glob("*-looks.jpg")
        with Image.open(sheet) as image:
            image.convert("RGB").save(folder / "looks.jpg", quality=88)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = ROOT / "report" / "figures"
    parser.add_argument("-o", "--output", type=Path, default=default, help="folder of the figures")
    folder = parser.parse_args().output
    hints(folder)
    looks(folder)
    try:
        heroes(folder)
    except photos.PhotoError as error:
        print(f"heroes.jpg is left as it was: {error}")


if __name__ == "__main__":
    main()
