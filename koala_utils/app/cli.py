"""`koala …`: a thin function a command."""

import argparse
import contextlib
import gc
import itertools
import os
import sys
import warnings
from pathlib import Path

from koala_utils.files import explain

os.environ.setdefault(
    "TF_CPP_MIN_LOG_LEVEL", "2"
)  # TensorFlow's start-up notices bury our own messages

EXAMPLES = """examples:
  koala colorize grandparents.jpg -o colored
  koala prepare ~/photographs -o records && koala train records -o run
  koala evaluate test -o evaluation
"""


def main(arguments=None):
    """Runs a command; the exit status is 0, 1 where something could not be done, or 2 for wrong usage."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    warnings.filterwarnings("ignore", module="PIL")  # a damaged file is named in our own words
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("stopped; run the same command again to go on", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get("KOALA_DEBUG"):
            raise
        print(
            f"koala {options.command}: {explain(error) if isinstance(error, OSError) else error}",
            file=sys.stderr,
        )
        return 1


def parser():
    """The command line's grammar."""
    top = argparse.ArgumentParser(
        prog="koala",
        description="Colours grey photographs, and trains what does it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, text):
        sub = commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        sub.set_defaults(run=run)
        return sub

    sub = command("check", check, "print versions, hardware and what is missing, for a bug report")

    sub = command("prepare", prepare, "write photographs and their embeddings as TFRecord shards")
    sub.add_argument("source", help="a folder, glob, text file of urls, or bundled, imagenette")
    sub.add_argument("-o", "--output", required=True, help="folder of the records")
    sub.add_argument("--size", type=_positive, default=224, help="short side in pixels")
    sub.add_argument(
        "--validation-share",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="of the photographs, 0 to 1",
    )
    sub.add_argument(
        "--part",
        type=_part,
        default="1/1",
        metavar="I/N",
        help="only the I-th of N parts, each of which another machine may do",
    )
    _extractor(sub)

    sub = command("train", train, "train the colorization network; run again to go on")
    sub.add_argument("records", help="folder of koala prepare")
    sub.add_argument("-o", "--output", required=True, help="folder of the run")
    sub.add_argument("--model", choices=["koala", "koala-plus"], default="koala")
    sub.add_argument("--epochs", type=_positive, default=10)
    sub.add_argument(
        "--crop", type=_positive, default=64, help="side of the training squares in pixels"
    )
    sub.add_argument("--batch", type=_positive, default=32)
    sub.add_argument("--passes", type=_positive, default=1, help="over the photographs in an epoch")
    sub.add_argument("--learning-rate", type=float, default=1e-3)
    sub.add_argument("--schedule", choices=["constant", "cosine"], default="constant")
    sub.add_argument(
        "--average", type=float, default=0.0, help="momentum of a running average of the weights"
    )
    sub.add_argument(
        "--mean-error",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="of the squared error of koala-plus's cautious colors in the loss",
    )
    sub.add_argument(
        "--perceptual",
        type=float,
        default=0.0,
        metavar="WEIGHT",
        help="of a classifier's view of the colours in the loss",
    )
    sub.add_argument("--freeze", action="store_true", help="train koala-plus's decoder alone")
    sub.add_argument(
        "--no-fusion", dest="fusion", action="store_false", help="leave the embedding out"
    )
    sub.add_argument("--start-from", metavar="WEIGHTS", help="a .safetensors file of another run")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument(
        "--extractor",
        metavar="NAME",
        default=argparse.SUPPRESS,
        help="the one that the records must have been prepared with (checked)",
    )

    sub = command(
        "adapt",
        adapt,
        "teach the bundled classifier to see in grey photographs what it sees in colour ones",
    )
    sub.add_argument("records", help="folder of koala prepare")
    sub.add_argument("-o", "--output", required=True, help="folder of the run")
    sub.add_argument("--epochs", type=_positive, default=2)
    sub.add_argument("--size", type=_positive, default=224, help="side of the squares in pixels")
    sub.add_argument("--batch", type=_positive, default=32)
    sub.add_argument("--learning-rate", type=float, default=1e-4)
    sub.add_argument("--start-from", metavar="WEIGHTS", help="a .safetensors file of another run")
    sub.add_argument("--seed", type=int, default=0)

    sub = command("evaluate", evaluate, "compare colorings with the truth")
    sub.add_argument("source", help="colour photographs: a folder, glob, or bundled, test")
    sub.add_argument("-o", "--output", help="folder for scores.csv and table.md")
    sub.add_argument(
        "--sheets", metavar="DIR", help="folder for contact sheets of grey, outputs and truth"
    )
    sub.add_argument(
        "--model",
        nargs="+",
        default=["koala", "koala-plus"],
        help="released models, or .safetensors files of koala train",
    )
    sub.add_argument(
        "--vividness",
        type=_share,
        nargs="+",
        default=[0.0, 0.5, 1.0],
        help="of koala-plus, 0 to 1; a row each",
    )
    _extractor(sub)

    sub = command("study", study, "say how often recoloured photographs were taken for real")
    sub.add_argument("answers", help="the csv file that the colour Turing test wrote")

    sub = command("colorize", colorize, "colour photographs at their full resolution")
    sub.add_argument(
        "source", nargs="+", help="photographs, folders, globs, or bundled-historical, historical"
    )
    sub.add_argument("-o", "--output", default="colored", help="folder of the coloured PNGs")
    sub.add_argument(
        "--model",
        default="koala-plus",
        help="a released model, koala or koala-plus, or a .safetensors file of koala train",
    )
    sub.add_argument(
        "--vividness",
        type=_share,
        default=argparse.SUPPRESS,
        metavar="0…1",
        help="of koala-plus: 0 is cautious, 1 vivid (default: 0.5)",
    )
    sub.add_argument("--strength", type=float, default=1.0, help="factor on the predicted chroma")
    sub.add_argument(
        "--hint",
        type=_hint,
        action="append",
        default=argparse.SUPPRESS,
        metavar="X,Y,COLOUR",
        help="a known colour at a pixel of the photograph, such as 120,80,#7a1f1f; repeatable",
    )
    sub.add_argument(
        "--hints",
        default=argparse.SUPPRESS,
        metavar="STROKES.png",
        help="known colours as strokes on a transparent picture of the photograph's size or aspect",
    )
    _extractor(sub)
    return top


def _extractor(sub):
    sub.add_argument(
        "--extractor",
        default="mobilenet_v2_grey",
        metavar="NAME",
        help="mobilenet_v2_grey or mobilenet_v2 (bundled), inception_resnet_v2 (downloaded on first use), or"
        " several joined by +",
    )


def _share(text):
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 1")
    return share


def _positive(text):
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _hint(text):
    try:
        x, y, color = text.split(",", 2)
        return float(x), float(y), color
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a hint like 120,80,#7a1f1f") from None


def _part(text):
    index, _, parts = text.partition("/")
    if not (index.isdigit() and parts.isdigit() and 1 <= int(index) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part like 3/8, the third of eight")
    return int(index), int(parts)


# ---------------------------------------------------------------- the commands; TensorFlow is imported only where used


def check(options):
    from koala_utils.app.check import check as examine

    lines, problems = examine()
    print(*lines, sep="\n")
    print(
        *(f"PROBLEM: {problem}" for problem in problems) if problems else ["nothing is missing"],
        sep="\n",
    )
    return bool(problems)


def prepare(options):
    from koala_utils import photos, records

    report = records.prepare(
        options.source,
        options.output,
        options.size,
        options.extractor,
        options.validation_share,
        part=options.part,
    )
    total = report["train"] + report["validation"]
    print(
        f"{total} photographs ({report['train']} for training, {report['validation']} for validation) in"
        f" {options.output}, {report['bytes'] / max(total, 1) / 1000:.1f} kB a photograph"
    )
    if report["skipped"]:
        print(f"{len(report['skipped'])} left out: {photos.summarize(report['skipped'].values())}")
        for reason in report["skipped"].values():
            print(f"  {reason}")


def train(options):
    from koala_utils import records, training

    prepared = records.manifest_of(options.records)["extractor"]
    if getattr(options, "extractor", prepared) != prepared:
        raise records.RecordsError(
            f"{options.records}: was prepared with {prepared}, not {options.extractor};"
            f" run: koala prepare … --extractor {options.extractor}"
        )
    chosen = {key: getattr(options, key) for key in training.DEFAULTS}
    print(f"training on {training.machine()}, in {training.best_dtype()}")
    _, history = training.train(
        options.records, options.output, options.epochs, options.start_from, **chosen
    )
    print(
        f"{options.epochs} epochs done; squared ab error on validation photographs {history[-1]['val_ratio']:.3f} of"
        f" grey's; weights in {Path(options.output) / options.model}.safetensors"
    )


def adapt(options):

    _, history = training.adapt(
        options.records,
        options.output,
        options.epochs,
        options.size,
        options.batch,
        options.learning_rate,
        options.seed,
        options.start_from,
    )
    print(
        f"{options.epochs} epochs done; agreement with the colour photographs' logits on validation photographs"
        f" {1 - history[-1]['val_loss'] / 2:.3f}; weights in {options.output}"
    )


def evaluate(options):
    from koala_utils import downloads, evaluation, photos

    paths = downloads.find_photos(options.source)
    if all(photos.is_nearly_grey(photos.read_photo(path)) for path in paths):
        if not options.sheets:
            raise photos.PhotoError(
                f"{options.source}: all grey, so there is no truth to compare with; see the colours with --sheets DIR."
            )
        return _sheets_of_grey(paths, options)
    methods = {
        "grey": evaluation.grey_baseline,
        "mean color": evaluation.mean_color_baseline(map(photos.read_photo, paths)),
        **evaluation.model_methods(options.model, options.extractor, options.vividness),
    }
    rows = []

    def keep(path, truth, outputs):
        if options.sheets:
            rows.append([outputs[name] for name in outputs if name != "mean color"] + [truth])

    scores = evaluation.evaluate(paths, methods, on_photo=keep)
    table = evaluation.format_table(evaluation.summarize(scores))
    table += f"\n\n{evaluation.truth_line(scores)}".rstrip()
    print(
        f"{len(paths)} photographs of {options.source}; 95 % bootstrap intervals over photographs\n\n{table}"
    )
    if options.output:
        evaluation.write_scores(scores, Path(options.output) / "scores.csv")
        (Path(options.output) / "table.md").write_text(table + "\n", encoding="utf-8")
    _write_sheets(rows, options.sheets)


def study(options):
    from koala_utils.app import study as studies

    print(*studies.report(studies.read_answers(options.answers)), sep="\n")


def _sheets_of_grey(paths, options):
    """Historical photographs: nothing to measure, everything to see."""
    from koala_utils import evaluation, photos

    methods = {
        "grey": evaluation.grey_baseline,
        **evaluation.model_methods(options.model, options.extractor, options.vividness),
    }
    read = map(photos.read_photo, paths)
    _write_sheets(
        [[method(photo) for method in methods.values()] for photo in read], options.sheets
    )
    print(
        f"{len(paths)} photographs of {options.source}, all grey: no truth to compare with; contact sheets in"
        f" {options.sheets}, columns: {', '.join(methods)}"
    )


def _write_sheets(rows, folder, a_sheet=8):
    from koala_utils import notebook

    for i in range(0, len(rows), a_sheet):
        notebook.contact_sheet(
            rows[i : i + a_sheet], Path(folder) / f"sheet-{i // a_sheet:02d}.jpg"
        )


def colorize(options):
    from koala_utils import downloads, photos

    paths, output = [], Path(options.output)
    for source in options.source:
        path = Path(source).expanduser()
        if path.is_dir():  # everything in it, so that what cannot be coloured is named
            inside = (p for p in path.rglob("*") if not p.is_dir() and not p.name.startswith("."))
            earlier = output.resolve() if output.resolve() != path.resolve() else None
            paths += sorted(p for p in inside if earlier not in Path(os.path.realpath(p)).parents)
        elif path.is_file() and path.suffix.lower() not in downloads.URL_LISTS:
            paths.append(path)
        else:
            paths += downloads.find_photos(source)
    if not paths:
        raise photos.PhotoError(f"{', '.join(options.source)}: holds no file.")

    with _left_out(
        "matplotlib.pyplot"
    ):  # Keras imports it for pictures of its own, and half a second is a tenth of the wait
        from koala_utils.colorizer import colorize_files
    gc.freeze()  # of what has been imported nothing becomes garbage

    paths = list(dict.fromkeys(paths))
    targets = _targets(paths, output)
    find_hints = _hints_of(options, paths)
    done = 0
    for path, target, problem in zip(
        paths,
        targets,
        colorize_files(
            paths,
            targets,
            options.model,
            options.extractor,
            getattr(options, "vividness", None),
            options.strength,
            find_hints,
        ),
    ):
        if problem:
            print(f"left out {problem}", file=sys.stderr)
        else:
            done += 1
            print(f"{path} -> {target}")
    print(f"{done} of {len(paths)} coloured, in {output}")
    return done < len(paths)


def _hints_of(options, paths):
    """A function from the photograph to the hints of --hint and --hints; None where there are none."""
    if not (hasattr(options, "hint") or hasattr(options, "hints")):
        return None
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    from koala_utils import hints

    if len(paths) > 1:
        raise hints.HintError(f"hints are for one photograph, and here are {len(paths)}.")
    found, strokes = getattr(options, "hint", []), None
    if hasattr(options, "hints"):
        try:
            with Image.open(options.hints) as image:
                strokes = np.asarray(image.convert("RGBA"))
        except UnidentifiedImageError:
            raise hints.HintError(f"{options.hints}: is not a picture of strokes.") from None

    def find(photo):
        return found + ([] if strokes is None else hints.from_strokes(strokes, photo.shape))

    return find


@contextlib.contextmanager
def _left_out(module):
    """Context in which importing a module fails as if it were not installed; who asked for it then, does without it from then on."""
    before = sys.modules.get(module)
    sys.modules[module] = before
    try:
        yield
    finally:
        if not before:
            del sys.modules[module]


def _targets(paths, output):
    """A PNG in the output folder for each photograph, none of them a source or another's result."""

    def place(path):
        return os.path.realpath(path).lower()  # Path.resolve raises where links lead in a circle

    taken = {place(path) for path in paths}
    targets = []
    for path in paths:
        names = itertools.chain(
            [path.stem, f"{path.stem}-color"],
            (f"{path.stem}-color-{i}" for i in itertools.count(2)),
        )
        target = next(
            t for t in (output / f"{name}.png" for name in names) if place(t) not in taken
        )
        taken.add(place(target))
        targets.append(target)
    return targets
