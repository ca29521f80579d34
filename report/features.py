"""The README's pictures of hints and looks, from the released weights."""

import contextlib
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from koala_utils import colorize, downloads, film, notebook, photos
from koala_utils.app import cli

# Places of coffee.png, 600 x 400 pixels: the saucer twice, the handle, the table, the coffee.
HINTS = [
    (130, 200, "#a7290f"),
    (460, 250, "#a7290f"),
    (228, 268, "#a7290f"),
    (520, 120, "#bc6936"),
    (268, 150, "#d8964a"),
]
LOOKS_OF = downloads.BUNDLED / "historical" / "dust_bowl_home.jpg"


def dots(photo, hints, radius=7):
    """The photograph with a white-edged dot of its colour at every hint."""
    marked = photo.copy()
    rows, columns = np.indices(photo.shape[:2])
    for x, y, color in hints:
        distance = np.hypot(rows - y, columns - x)
        marked[distance <= radius + 2] = 255
        marked[distance <= radius] = tuple(bytes.fromhex(color[1:]))
    return marked


def draw_hints(folder):
    """A cup of coffee: what is shown, answered, hinted, and true."""
    truth = photos.read_photo(downloads.BUNDLED / "color" / "coffee.png")
    hinted = colorize(truth, hints=HINTS)
    notebook.photo_grid(
        [[film.grey_photo(truth), colorize(truth)], [dots(hinted, HINTS), truth]],
        path=folder / "figures" / "hints.jpg",
        alt="A cup of coffee four times: in grey; as koala-plus colours it; with five hints, shown"
        " as dots on saucer, handle, table and coffee; and in truth.",
    )


def draw_looks(folder):
    """The sheet that `koala colorize PHOTO --looks` writes."""
    with tempfile.TemporaryDirectory() as out:
        with contextlib.redirect_stdout(None):
            cli.main(["colorize", str(LOOKS_OF), "-o", out, "--looks"])
        (sheet,) = Path(out).glob("*-looks.jpg")
        with Image.open(sheet) as image:
            image.convert("RGB").save(
                folder / "figures" / "looks.jpg",
                quality=88,
                comment=b"An abandoned house five times: as scanned, and cautious, default, vivid"
                b" and the paper's colours.",
            )
