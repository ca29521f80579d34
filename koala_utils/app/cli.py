"""`koala …`: one thin function per command."""

import argparse
import contextlib
import importlib.metadata
import os
import sys
import warnings
from pathlib import Path

from koala_utils.files import explain

# TensorFlow's notices at the start would hide our own messages.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

EXTRACTOR = (
    "a classifier, such as inception_resnet_v2, or several joined by + (default: a bundled one)"
)
GO_ON = ("prepare", "train", "adapt", "colorize")  # continue when run again

EXAMPLES = """examples:
  koala colorize grandparents.jpg -o colored
  koala prepare ~/photographs -o records && koala train records -o run
  koala evaluate test -o evaluation
"""
STATUS = """exit status:
  0    all photographs are coloured
  1    some were left out, and the reasons were printed
  2    the command was not understood
  130  stopped by Ctrl-C; the same command goes on where it was stopped
"""


def main(arguments=None):
    """Runs a command.

    Returns:
        The exit status: 0, 1 if something could not be done, 130 if it was interrupted.

    Raises:
        SystemExit: with status 2, for wrong usage.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # closed, or of a notebook
            stream.reconfigure(errors="backslashreplace")  # names of files may not be text
    warnings.filterwarnings("ignore", module="PIL")  # we describe a damaged file in our own words
    options = parser().parse_args(arguments)
    try:
        return options.run(options) or 0
    except KeyboardInterrupt:
        more = "; run the same command again to go on" if options.command in GO_ON else ""
        print(f"stopped{more}", file=sys.stderr)
        return 130
    except (ValueError, OSError) as error:
        if os.environ.get("KOALA_DEBUG"):
            raise
        message = explain(error) if isinstance(error, OSError) else error
        print(f"koala {options.command}: {message}", file=sys.stderr)
        return 1


# ---------------------------------------------------------------- the grammar


def parser():
    """The grammar of the command line."""
    top = argparse.ArgumentParser(
        prog="koala",
        description="Colours grey photographs, and trains the networks that do it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    version = f"koala {importlib.metadata.version('koala_utils')}"
    top.add_argument("--version", action="version", version=version)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(run, text, **options):
        """Starts a command: its parser, and a function that adds an option with its default."""
        options.setdefault("formatter_class", argparse.ArgumentDefaultsHelpFormatter)
        description = text[0].upper() + text[1:] + "."
        sub = commands.add_parser(run.__name__, help=text, description=description, **options)
        sub.set_defaults(run=run)

        def option(flag, type, default, help="default: %(default)s", **more):
            sub.add_argument(flag, type=type, default=default, help=help, **more)

        return sub, option

    _colorize_grammar(command)

    sub, option = command(prepare, "write photographs and embeddings as TFRecord shards")
    text = "photographs, a folder, a glob, a text file of urls, or bundled, imagenette"
    sub.add_argument("source", nargs="+", help=text)
    sub.add_argument("-o", "--output", required=True, help="folder of the records")
    option("--size", _whole, 224, "short side in pixels")
    option("--validation-share", _share, 0.1, "of the photographs, 0 to 1", metavar="SHARE")
    text = "only the I-th of N parts, each of which another machine may do"
    option("--part", _part, "1/1", text, metavar="I/N")
    text = "photographs with the same value in a column stay on one side of the split"
    option("--groups", str, None, text, metavar="TABLE.csv:COLUMN")
    text = "a group for validation, whatever the share; repeatable"
    option("--held-out", str, [], text, metavar="GROUP", action="append")
    option("--extractor", str, argparse.SUPPRESS, EXTRACTOR, metavar="NAME")

    sub, option = command(train, "train the colorization network; run again to go on")
    sub.add_argument("records", help="folder of koala prepare")
    sub.add_argument("-o", "--output", required=True, help="folder of the run")
    unset = argparse.SUPPRESS  # then the defaults are the training's, or those of fine-tuning
    option(
        "--model", str, unset, "koala (the default) or koala-plus", choices=["koala", "koala-plus"]
    )
    option("--epochs", _whole, 10)
    option("--crop", _whole, unset, "side of the training squares in pixels (default: 64)")
    option("--batch", _whole, unset, "photographs per step (default: 32)")
    option("--passes", _whole, unset, "over the photographs in an epoch (default: 1)")
    option("--learning-rate", _positive, unset, "(default: 0.001)")
    option("--schedule", str, unset, "(default: constant)", choices=["constant", "cosine"])
    option("--average", _share, unset, "momentum of a running average of the weights")
    text = "of the squared error of koala-plus's cautious colours in the loss"
    option("--mean-error", _factor, unset, text, metavar="WEIGHT")
    text = "leave the embedding out"
    sub.add_argument("--no-fusion", dest="fusion", action="store_false", default=unset, help=text)
    text = "a released model, such as koala-plus, to fine-tune; or another run's .safetensors file"
    option("--start-from", str, None, text, metavar="WEIGHTS")
    option("--seed", int, unset, "(default: 0)")
    text = "the one that the records must have been prepared with (checked)"
    option("--extractor", str, argparse.SUPPRESS, text, metavar="NAME")

    sub, option = command(adapt, "teach the bundled classifier to read grey photographs")
    sub.add_argument("records", help="folder of koala prepare")
    sub.add_argument("-o", "--output", required=True, help="folder of the run")
    option("--epochs", _whole, 2)
    option("--size", _whole, 240, "side of the squares in pixels")
    option("--batch", _whole, 32)
    option("--learning-rate", _positive, 1e-4)
    text = "a .safetensors file of another run"
    option("--start-from", str, None, text, metavar="WEIGHTS")
    option("--seed", int, 0)

    sub, option = command(evaluate, "compare colourings with the true colours")
    sub.add_argument("source", help="colour photographs: a folder, glob, or bundled, test")
    sub.add_argument("-o", "--output", help="folder for scores.csv and table.md")
    text = "folder for contact sheets of grey, outputs and truth"
    sub.add_argument("--sheets", metavar="DIR", help=text)
    text = "released models, or .safetensors files of koala train"
    option("--model", str, ["koala", "koala-plus"], text, nargs="+")
    text = "of koala-plus, 0 to 1; one row each"
    option("--vividness", _share, [0.0, 0.5, 1.0], text, nargs="+")
    option("--extractor", str, argparse.SUPPRESS, EXTRACTOR, metavar="NAME")

    sub, _ = command(study, "say how often recoloured photographs were taken for real")
    sub.add_argument("answers", help="the csv file that the colour Turing test wrote")

    command(check, "print versions, hardware and what is missing, for a bug report")
    return top


def _colorize_grammar(command):
    sub, _ = command(
        colorize,
        "colour photographs at their full resolution",
        usage="koala colorize PHOTO [PHOTO …] [-o OUT] [options]",
        epilog=STATUS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    text = "photographs, folders, globs, a text file of urls, or bundled-historical, historical"
    sub.add_argument("source", nargs="+", metavar="PHOTO", help=text)
    add = sub.add_argument_group("results").add_argument
    text = "a folder; for one photograph also a file (default: colored)"
    add("-o", "--output", default="colored", metavar="OUT", help=text)
    kinds = ["png", "jpeg", "tiff"]
    add("--format", choices=kinds, metavar="KIND", help="png, jpeg or tiff (default: png)")
    add("--quality", type=_percent, default=95, metavar="1…100", help="of JPEGs (default: 95)")
    add("--keep-grey", action="store_true", help="grey and coloured side by side in one picture")
    add("--overwrite", action="store_true", help="colour again what is there already")
    add("--dry-run", action="store_true", help="only print what would be done")
    add = sub.add_argument_group("colours").add_argument
    text = "0 is cautious, 1 is vivid (default: 0.5)"
    add("--vividness", type=_share, metavar="0…1", help=text)
    text = "0 is grey, 2 is twice the colour (default: 1)"
    add("--strength", type=_factor, default=1.0, metavar="FACTOR", help=text)
    text = "a known colour at a pixel, such as 120,80,#7a1f1f; repeatable"
    add("--hint", type=_hint, action="append", default=[], metavar="X,Y,COLOUR", help=text)
    text = "known colours: strokes on a transparent picture of the photograph"
    add("--hints", metavar="PNG", help=text)
    text = "cautious, default, vivid and the paper's, and a contact sheet of them"
    add("--looks", action="store_true", help=text)
    text = "koala-plus, the paper's koala, or a .safetensors file (default: koala-plus)"
    add("--model", default="koala-plus", help=text)
    add("--extractor", default=argparse.SUPPRESS, metavar="NAME", help=EXTRACTOR)


def _number(kind, low, high, wanted):
    """A function from an argument's text to its number; its error says what is expected."""

    def parse(text):
        with contextlib.suppress(ValueError):
            if low <= kind(text) <= high:
                return kind(text)
        raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")

    return parse


_share = _number(float, 0, 1, "a number from 0 to 1")
_factor = _number(float, 0, sys.float_info.max, "a number from 0 up")
_positive = _number(float, sys.float_info.min, sys.float_info.max, "a number above 0")
_whole = _number(int, 1, sys.maxsize, "a positive whole number")
_percent = _number(int, 1, 100, "a whole number from 1 to 100")


def _hint(text):
    try:
        x, y, color = text.split(",", 2)
        return float(x), float(y), color
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a hint like 120,80,#7a1f1f") from None


def _part(text):
    index, _, parts = text.partition("/")
    if not (index.isdecimal() and parts.isdecimal() and 1 <= int(index) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a part like 3/8, the third of eight")
    return int(index), int(parts)


# ---------------------------------------------------------------- the commands
# Each imports what it needs, so that `koala --help` does not wait for TensorFlow.


def colorize(options):
    from tqdm.auto import tqdm

    from koala_utils import photos
    from koala_utils.app import batch

    looks = {"": (options.model, options.vividness)}
    if options.looks:
        if options.vividness is not None or options.model != "koala-plus":
            raise ValueError("--looks has its own models and vividness; leave out the others.")
        looks = batch.LOOKS
    output = Path(options.output).expanduser()
    found, problems, earlier = batch.find(options.source, output)
    jobs = batch.plan(found, output, options.format, looks, options.overwrite)
    todo = [job for job in jobs if not job.done]
    if (options.hint or options.hints) and len(jobs) != 1:
        raise ValueError(f"hints are for one photograph, and here are {len(jobs)}.")
    strokes = photos.load_photo(options.hints) if options.hints else None

    def hints_of(photo):
        if not strokes:
            return options.hint
        import numpy as np

        from koala_utils.hints import from_strokes

        opaque = strokes.alpha is None
        rgba = strokes.rgb if opaque else np.dstack([strokes.rgb, strokes.alpha])
        return options.hint + from_strokes(rgba, photo.shape)

    def say(line, stream):  # above the bar, if there is one
        if stream:  # None if it is closed
            tqdm.write(line.encode("utf-8", "backslashreplace").decode(), file=stream)

    for problem in problems:
        say(f"left out {problem}", sys.stderr)
    in_notebook = type(sys.stderr).__module__.startswith("ipykernel")
    watched = in_notebook or (sys.stderr and sys.stderr.isatty())
    hidden = options.dry_run or not todo or not watched
    done = 0
    with tqdm(total=len(todo), unit="photo", desc="loading TensorFlow", disable=hidden) as bar:
        results = batch.check_jobs(todo)
        if todo and not options.dry_run:
            extractor = _extractor(options)
            bar.reset()  # so that the remaining time counts photographs only
            bar.set_description("colouring")
            look = options.strength, options.keep_grey, options.quality, hints_of
            results = batch.colorize_jobs(todo, looks, extractor, *look)
        for job, problem in results:
            bar.update()
            if problem:
                say(f"left out {problem}", sys.stderr)
            else:
                done += 1
                say(f"{job} -> {', '.join(map(str, job.targets))}", sys.stdout)
    summary = f"{done} of {len(jobs)} {'would be ' * options.dry_run}coloured, in {output}"
    if len(jobs) > len(todo):
        summary += f"; already there: {len(jobs) - len(todo)} (--overwrite does them anew)"
    if earlier:
        summary += f"; earlier results, left alone: {earlier}"
    say(summary, sys.stdout)
    return bool(problems) or done < len(todo)


def _extractor(options):
    from koala_utils.embedding import DEFAULT

    return getattr(options, "extractor", DEFAULT)


def prepare(options):
    from koala_utils import photos, records

    source = options.source[0]
    if len(options.source) > 1:
        from koala_utils.app import batch

        found, problems, _ = batch.find(options.source, Path(options.output))
        print(*(f"left out {problem}" for problem in problems), sep="\n", file=sys.stderr)
        source = [path for path, _ in found]
    report = records.prepare(
        source,
        options.output,
        options.size,
        _extractor(options),
        options.validation_share,
        part=options.part,
        groups=options.groups,
        held_out=options.held_out,
    )
    total = report["train"] + report["validation"]
    print(
        f"{total} photographs ({report['train']} for training, {report['validation']} for"
        f" validation) in {options.output},"
        f" {report['bytes'] / max(total, 1) / 1000:.1f} kB per photograph"
    )
    if report["skipped"]:
        print(f"{len(report['skipped'])} left out: {photos.summarize(report['skipped'].values())}")
        print(*(f"  {reason}" for reason in report["skipped"].values()), sep="\n")


def train(options):
    from koala_utils import records, training

    prepared = records.manifest_of(options.records)["extractor"]
    if getattr(options, "extractor", prepared) != prepared:
        raise records.RecordsError(
            f"{options.records}: was prepared with {prepared}, not {options.extractor};"
            f" run: koala prepare … --extractor {options.extractor}"
        )
    chosen = {key: getattr(options, key) for key in training.DEFAULTS if hasattr(options, key)}
    print(f"training on {training.machine()}, in {training.best_dtype()}")
    network, history = training.train(
        options.records, options.output, options.epochs, options.start_from, **chosen
    )
    print(training.summary(network, history, options.output))


def adapt(options):
    from koala_utils import training

    student, history = training.adapt(
        options.records,
        options.output,
        options.epochs,
        options.size,
        options.batch,
        options.learning_rate,
        options.seed,
        options.start_from,
    )
    print(training.summary(student, history, options.output))


def evaluate(options):
    from koala_utils import downloads, evaluation, notebook, photos

    paths, left_out = downloads.find_photos(options.source), []
    chosen = options.model, _extractor(options), options.vividness
    truths = evaluation.read_each(paths, left_out, evaluation.read_truth)
    if next(truths, None) is None:
        if options.sheets:
            return _sheets_of_grey(paths, chosen, options)
        reasons = photos.summarize(map(str, left_out))
        raise photos.PhotoError(
            f"{options.source}: holds no true colours to compare with ({reasons});"
            " see the colourings with --sheets DIR."
        )
    with notebook.ContactSheets(options.sheets) as sheets:

        def keep(path, truth, outputs):
            sheets.add([outputs[name] for name in outputs if name != "mean color"] + [truth])

        methods = evaluation.all_methods(paths, *chosen)
        scores = evaluation.evaluate(paths, methods, on_photo=keep if options.sheets else None)
    table = evaluation.format_table(evaluation.summarize(scores))
    table += f"\n\n{evaluation.truth_line(scores)}".rstrip()
    count = len(scores) // len(methods)
    print(
        f"{count} of {len(paths)} photographs of {options.source};"
        f" 95 % bootstrap intervals over photographs\n\n{table}"
    )
    if options.output:
        evaluation.write_scores(scores, Path(options.output) / "scores.csv")
        (Path(options.output) / "table.md").write_text(table + "\n", encoding="utf-8")


def _sheets_of_grey(paths, chosen, options):
    """Historical photographs: they have no truth to measure, so their sheets are only looked at."""
    from koala_utils import evaluation, notebook

    methods = {"grey": evaluation.grey_baseline, **evaluation.model_methods(*chosen)}
    left_out = []
    with notebook.ContactSheets(options.sheets) as sheets:
        for _, photo in evaluation.read_each(paths, left_out):
            sheets.add([method(photo) for method in methods.values()])
    for error in left_out:
        print(f"left out {error}", file=sys.stderr)
    print(
        f"{len(paths) - len(left_out)} of {len(paths)} photographs of {options.source},"
        f" with no truth to compare with; contact sheets in {options.sheets},"
        f" columns: {', '.join(methods)}"
    )


def study(options):
    from koala_utils.app import study as studies

    print(*studies.report(studies.read_answers(options.answers)), sep="\n")


def check(options):
    from koala_utils.app.check import check as examine

    lines, problems = examine()
    print(*lines, sep="\n")
    print(*([f"PROBLEM: {each}" for each in problems] or ["nothing is missing"]), sep="\n")
    return bool(problems)
