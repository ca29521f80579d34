"""Widgets: colour your own photographs, and take the colour Turing test.

They run in a notebook, and as pages of their own behind Voilà (`make demo`, `make study`). The
controls are native elements of the browser, which `demo.js` draws through anywidget. The controls
of ipywidgets have no name for a screen reader, and its upload sends a file of any size. TensorFlow
is imported when a page is shown and not with this module, so the page need not wait for it.

Photographs stay in the memory of the kernel, and each page has its own kernel. Only two things are
written: a download, for a moment, in a temporary folder; and the answers of the study.
"""

import base64
import contextlib
import html
import io
import os
import tempfile
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import anywidget
import ipywidgets
import numpy as np
import traitlets
from PIL import Image

from koala_utils import WORK, downloads, photos
from koala_utils.app import study
from koala_utils.photos import PhotoError

HERE = Path(__file__).parent
MAX_BYTES = 40_000_000  # of an uploaded file
MAX_PIXELS = 50_000_000  # of an uploaded photograph: what a telephone's camera makes
MAX_UPLOADS = 20  # kept at a time
MAX_HINTS = 100  # on one photograph
PER_COLLECTION = 12  # photographs of the gallery, spread over a larger collection
# No format that starts another program, such as PostScript. A telephone sends HEIC as one of these.
FORMATS = ("JPEG", "PNG", "TIFF", "WEBP", "GIF", "BMP")
PREVIEW = 560  # pixels, side of a square of a preview's area
ROUGH = 320  # the same while a slider moves, so that the picture follows at once
THUMBNAIL = 150
LOOKS = {  # several plausible colourings: model and vividness of each
    "cautious": ("koala-plus", 0.0),
    "balanced": ("koala-plus", 0.5),
    "vivid": ("koala-plus", 1.0),
    "the paper's koala": ("koala", None),
}
OWN = "its own"


# ---------------------------------------------------------------- controls


def _synced(trait):
    return trait.tag(sync=True)


class Part(anywidget.AnyWidget):
    """A control that the function `part` of demo.js draws."""

    _esm = HERE / "demo.js"
    _css = HERE / "demo.css"
    part = _synced(traitlets.Unicode())
    label = _synced(traitlets.Unicode())  # what a screen reader calls it
    hint = _synced(traitlets.Unicode())

    def __repr__(self):  # it is saved in the notebook
        return f"{type(self).__name__}({self.label!r})"


class Slider(Part):
    """A number between `min` and `max`; with the unit "%" it is shown as a share."""

    part = _synced(traitlets.Unicode("slider"))
    value = _synced(traitlets.Float(0.0))
    min = _synced(traitlets.Float(0.0))
    max = _synced(traitlets.Float(1.0))
    step = _synced(traitlets.Float(0.01))
    unit = _synced(traitlets.Unicode("%"))
    moving = _synced(traitlets.Bool(False))  # True until the slider is released
    low = _synced(traitlets.Unicode())  # what the two ends mean
    high = _synced(traitlets.Unicode())


class Tiles(Part):
    """Pictures to choose one from: dicts with a "label" and a "picture", the bytes of a JPEG."""

    part = _synced(traitlets.Unicode("tiles"))
    tiles = _synced(traitlets.List())
    selected = _synced(traitlets.Int(-1))


class Uploads(Part):
    """Takes dropped or chosen files, and shows the progress and what went wrong."""

    part = _synced(traitlets.Unicode("uploads"))
    accept = _synced(traitlets.Unicode(",".join(f"image/{kind.lower()}" for kind in FORMATS)))
    max_bytes = _synced(traitlets.Int(MAX_BYTES))
    busy = _synced(traitlets.Unicode())  # what is being done; empty if nothing is
    progress = _synced(traitlets.Float(0.0))
    messages = _synced(traitlets.List(traitlets.Unicode()))


class Wipe(Part):
    """Two JPEGs of one size, `before` and `after`, under a slider that wipes between them."""

    part = _synced(traitlets.Unicode("wipe"))
    before = _synced(traitlets.Bytes())
    after = _synced(traitlets.Bytes())
    alt = _synced(traitlets.Unicode())


class Hinted(Wipe):
    """A wipe whose coloured picture takes hints: [x, y, colour] in the photograph's pixels."""

    part = _synced(traitlets.Unicode("hinted"))
    size = _synced(traitlets.List([1, 1]))  # width and height of the photograph
    hints = _synced(traitlets.List())  # the page asks for changes by a message
    answered = _synced(traitlets.Any(0))  # the number of the last such message
    undoable = _synced(traitlets.Bool(False))
    offers = _synced(traitlets.Dict())  # the place "x", "y", and its "colors": [colour, share] each
    messages = _synced(traitlets.List(traitlets.Unicode()))


class Download(Part):
    """A button; the file is sent to it when it asks for it."""

    part = _synced(traitlets.Unicode("download"))
    busy = _synced(traitlets.Bool(False))


class Question(Part):
    """A photograph, shown for some seconds (0: until it is answered), and two buttons."""

    part = _synced(traitlets.Unicode("question"))
    picture = _synced(traitlets.Bytes())
    number = _synced(traitlets.Int(0))
    count = _synced(traitlets.Int(0))
    seconds = _synced(traitlets.Float(0.0))


class Panel(ipywidgets.VBox):
    """Widgets, one below the other."""

    def __repr__(self):
        return f"{type(self).__name__}()"


def compare(before, after, alt):
    """Two photographs of one size, uint8 (H, W, 3), under one slider that wipes between them."""
    label = "wipe between before and after"
    return Wipe(label=label, before=jpeg(before), after=jpeg(after), alt=alt)


def jpeg(rgb):
    """A photograph, uint8 (H, W, 3) or (H, W), as the bytes of a JPEG for a browser."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def figure(picture, caption):
    """The bytes of a JPEG with a caption, as HTML."""
    data = base64.b64encode(picture).decode()
    return (
        f'<figure><img decoding="sync" alt="{caption}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def box(*children, name):
    """Widgets side by side, in a box of the CSS class `koala-name`."""
    return ipywidgets.Box(children).add_class(f"koala-{name}")


def _text(*paragraphs, tag="p"):
    markup = "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in paragraphs)
    return ipywidgets.HTML(markup).add_class(f"koala-{tag}")


def _fitted(rgb, size):
    """A copy that fits into a square of `size` pixels; never an enlarged one."""
    image = Image.fromarray(rgb)
    image.thumbnail((size, size), Image.LANCZOS, reducing_gap=3)
    return np.asarray(image)


def _tile(title, rgb, size=THUMBNAIL):
    return {"label": title, "picture": jpeg(_fitted(rgb, size))}


# ---------------------------------------------------------------- the photographs of the demo


@dataclass(eq=False)
class Entry:
    """A photograph of the demo, from the gallery or uploaded."""

    name: str  # of its file
    source: Path | bytes
    shape: tuple = ()  # (H, W) at full size
    picture: tuple = ()  # where the picture lies in it, as in `colorizer.Prediction`
    predictions: dict = field(default_factory=dict)  # of its preview, by model; empty at first
    hints: list = field(default_factory=list)  # as `colorize` takes them
    past: list = field(default_factory=list)  # the hints before each change

    @property
    def uploaded(self):
        return isinstance(self.source, bytes)

    @property
    def title(self):
        """Its name for people: an upload's file name, or words for a bundled photograph."""
        return self.name if self.uploaded else self.source.stem.replace("_", " ")

    def read(self):
        """The photograph at full size, uint8 (H, W, 3), and its metadata."""
        return read_upload(self.name, self.source if self.uploaded else self.source.read_bytes())


def read_upload(name, data):
    """Like `photos.read_photo_and_metadata`, for the bytes of a file that may come from anyone.

    Raises:
        PhotoError: empty, too large in bytes or pixels (before anything is decoded), not of
            `FORMATS`, or damaged.
    """
    _check_size(name, len(data))
    try:
        Image.open(io.BytesIO(data), formats=FORMATS).close()
    except Exception:
        raise PhotoError(
            f"{name}: not a photograph that can be read here;"
            f" save it as one of {', '.join(FORMATS)}."
        ) from None
    file = io.BytesIO(data)
    file.name = name
    return photos.read_photo_and_metadata(file, MAX_PIXELS)


def _check_size(name, size):
    if size > MAX_BYTES:
        raise PhotoError(
            f"{name}: has {size / 1e6:.1f} MB, and at most {MAX_BYTES / 1e6:.0f} are taken;"
            " make it smaller first."
        )
    if size <= 0:
        raise PhotoError(f"{name}: is empty, or a folder.")


def _plain(name):
    """A file name for display and download: no folders, no control characters, limited length."""
    name = str(name).replace("\\", "/").split("/")[-1]
    name = "".join(letter for letter in name if letter.isprintable())
    stem, dot, suffix = name.rpartition(".")
    return (f"{stem[:80]}{dot}{suffix[:10]}" if stem else suffix[:80]) or "photograph"


def _spread(paths, count):
    """At most `count` of the paths, spread evenly."""
    return [paths[i * len(paths) // count] for i in range(count)] if len(paths) > count else paths


# ---------------------------------------------------------------- the demo


class Demo(Panel):
    """Colours your own photographs or the bundled ones, with controls for the colours.

    The network runs once per photograph. When a slider moves, a preview is rendered from the same
    answer. Only a download has the photograph's own size.

    Args:
        collections: names of collections, or folders, whose photographs are offered.
    """

    def __init__(self, collections=("bundled-historical", "bundled")):
        self.entries = [
            Entry(path.name, path)
            for name in collections
            for path in _spread(downloads.find_photos(name), PER_COLLECTION)
        ]
        self.current, self.model, self.lent = None, "koala-plus", {}
        self._arriving, self._batch, self._loader, self._following = bytearray(), (0, 1), None, True
        limits = f"{MAX_BYTES // 10**6} MB and {MAX_PIXELS // 10**6} megapixels each at most"
        self.uploads = Uploads(label="Choose photographs", hint=limits)
        tiles = [_tile(entry.title, _grey(entry.read()[0])) for entry in self.entries]
        self.gallery = Tiles(label="photographs", tiles=tiles)
        self.wipe = Hinted(label="wipe between grey and colour")
        hint = "vivid colours are bolder, and wrong more often"
        ends = {"low": "cautious", "high": "vivid"}
        self.vividness = Slider(label="Cautious to vivid", value=0.5, hint=hint, **ends)
        hint, ends = "how strong the colours are", {"low": "grey", "high": "twofold"}
        self.strength = Slider(label="Strength", value=1, max=2, hint=hint, **ends)
        style = {"description_width": "initial"}
        self.lender = ipywidgets.Dropdown(description="Lend it the meaning of", style=style)
        self.seen = ipywidgets.HTML()
        self.looks = Tiles(label="plausible colourings")
        self.download = Download(label="Download")
        knobs = self.vividness, self.strength, self.lender, self.seen, self.download
        stage = box(box(self.wipe, name="picture"), box(*knobs, name="side"), name="stage")
        more = box(_text("Several plausible colourings", tag="h2"), self.looks, name="more")
        super().__init__([self.uploads, self.gallery, stage, more])
        self.add_class("koala-demo").add_class("koala-empty")
        self._list_lenders()
        self.uploads.on_msg(self._received)
        self.download.on_msg(self._download_asked)
        self.wipe.on_msg(self._hint_asked)
        self._when(self.gallery, "selected", self._gallery_chosen)
        self._when(self.looks, "selected", lambda i: i >= 0 and self.take_look(list(LOOKS)[i]))
        self._when(self.lender, "value", self._lender_chosen)
        self._when(self.vividness, "value", self._vividness_moved)
        self._when(self.strength, "value", lambda _: self._show())
        for slider in (self.vividness, self.strength):
            self._when(slider, "moving", lambda moving: moving or self._show())

    def _when(self, control, trait, react):
        """Calls `react` with the new value, unless the demo itself sets the control."""
        control.observe(lambda change: self._following and react(change.new), trait)

    @contextlib.contextmanager
    def _silently(self):
        """Context in which the demo sets controls without any reaction."""
        before, self._following = self._following, False
        try:
            yield
        finally:
            self._following = before

    # What a person can do; each may raise a PhotoError.

    def choose(self, entry):
        """Shows a photograph of `entries` in colour."""
        from koala_utils import film

        self._predict(entry)
        self.current, self.lent = entry, {}
        with self._silently():
            self.gallery.selected = self.entries.index(entry)
            self.lender.value = OWN
        self.wipe.size, self.wipe.messages = list(entry.shape[::-1]), []
        self._mark_hints()
        self.wipe.alt = entry.title
        self.wipe.before = jpeg(film.grey_photo(entry.predictions["koala-plus"].photo))
        self.download.label = f"Download PNG, {entry.shape[1]} × {entry.shape[0]}"
        self._show_all()
        self.remove_class("koala-empty")

    def upload(self, name, data):
        """Takes the bytes of a file as a new photograph, and shows it."""
        entry = Entry(_plain(name), bytes(data))
        if sum(other.uploaded for other in self.entries) >= MAX_UPLOADS:
            raise PhotoError(
                f"{entry.name}: {MAX_UPLOADS} photographs are here already;"
                " open the page anew for more."
            )
        self._predict(entry)
        self.entries.insert(0, entry)
        tile = _tile(entry.title, _grey(entry.predictions["koala-plus"].photo))
        self.gallery.tiles = [tile, *self.gallery.tiles]
        self._list_lenders()
        self.choose(entry)

    def lend(self, entry):
        """Colours the photograph with the embedding of another entry; None restores its own."""
        from koala_utils import colorizer

        self.lent = {}
        if entry:
            self._predict(entry)
            self.lent = {
                model: colorizer.predict(
                    own.photo, model, embedding=entry.predictions[model].embedding
                )
                for model, own in self.current.predictions.items()
            }
        self._show_all()

    def take_look(self, name):
        """Colours the photograph as one of `LOOKS`."""
        self.model, vividness = LOOKS[name]
        with self._silently():
            self.looks.selected = list(LOOKS).index(name)
            if vividness is not None:
                self.vividness.value = vividness
        self._show()

    def take_hints(self, hints):
        """Colours the photograph with these hints, as `colorize` takes them, and no others."""
        self._placed(hints)
        self.current.past.append(self.current.hints)
        self.current.hints = hints
        self._show()

    def undo_hints(self):
        """Undoes the last change of the hints."""
        if self.current.past:
            self.current.hints = self.current.past.pop()
            self._show()

    def offer(self, x, y):
        """Offers the colours that koala-plus holds likely at a pixel of the photograph."""
        from koala_utils import lab
        from koala_utils.hints import swatches

        row, column = (int(place) for place in self._placed([[x, y, "grey"]])[0][:2])
        prediction, colors = self._prediction("koala-plus"), []
        if self.model == "koala-plus":
            # Very dark and very bright colours cannot be told apart.
            lightness = np.clip(prediction.lightness[row, column], -0.2, 0.5)
            for chroma, share in swatches(prediction.output[0, row // 4, column // 4]):
                rgb = np.rint(255 * lab.to_rgb(lightness, chroma)).astype(int)
                colors.append(["#{:02x}{:02x}{:02x}".format(*rgb), share])
        self.wipe.offers = {"x": x, "y": y, "colors": colors}

    def png(self):
        """The shown photograph at full size: its file name and the bytes of a PNG."""
        photo, metadata = self.current.read()
        whole = _resized(self._prediction(self.model), photo, self.current.picture)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "color.png"
            photos.save_photo(self._render(whole), path, metadata)
            return f"{Path(self.current.name).stem}-color.png", path.read_bytes()

    # What is shown.

    def _prediction(self, model):
        return (self.lent or self.current.predictions)[model]

    def _look(self):
        return self.model, self.vividness.value if self.model == "koala-plus" else None

    def _render(self, prediction):
        from koala_utils import colorizer

        scale = np.divide(prediction.photo.shape[:2], self.current.shape)
        hints = [(x * scale[1], y * scale[0], color) for x, y, color in self.current.hints]
        return colorizer.render(prediction, self._look()[1], self.strength.value, hints)

    def _placed(self, hints):
        """The hints on koala-plus's small copy of the photograph, as `hints.on_copy` gives them.

        Raises:
            PhotoError: too many hints, an invalid one, or one on a film's edge.
        """
        from koala_utils.hints import HintError, on_copy

        if not isinstance(hints, list) or len(hints) > MAX_HINTS:
            raise PhotoError(f"A photograph takes a list of at most {MAX_HINTS} hints.")
        entry, copy = self.current, self._prediction("koala-plus").lightness
        try:
            placed = on_copy(hints, entry.shape, entry.picture, copy.shape)
        except HintError as error:
            raise PhotoError(str(error)) from None
        if len(placed) < len(hints):
            raise PhotoError("The edge of the film stays grey; choose a place of the picture.")
        return placed

    def _mark_hints(self):
        with self._silently():
            self.wipe.hints = self.current.hints
            self.wipe.undoable = bool(self.current.past)

    def _show(self):
        """The photograph in colour."""
        if self.current:
            prediction = self._prediction(self.model)
            if self.vividness.moving or self.strength.moving:
                prediction = _shrunk(prediction, ROUGH)
            self.wipe.after = jpeg(self._render(prediction))

    def _show_all(self):
        """Also what the classifier sees, and the looks."""
        from koala_utils import colorizer, embedding

        self._show()
        lender = self.lender.value
        title = "What the classifier sees"
        if lender != OWN:
            title = f"What the classifier saw in {lender.title}"
        self.seen.value = _bars(
            title, embedding.top_classes(self._prediction("koala-plus").embedding)[0]
        )
        self.looks.tiles = [
            _tile(
                name,
                colorizer.render(_shrunk(self._prediction(model), 2 * THUMBNAIL), vividness),
                2 * THUMBNAIL,
            )
            for name, (model, vividness) in LOOKS.items()
        ]
        self._mark_look()

    def _mark_look(self):
        looks = list(LOOKS.values())
        with self._silently():
            self.looks.selected = looks.index(self._look()) if self._look() in looks else -1

    def _list_lenders(self):
        with self._silently():
            kept = self.lender.value or OWN
            self.lender.options = [(OWN, OWN), *((entry.title, entry) for entry in self.entries)]
            self.lender.value = kept

    def _predict(self, entry):
        """Runs the networks on a photograph, once."""
        if entry.predictions:
            return
        self._report(f"Reading {entry.title} …", 0.1)
        photo = entry.read()[0]
        if self._loader and self._loader.is_alive():
            self._report("Loading the model …", 0.3)
            self._loader.join()
        from koala_utils import colorizer

        self._report(f"Colouring {entry.title} …", 0.5)
        plus = colorizer.predict(photo)
        self._report(f"Colouring {entry.title} …", 0.8)
        koala = colorizer.predict(photo, "koala")
        entry.shape, entry.picture = photo.shape[:2], plus.picture
        entry.predictions = {each.network: _shrunk(each, PREVIEW) for each in (plus, koala)}

    # What the page sends.

    def _received(self, _, message, buffers):
        if message["kind"] == "shown" and not self._loader:
            self._loader = threading.Thread(target=_load, daemon=True)
            self._loader.start()
        elif message["kind"] == "file":
            self._take_part(message, buffers)

    def _take_part(self, message, buffers):
        """Takes a part of a file. The page sends nothing of a file that is too large, and more than
        the announced size is not kept."""
        if message["start"] == 0:
            self._arriving = bytearray()
            if message["number"] == 0:
                self.uploads.messages = []
        if len(self._arriving) <= MAX_BYTES:
            self._arriving += b"".join(buffers)
        if message["last"]:
            data, self._arriving = self._arriving, bytearray()
            size = max(len(data), message["size"]) if message["size"] >= 0 else 0
            with self._working((message["number"], message["count"])):
                _check_size(_plain(message["name"]), size)
                self.upload(message["name"], data)

    def _gallery_chosen(self, index):
        if index >= 0:
            self.uploads.messages = []
            with self._working():
                self.choose(self.entries[index])
            with self._silently():  # a photograph that could not be shown may be chosen again
                self.gallery.selected = self.entries.index(self.current) if self.current else -1

    def _lender_chosen(self, lender):
        if self.current:
            with self._working():
                self.lend(None if lender == OWN else lender)

    def _vividness_moved(self, _):
        self.model = "koala-plus"
        self._mark_look()
        self._show()

    def _hint_asked(self, _, message, buffers):
        """The page changed the hints, wants to undo, or asks for the likely colours at a place."""
        if self.current and message["kind"] in ("hints", "undo", "offer"):
            self.wipe.messages = []
            with self._working(control=self.wipe):
                if message["kind"] == "hints":
                    self.take_hints(message.get("hints"))
                elif message["kind"] == "undo":
                    self.undo_hints()
                else:
                    self.offer(message["x"], message["y"])
            self._mark_hints()
            self.wipe.answered = message.get("number", self.wipe.answered)

    def _download_asked(self, _, message, buffers):
        if message["kind"] == "make" and self.current:
            self.download.busy = True
            with self._working():
                self._report("Colouring it at full size …", 0.5)
                name, data = self.png()
                self.download.send({"name": name, "type": "image/png"}, [data])
            self.download.busy = False

    # What it says.

    def _report(self, what, share):
        """Shows what is being done, and the progress of the whole batch of files."""
        number, count = self._batch
        self.uploads.busy = what if count == 1 or not what else f"{what} ({number + 1} of {count})"
        self.uploads.progress = (number + share) / count

    @contextlib.contextmanager
    def _working(self, batch=(0, 1), control=None):
        """Context in which an error becomes a sentence beside the upload or another control, and
        the page goes on.
        """
        self._batch, said = batch, []
        try:
            yield
        except PhotoError as error:
            said = [str(error)]
        except Exception as error:  # its text may name files of this machine
            if os.environ.get("KOALA_DEBUG"):
                raise
            said = [f"That did not work ({type(error).__name__}); please try another photograph."]
        finally:
            control = control or self.uploads
            control.messages = [*control.messages, *said]
            self._batch = 0, 1
            self._report("", 0.0)


def _load():
    """Imports TensorFlow and builds the networks by colouring something small."""
    from koala_utils import colorizer

    something = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    for model in ("koala-plus", "koala"):
        colorizer.colorize(something, model)


def _shrunk(prediction, size):
    """The same prediction for a smaller copy of the photograph, of about size x size pixels."""
    from koala_utils import colorizer

    photo = colorizer.shrink(prediction.photo, size)
    scales = np.repeat(np.divide(photo.shape[:2], prediction.photo.shape[:2]), 2)
    picture = tuple(round(float(edge)) for edge in scales * prediction.picture)
    return _resized(prediction, photo, picture)


def _resized(prediction, photo, picture):
    """The same prediction for another copy of the photograph; both share one `Spreader`."""
    result = replace(prediction, photo=photo, picture=picture)
    vars(result)["spreader"] = prediction.spreader  # factorized once per photograph and model
    return result


def _grey(rgb):
    """The grey of a tile, without TensorFlow."""
    return np.asarray(Image.fromarray(rgb).convert("L"))


def _bars(title, classes):
    """The top classes as HTML: a list of names, bars and numbers."""
    longest = max(value for _, value in classes)
    rows = "".join(
        f"<li><span>{html.escape(name)}</span>"
        f'<i style="width:{100 * value / longest:.0f}%"></i><b>{value:.1f}</b></li>'
        for name, value in classes
    )
    unit = "standard deviations above the mean of its 1,000 classes"
    return (
        f'<div class="koala-bars"><h2>{html.escape(title)}</h2><ol>{rows}</ol>'
        f'<p class="koala-small">{unit}</p></div>'
    )


# ---------------------------------------------------------------- the colour Turing test


class Study(Panel):
    """The colour Turing test: which photographs are real, and which are recoloured?

    Args:
        paths: of colour photographs; None takes those of :func:`study_photographs`.
        answers: the csv file to which each answer is appended.
        seed: of the random draw; None draws anew for every person.
    """

    def __init__(self, paths=None, answers=WORK / "study.csv", seed=None):
        self.answers, self.session, self.given = Path(answers), uuid.uuid4().hex[:8], []
        self.shown = study.draw(paths or study_photographs(), seed)
        self._pool, self.pictures = ThreadPoolExecutor(1), None
        self.intro = _text(
            f"You will see {len(self.shown)} photographs. Some are as they were taken; of the"
            " others the colours were taken away and guessed anew. Say of each whether its"
            " colours are real.",
            "Your answers, and how long each took you, are kept in a file on this computer,"
            " without your name.",
        )
        self.timed = ipywidgets.Button(description="Two seconds for each").add_class("koala-button")
        self.untimed = ipywidgets.Button(description="As long as I like").add_class("koala-button")
        self.question = Question(label="photograph", count=len(self.shown))
        self.note = ipywidgets.HTML()
        buttons = box(self.timed, self.untimed, name="answers")
        super().__init__([self.intro, buttons, self.question, self.note])
        self.add_class("koala-study").add_class("koala-intro")
        self.timed.on_click(lambda _: self.start(2.0))
        self.untimed.on_click(lambda _: self.start(0.0))
        self.question.on_msg(self._received)

    def prepare(self):
        """Starts colouring in the background."""
        if not self.pictures:
            self.pictures = [self._pool.submit(study_picture, *shown) for shown in self.shown]

    def start(self, seconds):
        """Shows the first photograph, each for this many seconds; 0 is until it is answered."""
        self.prepare()
        self.question.seconds = seconds
        self.remove_class("koala-intro")
        self._ask()

    def answer(self, real, seconds):
        """Keeps an answer and shows the next photograph, or at the end the result of all."""
        path, recolored = self.shown[len(self.given)]
        seconds = round(float(seconds), 2)
        given = study.Answer(self.session, path.stem, recolored, bool(real), seconds)
        study.append_answer(given, self.answers)
        self.given.append(given)
        if len(self.given) < len(self.shown):
            self._ask()
        else:
            self._finish()

    def _ask(self):
        number = len(self.given)
        if not self.pictures[number].done():
            self.note.value = '<p role="status">Preparing the photographs …</p>'
        picture = self.pictures[number].result()
        self.note.value = ""
        self.question.number = number + 1
        self.question.picture = picture

    def _finish(self):
        right = sum(given.taken_for_real != given.recolored for given in self.given)
        kinds = {True: "real", False: "recoloured"}
        reveal = "".join(
            figure(
                picture.result(),
                f"{kinds[not given.recolored]}; you said {kinds[given.taken_for_real]}",
            )
            for picture, given in zip(self.pictures, self.given, strict=True)
        )
        lines = html.escape("\n".join(study.report(study.read_answers(self.answers))))
        self.add_class("koala-finished")
        self.note.value = (
            f"<h2>You were right about {right} of {len(self.given)}.</h2>"
            f'<div class="koala-reveal">{reveal}</div>'
            f"<h2>All answers kept on this computer</h2><pre>{lines}</pre>"
        )

    def _received(self, _, message, buffers):
        if message["kind"] == "shown":
            self.prepare()
        elif message["kind"] == "answer" and message["number"] == len(self.given) + 1:
            try:
                self.answer(message["real"], message["seconds"])
            except OSError as error:
                reason = html.escape(error.strerror or type(error).__name__)
                self.note.value = f'<p role="alert">The answer could not be kept ({reason}).</p>'


def study_photographs():
    """Colour photographs: the test collection if it is at hand, else the bundled ones."""
    return downloads.find_photos("test" if downloads.is_at_hand("test") else "bundled")


def study_picture(path, recolored, size=640):
    """A photograph of the study as a JPEG, real or recoloured; only the colours differ."""
    photo = _fitted(photos.read_photo(path), size)
    if recolored:
        from koala_utils import colorize

        photo = colorize(photo)
    return jpeg(photo)
