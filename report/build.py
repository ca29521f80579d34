"""The whole report from the released weights and the photographs: what `make report` runs.

    python report/build.py [-o DIR]

First figures.py writes figures/ and tables/. Then report.md.jinja takes its numbers from the
tables, and report.md becomes report.html, in one file, and report.pdf.
"""

import argparse
import csv
import subprocess
from pathlib import Path

import figures
import jinja2
import pypandoc
import typst

from koala_utils import ROOT, evaluation, notebook
from koala_utils.app import study
from koala_utils.training import machine

HERE = Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-o", "--output", type=Path, default=HERE, help="folder of the report")
    folder = parser.parse_args().output.resolve()
    missing = figures.make(folder)
    for name, why in missing.items():
        print(f"left as it was, {name}: {why}")
    (folder / "report.md").write_text(text(folder), encoding="utf-8")
    render(folder)
    print(f"report.md, report.html and report.pdf, with figures/ and tables/, are in {folder}")


def text(folder):
    """report.md: the template with the numbers of the tables and the figures' alt texts."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    tables = folder / "tables"
    test = evaluation.read_scores(tables / "test" / "scores.csv") + evaluation.read_scores(
        HERE / "recorded" / "pair.csv"
    )
    return environment.get_template("report.md.jinja").render(
        made=(
            f"`make report`; weights of commit `{weights_commit()}`; seed 0;"
            f" {machine().split(';')[0]}"
        ),
        test=evaluation.summarize(test),
        test_photos=len({score.photo for score in test}),
        plates=evaluation.summarize(evaluation.read_scores(tables / "plates" / "scores.csv")),
        paper_share=f"{study.PAPER_SHARE:.2%}",
        hours=training_hours(),
        alt=lambda name: notebook.alt_of(folder / "figures" / name),
        table=lambda name: markdown_table(tables / name),
        rows=lambda name: read_rows(tables / name),
        lines=lambda name: (tables / name).read_text(encoding="utf-8").strip(),
        value=lambda table, method, figure, form=".3f": format(table[method][figure][0], form),
        interval=lambda table, method, figure, form=".3f": "{} ({} to {})".format(
            *(format(x, form) for x in table[method][figure])
        ),
    )


def weights_commit():
    """The commit that last changed the released weights, which do not change with every commit of
    the repository.
    """
    found = subprocess.run(
        ["git", "log", "-1", "--format=%h", "--", "koala_utils/released"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    return found.stdout.strip() or "unknown"


def training_hours():
    """Of the recorded runs, without the pair that only shows what the fusion buys."""
    runs = [path for path in (HERE / "training").glob("*.csv") if "fusion" not in path.stem]
    return f"{sum(float(row['seconds']) for path in runs for row in read_rows(path)) / 3600:.0f}"


def read_rows(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def markdown_table(path):
    """A csv file as a Markdown table."""
    rows = read_rows(path)
    lines = [list(rows[0]), ["---"] * len(rows[0]), *(row.values() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def render(folder):
    """report.md -> report.html, which needs no other file, and report.pdf."""
    source = folder / "report.md"
    title = source.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    common = [f"--resource-path={folder}", f"--metadata=pagetitle:{title}"]
    pypandoc.convert_file(
        source,
        "html5",
        "gfm",
        [
            *common,
            "--standalone",
            "--embed-resources",
            f"--css={HERE / 'report.css'}",
            "--metadata=lang:en-GB",
        ],
        outputfile=folder / "report.html",
    )
    body = pypandoc.convert_file(
        source, "typst", "gfm", [*common, "--columns=1000"]
    )  # a wide line would give its table fixed columns
    pages = folder / "report.typ"
    pages.write_text(
        (HERE / "report.typ.head").read_text(encoding="utf-8") + body, encoding="utf-8"
    )
    try:
        (folder / "report.pdf").write_bytes(typst.compile(pages, root=folder))
    finally:
        pages.unlink()


if __name__ == "__main__":
    main()
