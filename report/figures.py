"""Every figure and table of the report that is not recorded: `make report` calls :func:`make`.

What needs photographs that are not at hand is taken over from the repository as it is, and
:func:`make` says so. All numbers come from tables with one line per photograph and method, so they
can be computed again without a network.
"""

import shutil
from pathlib import Path

import drawings
import numpy as np
import plates as glass
from features import draw_hints, draw_looks

from koala_utils import ROOT, colorize, downloads, evaluation, network, notebook, photos, training
from koala_utils.app import study
from koala_utils.backend import keras
from koala_utils.colorizer import predict, render
from koala_utils.embedding import class_names, embed
from koala_utils.files import write_rows
from koala_utils.film import grey_of

HERE = ROOT / "report"
SIDE = 300  # pixels of a photograph in a figure
COLLECTIONS = ("test", "historical", "plates")  # the slides of 1939-44 are bundled
RECORDED = ("ablation.csv", "exchange.csv", "hints.csv", "small_ablation.csv", "speed.csv")
RECORDED += ("speed.txt",)

# The photographs of each figure are chosen by a rule, not by how well they come out.
HELD_OUT = slice(12, None, 30)  # of the test photographs, by name
METHODS = slice(4, None, 25)
FSA = slice(0, 45, 4)
HEROES = slice(0, 47, 12)
WORST = 8
SHOWN_PLATES = ("00600", "01043", "00889", "01728")  # a meadow, faces, a church, fruit
TRAININGS = [
    ["koala-64", "koala-96", "koala-grey", "koala-128"],
    ["koala-plus-lite2", "koala-plus-lite2-b"],
]
PAIRS = [
    ("with fusion", "without fusion"),
    ("koala-plus 0", "koala"),
    ("koala-plus 0", "grey"),
    ("koala", "mean color"),
]


def make(folder, measure=True):
    """Writes figures/ and tables/ of the report.

    Args:
        folder: of the report.
        measure: colour and measure every photograph anew; else the scores of the repository are
            taken over.

    Returns:
        A dict from each collection that is not at hand to the reason.
    """
    found, missing = find_collections()
    credits = []
    draw_networks(folder)
    draw_trainings(folder)
    measure_all("test", found["test"], folder, measure)
    measure_all("kodachrome", downloads.find_photos("kodachrome-test"), folder, measure)
    write_paired(folder)
    credits += draw_held_out(found["test"], folder)
    credits += draw_methods(found["test"], folder)
    credits += draw_failures(found["test"], folder)
    credits += draw_fsa(found["historical"], folder)
    credits += draw_heroes(found["historical"], folder)
    credits += make_plates(found["plates"], folder, measure)
    draw_intervals(folder)
    draw_historical(folder)
    draw_hints(folder)
    draw_looks(folder)
    count_answers(folder)
    if missing:
        keep("tables/credits.csv", folder)
    else:
        write_rows(credits, folder / "tables" / "credits.csv")
    for name in RECORDED:
        keep(f"tables/{name}", folder)
    return missing


def find_collections():
    """The paths of each collection, none where it is missing; and the reasons of those."""
    found, missing = {}, {}
    for name in COLLECTIONS:
        try:
            found[name] = downloads.find_photos(name)
        except photos.PhotoError as error:
            found[name], missing[name] = [], str(error)
    return found, missing


def keep(name, folder):
    """Takes over the repository's own figure or table of that name."""
    source, target = HERE / name, folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.resolve() != target.resolve():
        shutil.copyfile(source, target)


def square(photo, side=SIDE):
    """A photograph's central square, cut after the whole is colored."""
    return photos.resize_short_side(photos.crop_square(photo), side)


def credit(figure, collection, paths):
    """Whose photographs a figure shows, for its caption: one dict per photograph."""
    rows = {Path(row["path"]).name: row for row in downloads.registry(collection)}
    notes = []
    for path in paths:
        row = rows[path.name]
        note = {
            "author": row.get("author") or row.get("photographer") or "unknown",
            "licence": row.get("license") or f"{row['year']}, public domain",
            "link": row["link"],
        }
        notes.append({"figure": figure, "photo": path.name} | note)
    return notes


# ---------------------------------------------------------------- the networks


def layers_of(model, inputs):
    """A row for each layer: its name, kind, output shape for `inputs` (shapes), weights."""
    inner = keras.Model(model.inputs, [layer.output for layer in model.layers])
    shapes = inner.compute_output_shape(inputs)
    return [
        {
            "layer": layer.name,
            "kind": type(layer).__name__,
            "output": " x ".join(map(str, shape[1:])),
            "weights": layer.count_params(),
        }
        for layer, shape in zip(model.layers, shapes, strict=True)
    ]


def _shape(row):
    return tuple(map(int, row["output"].split(" x ")))


def draw_networks(folder):
    """Both networks and the fusion, drawn from the models that are built here."""
    figures, tables = folder / "figures", folder / "tables"
    koala, plus = network.build_network(), network.build_plus()
    photo, vector = (1, 224, 224, 1), (1, 1000)
    rows = layers_of(koala, [photo, vector])
    write_rows(rows, tables / "layers_koala.csv")
    drawings.architecture(
        [(r["layer"], _shape(r)) for r in rows if not r["layer"].startswith("fusion_")],
        path=figures / "architecture.png",
        alt="koala as boxes joined by arrows, as high as a layer's output is large and as wide as"
        " it has channels: the encoder's shrink from 112 to 28 px while their channels grow from 64"
        " to 512; the embedding joins at the fusion; the decoder's grow back to 224 px with two"
        " channels.",
    )
    encoder, decoder = plus.get_layer("encoder"), plus.get_layer("decoder")
    taken = encoder.compute_output_shape(photo)[:-1]
    rows = [r for r in layers_of(decoder, [*taken, vector]) if r["kind"] != "InputLayer"]
    write_rows(rows, tables / "layers_koala_plus.csv")
    maps = [network.PLUS_BOTTOM, *(name for name, _ in network.PLUS_SKIPS)]
    drawn = [(name, shape[1:]) for name, shape in zip(maps, taken, strict=True)][::-1]
    drawn = [("lightness", photo[1:]), *drawn, ("embedding", vector[1:])]
    drawn += [
        (r["layer"], _shape(r))
        for r in rows
        if r["layer"] in ("fusion", "bins") or (r["kind"], r["layer"][:7]) == ("Conv2D", "decoder")
    ]
    drawings.architecture(
        drawn,
        path=figures / "architecture_plus.png",
        skips=[(name, f"decoder_{i}") for i, (name, _) in enumerate(network.PLUS_SKIPS, 1)],
        alt="koala-plus as boxes joined by arrows: four feature maps of a classifier, from 56 px"
        " down to 7, the fusion with the embedding, and a decoder that grows back to 56 px. Dashed"
        " arrows lead from the three larger feature maps to the decoder's layers that take them in."
        " The last box has 261 channels, one for each bin of chroma.",
    )
    encoder, fusion = koala.get_layer("encoder_8"), koala.get_layer("fusion")
    shapes = keras.Model(koala.inputs, [encoder.output, fusion.output]).compute_output_shape(
        [photo, vector]
    )
    drawings.fusion(
        shapes[0][1:],
        koala.inputs[1].shape[1],
        shapes[1][1:],
        path=figures / "fusion.png",
        alt="Four blocks: the encoder's features, 28 x 28 x 256; the embedding, replicated to"
        " 28 x 28 x 1,000; both stacked, 28 x 28 x 1,256; and 28 x 28 x 256 after a 1 x 1"
        " convolution.",
    )


def draw_trainings(folder):
    """The recorded trainings, one run after the other."""
    series = {}
    for runs in TRAININGS:
        began = 0
        for run in runs:
            history = training.read_history(HERE / "training" / f"{run}.csv")
            epochs = [began + row["epoch"] for row in history]
            series[run] = (epochs, [row["val_ratio"] for row in history])
            began = epochs[-1]
    notebook.curves(
        series,
        x_label="epochs since the beginning",
        y_label="validation, ratio to grey",
        path=folder / "figures" / "training.png",
        alt="The validation error over grey's after each epoch of the runs of both models: it"
        " falls.",
    )


# ---------------------------------------------------------------- scores


def measure_all(name, paths, folder, measure):
    """tables/NAME/scores.csv and table.md of colour photographs by all methods."""
    table = folder / "tables" / name
    if measure and paths:
        evaluation.write_scores(evaluation.evaluate(paths, progress=False), table / "scores.csv")
    else:
        keep(f"tables/{name}/scores.csv", folder)
    scores = scores_of(name, folder)
    write_summary(scores, table / "table.md", evaluation.truth_line(scores))


def write_summary(scores, path, last=""):
    text = evaluation.format_table(evaluation.summarize(scores))
    path.write_text("\n\n".join(filter(None, [text, last])) + "\n", encoding="utf-8")


def scores_of(name, folder):
    """The scores of a table; to those of the test set belong the recorded pair's."""
    scores = evaluation.read_scores(folder / "tables" / name / "scores.csv")
    recorded = evaluation.read_scores(HERE / "recorded" / "pair.csv") if name == "test" else []
    return scores + recorded


def write_paired(folder):
    """How much one method is above another on the same test photographs."""
    scores, rows = scores_of("test", folder), []
    for one, other in PAIRS:
        for figure in ("ratio", "psnr", "top1"):
            numbers = evaluation.compare(scores, one, other, figure)
            row = {"method": one, "minus": other, "figure": figure}
            names = ("difference", "low", "high")
            rows.append(row | {k: round(float(v), 4) for k, v in zip(names, numbers, strict=True)})
    write_rows(rows, folder / "tables" / "paired.csv")


# ---------------------------------------------------------------- the test photographs


def seen(photo):
    """The five likeliest classes of the grey photograph, one per line."""
    order = np.argsort(embed([grey_of(photo)])[0])[::-1][:5]
    return "\n".join(class_names()[0][i].replace("_", " ") for i in order)


def draw_held_out(test, folder):
    """The paper's Figure 4. Like all figures below it returns the credits of its photographs."""
    paths = test[HELD_OUT]
    if not paths:
        keep("figures/held_out.jpg", folder)
        return []
    methods = [
        evaluation.grey_baseline,
        lambda photo: colorize(photo, "koala"),
        colorize,
        lambda photo: photo,
    ]
    chosen = [photos.read_photo(path) for path in paths]
    notebook.photo_grid(
        [[square(method(photo)) for method in methods] for photo in chosen],
        column_titles=["grey", "koala", "koala-plus", "truth"],
        row_notes=[seen(photo) for photo in chosen],
        path=folder / "figures" / "held_out.jpg",
        alt="Five test photographs: grey, koala, koala-plus, truth, and what the extractor sees.",
        width=6.5,
    )
    return credit("held_out.jpg", "test", paths)


def draw_methods(test, folder):
    """All methods on the same photographs."""
    paths = test[METHODS]
    if not paths:
        keep("figures/methods.jpg", folder)
        return []
    methods = {
        "grey": evaluation.grey_baseline,
        "mean color": evaluation.mean_color_baseline(map(photos.read_photo, test)),
        **evaluation.model_methods(vividness=(0.0, 1.0)),
        "truth": lambda photo: photo,
    }
    chosen = [photos.read_photo(path) for path in paths]
    rows = [[square(method(photo)) for photo in chosen] for method in methods.values()]
    strip = photos.read_photo(HERE / "recorded" / "without_fusion.jpg")
    rows.insert(2, np.split(strip, len(paths), axis=1))
    names = ["grey", "mean color", "no fusion", "koala", "plus, cautious", "plus, vivid", "truth"]
    notebook.photo_grid(
        rows,
        row_titles=names,
        path=folder / "figures" / "methods.jpg",
        width=7.5,
        alt=f"Six test photographs, a row for each method: {', '.join(names)}.",
    )
    return credit("methods.jpg", "test", paths)


def worst_of(scores, method="koala-plus 0.5", count=WORST):
    """The scores of largest error relative to grey's, among those with more colour than the
    median.
    """
    mine = [score for score in scores if score.method == method]
    colorful = np.median([score.grey_ab_error for score in mine])
    return sorted(
        (score for score in mine if score.grey_ab_error > colorful),
        key=lambda score: -score.ab_error / score.grey_ab_error,
    )[:count]


def draw_failures(test, folder):
    """The photographs of :func:`worst_of`."""
    if not test:
        keep("figures/failures.jpg", folder)
        return []
    worst = worst_of(scores_of("test", folder))
    of_name = {path.name: path for path in test}
    paths = [of_name[score.photo] for score in worst]
    chosen = [photos.read_photo(path) for path in paths]
    methods = [evaluation.grey_baseline, colorize, lambda photo: photo]
    notebook.photo_grid(
        [[square(method(photo)) for photo in chosen] for method in methods],
        row_titles=["grey", "koala-plus", "truth"],
        column_titles=[f"{score.ab_error / score.grey_ab_error:.2f}" for score in worst],
        path=folder / "figures" / "failures.jpg",
        alt="The eight test photographs with the largest error: grey, koala-plus and truth.",
    )
    return credit("failures.jpg", "test", paths)


# ---------------------------------------------------------------- photographs without colour


def draw_fsa(historical, folder):
    """Photographs of the Farm Security Administration."""
    paths = historical[FSA]
    if not paths:
        keep("figures/fsa.jpg", folder)
        return []
    chosen = [photos.read_photo(path) for path in paths]
    methods = [
        evaluation.grey_baseline,
        *evaluation.model_methods(vividness=(0.0, 0.5)).values(),
    ]
    rows = [[square(method(photo)) for photo in chosen] for method in methods]
    notebook.photo_grid(
        [row[part] for part in (slice(6), slice(6, 12)) for row in rows],
        row_titles=["as scanned", "koala", "plus 0", "plus 0.5"] * 2,
        path=folder / "figures" / "fsa.jpg",
        alt="Twelve photographs of 1935 to 1943: as scanned, koala, koala-plus at 0 and at 0.5.",
    )
    return credit("fsa.jpg", "historical", paths)


def draw_historical(folder):
    """The bundled historical photographs."""
    old = [square(photos.read_photo(p)) for p in downloads.find_photos("bundled-historical")[:6]]
    notebook.photo_grid(
        [old, [colorize(photo, "koala") for photo in old], [colorize(photo) for photo in old]],
        row_titles=["as scanned", "koala", "koala-plus"],
        path=folder / "figures" / "historical.jpg",
        alt="Six historical photographs as scanned, by koala and by koala-plus: two plant studies,"
        " an aeroplane from above, a wooden house on a dry plain, a mountain range, and boats.",
    )


def draw_heroes(historical, folder):
    """The README's first picture: photographs of the FSA from inside the film's edge."""
    paths = historical[HEROES]
    if not paths:
        keep("figures/heroes.jpg", folder)
        return []
    row = []
    for path in paths:
        prediction = predict(photos.read_photo(path))
        top, bottom, left, right = prediction.picture
        for photo in (prediction.photo, render(prediction)):
            row.append(square(photo[top:bottom, left:right], 440))
    notebook.photo_grid(
        [row[:4], row[4:]],
        path=folder / "figures" / "heroes.jpg",
        width=11.0,
        alt="Four photographs of the years 1935 to 1944, each in grey and in colour beside it: a"
        " man's face before a wall of boards; a person picking beans in a green field; a woman with"
        " a child on her lap in a room papered with newspapers; and a small white house on a"
        " plain.",
    )
    return credit("heroes.jpg", "historical", paths)


# ---------------------------------------------------------------- the truth of 1910


def make_plates(paths, folder, measure):
    """The plates' alignment and scores, and the two figures that show plates."""
    assembled = {path.name: glass.assemble(photos.read_photo(path)) for path in paths}
    table = folder / "tables" / "plates"
    if assembled:
        rows = [alignment_row(name, plate) for name, plate in assembled.items()]
        write_rows(rows, table / "alignment.csv")
    else:
        keep("tables/plates/alignment.csv", folder)
    if assembled and measure:
        evaluation.write_scores(score_plates(assembled), table / "scores.csv")
    else:
        keep("tables/plates/scores.csv", folder)
    write_summary(scores_of("plates", folder), table / "table.md")
    return draw_assembly(paths, assembled, folder) + draw_plates(paths, assembled, folder)


def alignment_row(name, plate):
    """How blue and red lay to green: pixels, degrees, scale, quality."""
    row = {"plate": name}
    for color, found in (("blue", plate.blue), ("red", plate.red)):
        down, right = found.shift
        row |= {f"{color}_down": round(down, 1), f"{color}_right": round(right, 1)}
        row |= {f"{color}_degrees": round(found.angle, 2), f"{color}_scale": round(found.scale, 4)}
        row |= {f"{color}_quality": round(found.quality, 2)}
    return row


def score_plates(assembled):
    """Each plate by every method: from its panchromatic grey, and from its blue exposure."""
    grey = {"grey": evaluation.grey_baseline}
    mean = {"mean color": evaluation.mean_color_baseline(plate.rgb for plate in assembled.values())}
    models, scores = evaluation.model_methods(), []
    for name, plate in assembled.items():
        outputs = {method: f(plate.rgb) for method, f in (grey | mean | models).items()}
        blue = plate.rgb[..., 2]
        outputs |= {f"blue exposure: {method}": f(blue) for method, f in (grey | models).items()}
        scores += evaluation.score(name, plate.rgb, outputs)
    return scores


def as_it_lies(plate):
    """The three exposures as color channels without any alignment, uint8."""
    blue, green, red = plate.exposures
    return np.round(np.stack([red, green, blue], axis=-1) * 255).astype(np.uint8)


def draw_assembly(paths, assembled, folder):
    """One plate: its exposures, as they lie, and aligned."""
    girls = [path for path in paths if path.name == "01043v.jpg"]
    if not girls:
        keep("figures/plate.jpg", folder)
        return []
    plate = assembled["01043v.jpg"]
    notebook.photo_grid(
        [[*plate.exposures, as_it_lies(plate), plate.rgb]],
        column_titles=["blue", "green", "red", "as they lie", "aligned"],
        path=folder / "figures" / "plate.jpg",
        width=11,
        alt="A plate's three exposures of three girls; as they lie, with fringes; and aligned.",
    )
    return credit("plate.jpg", "plates", girls)


def draw_plates(paths, assembled, folder):
    """What the blue exposure does to a meadow, three faces, a church, and fruit."""
    shown = [path for path in paths if path.stem[:5] in SHOWN_PLATES]
    if not shown:
        keep("figures/plates.jpg", folder)
        return []
    rows = []
    for path in shown:
        rgb = assembled[path.name].rgb
        grey, blue = evaluation.grey_baseline(rgb), np.repeat(rgb[..., 2:], 3, axis=-1)
        rows.append([square(p) for p in (rgb, grey, colorize(grey), blue, colorize(blue))])
    titles = ["true colour", "panchromatic grey", "koala-plus of it", "blue exposure"]
    notebook.photo_grid(
        rows,
        column_titles=[*titles, "koala-plus of it"],
        path=folder / "figures" / "plates.jpg",
        alt="Four plates in true colour, in panchromatic grey and as koala-plus colours it, and"
        " their blue exposure and as koala-plus colours that.",
    )
    return credit("plates.jpg", "plates", shown)


def draw_intervals(folder):
    """Errors relative to grey's: modern, of 1939 to 1944, of 1905 to 1915, and blue exposures."""
    tables = {
        name: evaluation.summarize(scores_of(name, folder))
        for name in ("test", "kodachrome", "plates")
    }
    methods = ["mean color", "koala", "koala-plus 0", "koala-plus 0.5", "koala-plus 1"]
    titles = {"test": "modern", "kodachrome": "1939 to 1944", "plates": "1905 to 1915"}
    groups = {
        title: {method: tables[name][method]["ratio"] for method in methods}
        for name, title in titles.items()
    }
    groups["blue exposure"] = {
        method: tables["plates"][f"blue exposure: {method}"]["ratio"] for method in methods[1:]
    }
    drawings.intervals(
        groups,
        x_label="squared ab error, ratio to grey's (dashed: grey)",
        reference=1,
        path=folder / "figures" / "intervals.png",
        alt="Each method's error over grey's, with intervals: modern photographs, slides of 1939"
        " to 1944, plates of 1905 to 1915, and their blue exposures.",
    )


# ---------------------------------------------------------------- the colour Turing test


def count_answers(folder):
    """tables/study.md from report/tables/answers.csv; no answers are invented."""
    try:
        lines = study.report(study.read_answers(HERE / "tables" / "answers.csv"))
    except study.StudyError:
        lines = ["Nobody has taken part yet."]
    (folder / "tables" / "study.md").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
