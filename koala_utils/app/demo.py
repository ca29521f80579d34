"""Widgets: color a photograph of one's own, take the colour Turing test, and bring the exposures of a glass plate together.

They run in a notebook, and as pages of their own behind Voilà (`make demo`, `make study`). The controls are native elements of the
browser, drawn by `demo.js` through anywidget: the sliders and pictures of ipywidgets have no name that a screen reader could
say, and its upload sends a file of any size. TensorFlow is imported when a page is shown and not with this module, so that the
page need not wait for it.

Photographs stay in the memory of the kernel, and each page has its own: nothing is written but a download, for a moment, in a
temporary folder, and the answers of the study.
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
MAX_PIXELS = 50_000_000  # of an uploaded photograph, the most that a telephone's camera makes
MAX_UPLOADS = 20  # kept at a time
# None that starts another program, as PostScript does; and a telephone that is asked for these sends its HEIC as JPEG.
FORMATS = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "TIFF": "image/tiff",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
}
PREVIEW, ROUGH = (
    560,
    320,
)  # pixels, side of a square of a preview's area; and while a slider moves, for it must answer at once
THUMBNAIL = 150
LOOKS = {  # several plausible colorings: model and vividness of each
    "cautious": ("koala-plus", 0.0),
    "balanced": ("koala-plus", 0.5),
    "vivid": ("koala-plus", 1.0),
    "the paper's koala": ("koala", None),
}
OWN = "its own"


# ---------------------------------------------------------------- controls


class Part(anywidget.AnyWidget):
    """A control that the function `part` of demo.js draws."""

    _esm = HERE / "demo.js"
    _css = HERE / "demo.css"
    part = traitlets.Unicode().tag(sync=True)
    label = traitlets.Unicode().tag(sync=True)  # what a screen reader calls it
    hint = traitlets.Unicode().tag(sync=True)

    def __repr__(self):  # a notebook is saved with it
        return f"{type(self).__name__}({self.label!r})"


class Slider(Part):
    """A number between `min` and `max`; with the unit "%" it is shown as a share."""

    part = traitlets.Unicode("slider").tag(sync=True)
    value = traitlets.Float(0.0).tag(sync=True)
    min = traitlets.Float(0.0).tag(sync=True)
    max = traitlets.Float(1.0).tag(sync=True)
    step = traitlets.Float(0.01).tag(sync=True)
    unit = traitlets.Unicode("%").tag(sync=True)
    moving = traitlets.Bool(False).tag(sync=True)  # until it is let go
    low = traitlets.Unicode().tag(sync=True)  # what the two ends mean
    high = traitlets.Unicode().tag(sync=True)


class Tiles(Part):
    """Pictures to choose one from: `tiles` is a list of dicts with a "label" and a "picture", the bytes of a JPEG."""

    part = traitlets.Unicode("tiles").tag(sync=True)
    tiles = traitlets.List().tag(sync=True)
    selected = traitlets.Int(-1).tag(sync=True)


class Uploads(Part):
    """Takes files, dropped or chosen, and says how far the work is and what went wrong."""

    part = traitlets.Unicode("uploads").tag(sync=True)
    accept = traitlets.Unicode(",".join(FORMATS.values())).tag(sync=True)
    max_bytes = traitlets.Int(MAX_BYTES).tag(sync=True)
    busy = traitlets.Unicode().tag(sync=True)  # what is being done; empty where nothing is
    progress = traitlets.Float(0.0).tag(sync=True)
    messages = traitlets.List(traitlets.Unicode()).tag(sync=True)


class Wipe(Part):
    """Two pictures of one size under a slider that wipes between them: `before` and `after` are JPEGs."""

    part = traitlets.Unicode("wipe").tag(sync=True)
    before = traitlets.Bytes().tag(sync=True)
    after = traitlets.Bytes().tag(sync=True)
    alt = traitlets.Unicode().tag(sync=True)


class Download(Part):
    """A button; what it downloads is sent to it when it asks."""

    part = traitlets.Unicode("download").tag(sync=True)
    busy = traitlets.Bool(False).tag(sync=True)


class Question(Part):
    """A photograph, shown for some seconds (0: until it is answered), and two buttons: real, or recoloured."""

    part = traitlets.Unicode("question").tag(sync=True)
    picture = traitlets.Bytes().tag(sync=True)
    number = traitlets.Int(0).tag(sync=True)
    count = traitlets.Int(0).tag(sync=True)
    seconds = traitlets.Float(0.0).tag(sync=True)


class Panel(ipywidgets.VBox):
    """Widgets, one below the other."""

    def __repr__(self):
        return f"{type(self).__name__}()"


def compare(before, after, alt):
    """Two photographs of one size, uint8 (H, W, 3), under one slider that wipes between them."""
    return Wipe(
        label="wipe between before and after", before=jpeg(before), after=jpeg(after), alt=alt
    )


def jpeg(rgb, icc_profile=None):
    """A photograph, uint8 (H, W, 3) or (H, W), as the bytes of a JPEG for a browser."""
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(
        buffer, "JPEG", quality=90, **({"icc_profile": icc_profile} if icc_profile else {})
    )
    return buffer.getvalue()


def _shrunk(rgb, size):
    """As `colorizer.shrink`, without TensorFlow."""
    image = Image.fromarray(rgb)
    image.thumbnail((size, size), Image.LANCZOS, reducing_gap=3)
    return np.asarray(image)


def _text(*paragraphs, tag="p"):
    """Paragraphs of plain text as a widget."""
    markup = "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in paragraphs)
    return ipywidgets.HTML(markup).add_class(f"koala-{tag}")


def _box(*children, name):
    return ipywidgets.Box(children).add_class(f"koala-{name}")


# ---------------------------------------------------------------- the demo


@dataclass(eq=False)
class Entry:
    """A photograph of the demo: of the gallery, or uploaded."""

    name: str  # of its file
    source: Path | bytes
    shape: tuple = ()  # (H, W) at full size
    picture: tuple = ()  # where the picture lies in it at full size: see `colorizer.Prediction`
    icc_profile: bytes | None = None
    predictions: dict = field(
        default_factory=dict
    )  # of its preview, by model; empty until it is shown

    @property
    def uploaded(self):
        return isinstance(self.source, bytes)

    @property
    def title(self):
        """What a person calls it: an upload's file name, a bundled photograph's words."""
        return self.name if self.uploaded else self.source.stem.replace("_", " ")

    def read(self):
        """The photograph at full size and its metadata: see :func:`read_upload`."""
        return read_upload(self.name, self.source if self.uploaded else self.source.read_bytes())


def read_upload(name, data):
    """Like `photos.read_photo_and_metadata`, for the bytes of a file that may come from anyone.

    Raises:
        PhotoError: empty, too large in bytes or pixels (before anything is decoded), not of `FORMATS`, or damaged.
    """
    _check_size(name, len(data))
    try:
        Image.open(io.BytesIO(data), formats=list(FORMATS)).close()
    except Exception:
        kinds = ", ".join(FORMATS)
        raise PhotoError(
            f"{name}: not a photograph that can be read here; save it as one of {kinds}."
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


class Demo(Panel):
    """Colors photographs of one's own, or of the bundled ones, and lets one turn the knobs.

    The network is asked once a photograph; what the sliders change is rendered from its answer, at the size of a preview.
    Only a download has the photograph's own size.

    Args:
        collections: names of collections, or folders, whose photographs are offered.
    """

    def __init__(self, collections=("bundled-historical", "bundled")):
        self.entries = [
            Entry(path.name, path) for name in collections for path in downloads.find_photos(name)
        ]
        self.current, self.model, self.lent = None, "koala-plus", {}
        self._arriving, self._batch, self._loader, self._following = bytearray(), (0, 1), None, True
        limits = f"{MAX_BYTES // 10**6} MB and {MAX_PIXELS // 10**6} megapixels each at most"
        self.uploads = Uploads(label="Choose photographs", hint=limits)
        tiles = [_tile(entry.title, _grey(entry.read()[0])) for entry in self.entries]
        self.gallery = Tiles(label="photographs", tiles=tiles)
        self.wipe = Wipe(label="wipe between grey and colour")
        self.vividness = Slider(
            label="Cautious to vivid",
            value=0.5,
            low="cautious",
            high="vivid",
            hint="vivid colours are bolder, and wrong more often",
        )
        self.strength = Slider(
            label="Strength",
            value=1,
            max=2,
            low="grey",
            high="twofold",
            hint="how strong the colours are",
        )
        self.lender = ipywidgets.Dropdown(
            description="Lend it the meaning of", style={"description_width": "initial"}
        )
        self.seen = ipywidgets.HTML()
        self.looks = Tiles(label="plausible colourings")
        self.download = Download(label="Download")
        side = _box(
            self.vividness, self.strength, self.lender, self.seen, self.download, name="side"
        )
        super().__init__(
            [
                self.uploads,
                self.gallery,
                _box(_box(self.wipe, name="picture"), side, name="stage"),
                _box(_text("Several plausible colourings", tag="h2"), self.looks, name="more"),
            ]
        )
        self.add_class("koala-demo").add_class("koala-empty")
        self._list_lenders()
        self.uploads.on_msg(self._received)
        self.gallery.observe(self._gallery_chosen, "selected")
        self.vividness.observe(self._vividness_moved, "value")
        self.strength.observe(self._strength_moved, "value")
        for slider in (self.vividness, self.strength):
            slider.observe(self._slider_let_go, "moving")
        self.looks.observe(self._look_chosen, "selected")
        self.lender.observe(self._lender_chosen, "value")
        self.download.on_msg(self._download_asked)

    # What a person can do; each may raise a PhotoError.

    def choose(self, entry):
        """Shows a photograph of `entries` in color."""
        self._predict(entry)
        if entry is not self.current:
            self.current, self.lent = entry, {}
        with self._silently():
            self.gallery.selected = self.entries.index(entry)
            self.lender.value = self.lender.value if self.lent else OWN
        preview = entry.predictions["koala-plus"].photo
        self.wipe.alt = entry.title
        self.wipe.before = jpeg(_grey(preview), entry.icc_profile)
        self._show()
        self.remove_class("koala-empty")
        self.download.label = f"Download PNG, {entry.shape[1]} × {entry.shape[0]}"
        self._show_seen()
        self._show_looks()

    def upload(self, name, data):
        """Takes the bytes of a file as a new photograph, and shows it."""
        entry = Entry(_plain(name), bytes(data))
        if sum(other.uploaded for other in self.entries) >= MAX_UPLOADS:
            raise PhotoError(
                f"{entry.name}: {MAX_UPLOADS} photographs are here already; open the page anew for more."
            )
        self._predict(entry)
        self.entries.insert(0, entry)
        self.gallery.tiles = [
            _tile(entry.title, _grey(entry.predictions["koala-plus"].photo)),
            *self.gallery.tiles,
        ]
        self._list_lenders()
        self.choose(entry)

    def lend(self, entry):
        """Colors the photograph as if the classifier had seen another one, an `Entry`; None gives its own meaning back."""
        if entry:
            self._predict(entry)
        self.lent = (
            {
                model: _with_embedding(prediction, entry.predictions[model].embedding)
                for model, prediction in self.current.predictions.items()
            }
            if entry
            else {}
        )
        self._show()
        self._show_seen(entry)
        self._show_looks()

    def take_look(self, name):
        """Colors the photograph as one of `LOOKS`."""
        self.model, vividness = LOOKS[name]
        with self._silently():
            self.looks.selected = list(LOOKS).index(name)
            if vividness is not None:
                self.vividness.value = vividness
        self._show()

    def png(self):
        """What is shown, at the photograph's full size: (file name, the bytes of a PNG with its EXIF and ICC profile)."""
        from koala_utils import colorizer

        photo, metadata = self.current.read()
        whole = replace(self._prediction(self.model), photo=photo, picture=self.current.picture)
        result = colorizer.render(whole, self._vividness(), self.strength.value)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "color.png"
            photos.save_photo(result, path, metadata)
            return f"{Path(self.current.name).stem}-color.png", path.read_bytes()

    # What is shown.

    def _prediction(self, model):
        return (self.lent or self.current.predictions)[model]

    def _vividness(self):
        return self.vividness.value if self.model == "koala-plus" else None

    def _show(self):
        from koala_utils import colorizer

        if self.current:
            prediction = self._prediction(self.model)
            if self.vividness.moving or self.strength.moving:
                prediction = _resized(prediction, colorizer.shrink(prediction.photo, ROUGH))
            shown = colorizer.render(prediction, self._vividness(), self.strength.value)
            self.wipe.after = jpeg(shown, self.current.icc_profile)

    def _show_seen(self, lender=None):
        from koala_utils.embedding import top_classes

        classes = top_classes(self._prediction("koala-plus").embedding)[0]
        title = (
            f"What the classifier saw in {lender.title}" if lender else "What the classifier sees"
        )
        self.seen.value = _bars(
            title, classes, "standard deviations above the mean of its 1,000 classes"
        )

    def _show_looks(self):
        from koala_utils import colorizer

        def small(model):
            prediction = self._prediction(model)
            return _resized(prediction, colorizer.shrink(prediction.photo, THUMBNAIL * 2))

        self.looks.tiles = [
            _tile(name, colorizer.render(small(model), vividness), 2 * THUMBNAIL)
            for name, (model, vividness) in LOOKS.items()
        ]
        with self._silently():
            self.looks.selected = self._matching_look()

    def _matching_look(self):
        return next(
            (i for i, look in enumerate(LOOKS.values()) if look == (self.model, self._vividness())),
            -1,
        )

    def _list_lenders(self):
        with self._silently():
            kept = self.lender.value or OWN
            self.lender.options = [(OWN, OWN), *((entry.title, entry) for entry in self.entries)]
            self.lender.value = kept

    def _predict(self, entry):
        """Asks the networks about a photograph, once."""
        if entry.predictions:
            return
        self._report(f"Reading {entry.title} …", 0.1)
        photo, metadata = entry.read()
        if self._loader and self._loader.is_alive():
            self._report("Loading the model …", 0.3)
            self._loader.join()
        from koala_utils import colorizer

        self._report(f"Colouring {entry.title} …", 0.5)
        plus = colorizer.predict(photo)
        self._report(f"Colouring {entry.title} …", 0.8)
        koala = colorizer.predict(photo, "koala", embedding=plus.embedding)
        entry.shape, entry.picture, entry.icc_profile = (
            photo.shape[:2],
            plus.picture,
            metadata.get("icc_profile"),
        )
        preview = colorizer.shrink(photo, PREVIEW)
        entry.predictions = {
            prediction.network: _resized(prediction, preview) for prediction in (plus, koala)
        }

    # What the page sends.

    def _received(self, _, message, buffers):
        if message["kind"] == "shown" and not self._loader:
            self._loader = threading.Thread(target=_load, daemon=True)
            self._loader.start()
        elif message["kind"] == "file":
            self._take_part(message, buffers)

    def _take_part(self, message, buffers):
        """A part of an uploaded file. The page sends nothing of one that is too large, and no more is kept of any."""
        if message["start"] == 0:
            self._arriving = bytearray()
            if message["number"] == 0:
                self.uploads.messages = []
        if len(self._arriving) <= MAX_BYTES:
            self._arriving += b"".join(buffers)
        if message["last"]:
            data, self._arriving = self._arriving, bytearray()
            with self._working((message["number"], message["count"])):
                _check_size(
                    _plain(message["name"]),
                    max(len(data), message["size"]) if message["size"] >= 0 else 0,
                )
                self.upload(message["name"], data)

    def _gallery_chosen(self, change):
        if self._following and change.new >= 0:
            self.uploads.messages = []
            with self._working():
                self.choose(self.entries[change.new])
            with self._silently():  # what could not be shown is not marked, and may be chosen again
                self.gallery.selected = self.entries.index(self.current) if self.current else -1

    def _vividness_moved(self, _):
        if self._following:
            self.model = "koala-plus"
            with self._silently():
                self.looks.selected = self._matching_look()
            self._show()

    def _strength_moved(self, _):
        self._show()

    def _slider_let_go(self, change):
        if not change.new:
            self._show()

    def _look_chosen(self, change):
        if self._following and change.new >= 0:
            self.take_look(list(LOOKS)[change.new])

    def _lender_chosen(self, change):
        if self._following and self.current:
            with self._working():
                self.lend(None if change.new == OWN else change.new)

    def _download_asked(self, _, message, buffers):
        if message["kind"] != "make" or not self.current:
            return
        self.download.busy = True
        with self._working():
            self._report("Colouring it at full size …", 0.5)
            name, data = self.png()
            self.download.send({"name": name, "type": "image/png"}, [data])
        self.download.busy = False

    def _say(self, message):
        self.uploads.messages = [*self.uploads.messages, message]

    def _report(self, what, share):
        """Says what is being done, and how far the whole batch of files is."""
        number, count = self._batch
        self.uploads.busy = what if count == 1 or not what else f"{what} ({number + 1} of {count})"
        self.uploads.progress = (number + share) / count

    @contextlib.contextmanager
    def _working(self, batch=(0, 1)):
        """What goes wrong inside is said in a sentence beside the upload, and the page goes on working."""
        self._batch = batch
        try:
            yield
        except PhotoError as error:
            self._say(str(error))
        except Exception as error:  # its text may name files of this machine
            if os.environ.get("KOALA_DEBUG"):
                raise
            self._say(f"That did not work ({type(error).__name__}); please try another photograph.")
        finally:
            self._batch = 0, 1
            self._report("", 0.0)

    @contextlib.contextmanager
    def _silently(self):
        """Controls are set, and nothing follows from it."""
        before, self._following = self._following, False
        try:
            yield
        finally:
            self._following = before


def _load():
    """Imports TensorFlow and builds the networks, by coloring something small."""
    from koala_utils import colorizer

    something = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    for model in ("koala-plus", "koala"):
        colorizer.render(colorizer.predict(something, model))


def _resized(prediction, photo):
    """The same prediction for the photograph at another size."""
    down, across = (new / old for new, old in zip(photo.shape[:2], prediction.photo.shape))
    top, bottom, left, right = prediction.picture
    picture = round(top * down), round(bottom * down), round(left * across), round(right * across)
    return replace(prediction, photo=photo, picture=picture)


def _with_embedding(prediction, embedding):
    """What the network makes of the photograph when it is told something else of what it shows."""
    from koala_utils import colorizer

    network = colorizer.load_network(prediction.network)
    output = colorizer.predict_output(network, prediction.lightness[None], embedding[None])
    return replace(prediction, embedding=embedding, output=np.asarray(output))


def _grey(rgb):
    """The photograph without its color: as `film.grey_photo`, and without TensorFlow."""
    return np.repeat(np.asarray(Image.fromarray(rgb).convert("L"))[..., None], 3, axis=-1)


def _tile(title, rgb, size=THUMBNAIL):
    image = Image.fromarray(rgb)
    image.thumbnail((size, size), Image.LANCZOS, reducing_gap=3)
    return {"label": title, "picture": jpeg(np.asarray(image))}


def _plain(name):
    """A file name as it may be shown and given to a download: no folders, no control characters, not endless."""
    name = "".join(
        letter for letter in str(name).replace("\\", "/").split("/")[-1] if letter.isprintable()
    )
    stem, dot, suffix = name.rpartition(".")
    return (
        f"{(stem or suffix)[:80]}{dot if stem else ''}{suffix[:10] if stem else ''}" or "photograph"
    )


def _bars(title, classes, unit):
    """The top classes as HTML: a list of names, bars and numbers."""
    longest = max(value for _, value in classes)
    rows = "".join(
        f'<li><span>{html.escape(name)}</span><i style="width:{100 * value / longest:.0f}%"></i><b>{value:.1f}</b></li>'
        for name, value in classes
    )
    return f'<div class="koala-bars"><h2>{html.escape(title)}</h2><ol>{rows}</ol><p class="koala-small">{unit}</p></div>'


# ---------------------------------------------------------------- the colour Turing test


class Study(Panel):
    """The colour Turing test of `koala_utils.app.study`: photographs, real or recolored, for two seconds or as long as one likes.

    Args:
        paths: of color photographs; None takes the test collection where it is at hand, and otherwise the bundled ones.
        answers: the csv file to which each answer is appended.
        seed: of the draw; None draws anew for every person.
    """

    def __init__(self, paths=None, answers=WORK / "study.csv", seed=None):
        self.answers, self.session, self.given = Path(answers), uuid.uuid4().hex[:8], []
        self.shown = study.draw(paths or study_photographs(), seed)
        self._pool, self.pictures = ThreadPoolExecutor(1), None
        count = len(self.shown)
        self.intro = _text(
            f"You will see {count} photographs. Some are as they were taken; of the others the colours were"
            " taken away and guessed anew. Say of each whether its colours are real.",
            "Your answers, and how long each took you, are kept in a file on this computer, without your name.",
        )
        self.timed = ipywidgets.Button(description="Two seconds for each").add_class("koala-button")
        self.untimed = ipywidgets.Button(description="As long as I like").add_class("koala-button")
        self.question = Question(label="photograph", count=count)
        self.note = ipywidgets.HTML()
        super().__init__(
            [self.intro, _box(self.timed, self.untimed, name="answers"), self.question, self.note]
        )
        self.add_class("koala-study").add_class("koala-intro")
        self.timed.on_click(lambda _: self.start(2.0))
        self.untimed.on_click(lambda _: self.start(0.0))
        self.question.on_msg(self._received)

    def prepare(self):
        """Begins to color, in the background."""
        if not self.pictures:
            self.pictures = [
                self._pool.submit(study_picture, path, recolored) for path, recolored in self.shown
            ]

    def start(self, seconds):
        """Shows the first photograph; each for so many seconds, or until it is answered where that is 0."""
        self.prepare()
        self.question.seconds = seconds
        self.remove_class("koala-intro")
        self._ask()

    def answer(self, real, seconds):
        """Keeps the answer to the photograph that is shown, and shows the next one, or in the end what all answers say."""
        path, recolored = self.shown[len(self.given)]
        given = study.Answer(
            self.session, path.stem, recolored, bool(real), round(float(seconds), 2)
        )
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
        self.add_class("koala-finished")
        kinds = {True: "real", False: "recoloured"}
        reveal = "".join(
            _figure(
                picture.result(),
                f"{kinds[not given.recolored]}; you said {kinds[given.taken_for_real]}",
            )
            for picture, given in zip(self.pictures, self.given)
        )
        lines = html.escape("\n".join(study.report(study.read_answers(self.answers))))
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
    """Color photographs for the test: the test collection where it is at hand, and otherwise the bundled ones."""
    return downloads.find_photos("test" if downloads.is_at_hand("test") else "bundled")


def study_picture(path, recolored, size=640):
    """A photograph of the study as a JPEG, real or recolored; both go the same way but for the color."""
    photo = _shrunk(photos.read_photo(path), size)
    if recolored:
        from koala_utils import colorize

        photo = colorize(photo)
    return jpeg(photo)


# ---------------------------------------------------------------- a plate


def plate_assembly(plate, size=420):
    """A glass plate coming together: its three exposures, sliders that move the blue and the red one, and the color picture.

    At 0 an exposure is laid on the green one as it lies on the plate, at 1 as it was aligned, with its shift, rotation and
    scale; the fine shifts, in pixels of the plate, are added to that.

    Args:
        plate: a `koala_utils.plates.Plate`.
        size: pixels; a larger plate is shown as a smaller copy, whose shifts are smaller too.

    Returns:
        A `Panel` with the attributes `together`, a dict from "blue" and "red" to their sliders; `fine`, from
        ("blue", "down") and so on to theirs; and `picture`, the `ipywidgets.HTML` that shows the color picture.
    """
    from koala_utils import plates

    share = min(1, size / max(plate.exposures[0].shape))
    exposures = [_scaled(exposure, share) for exposure in plate.exposures]
    colors = {"blue": plate.blue, "red": plate.red}
    together = {
        color: Slider(label=f"{color}, moved into place", low="as it lies", high="as aligned")
        for color in colors
    }
    fine = {
        (color, way): Slider(label=f"{color}, {way} by", min=-10, max=10, step=0.5, unit="px")
        for color in colors
        for way in ("down", "right")
    }
    picture = ipywidgets.HTML()

    def placed(color):
        whole, t = colors[color], together[color].value
        shift = tuple(
            share * (t * whole.shift[i] + fine[color, way].value)
            for i, way in enumerate(("down", "right"))
        )
        return replace(whole, shift=shift, angle=t * whole.angle, scale=1 + t * (whole.scale - 1))

    final = [
        replace(whole, shift=tuple(share * part for part in whole.shift))
        for whole in colors.values()
    ]

    def show(_=None):
        rgb = plates.overlay(exposures, placed("blue"), placed("red"), crop_for=final)
        picture.value = _figure(jpeg(rgb), "the colour picture of the three exposures")

    for control in (*together.values(), *fine.values()):
        control.observe(show, "value")
    show()
    row = "".join(
        _figure(jpeg(np.round(exposure * 255).astype(np.uint8)), f"through the {name} filter")
        for exposure, name in zip(exposures, ("blue", "green", "red"))
    )
    sliders = [
        _box(together[color], fine[color, "down"], fine[color, "right"], name="sliders")
        for color in colors
    ]
    widget = Panel(
        [
            ipywidgets.HTML(row).add_class("koala-exposures"),
            _box(*sliders, name="columns"),
            picture.add_class("koala-assembled"),
        ]
    )
    widget.together, widget.fine, widget.picture = together, fine, picture
    return widget.add_class("koala-plate")


def _scaled(exposure, share):
    if share == 1:
        return exposure
    shape = round(exposure.shape[1] * share), round(exposure.shape[0] * share)
    return np.clip(np.asarray(Image.fromarray(exposure).resize(shape, Image.LANCZOS)), 0, 1)


def _figure(picture, caption):
    """A JPEG with its caption as HTML."""
    data = base64.b64encode(picture).decode()
    return (
        f'<figure><img decoding="sync" alt="{caption}" src="data:image/jpeg;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )
