"""The course as a book: `make book` builds work/book from the repository's own files, with no
network.

The sources are the notebooks with their committed outputs, the report, and the Markdown files;
nothing is copied or executed. What is done here and not by Sphinx or MyST-NB: the contents are
joined to the README, which is the first page; pictures take their alt text from the notebook's
output; formulas become MathML, so that no script is needed for them.
"""

import functools
import hashlib
import json
import re
from base64 import b64decode
from pathlib import Path

import pypandoc
from docutils import nodes
from sphinx.addnodes import pending_xref

ROOT = Path(__file__).parents[1]
WIDGET = "application/vnd.jupyter.widget-view+json"

project = "Koala: a course on image colorization"
author = "the authors of the koala course"
project_copyright = "MIT licence"
language = "en"

extensions = ["myst_nb"]
root_doc = "README"
include_patterns = [
    "*.md",
    "docs/*.md",
    "notebooks/*.ipynb",
    "notebooks/solutions/*.ipynb",
    "report/report.md",
    "report/training/README.md",
    "koala_utils/*/*.md",
]
# README.md joins these; a pattern takes up what is added to a folder, in the order of its name.
CONTENTS = {
    "The course": ["notebooks/*"],
    "Solutions": ["notebooks/solutions/*"],
    "The report": ["report/report", "report/training/README"],
    "Models and photographs": [
        "koala_utils/released/MODEL_CARD",
        "docs/data_sheet",
        "koala_utils/photographs/CREDITS",
        "koala_utils/released/CREDITS",
    ],
    "Help": [
        "docs/glossary",
        "docs/when_training_goes_wrong",
        "docs/for_teachers",
        "docs/running_elsewhere",
        "docs/clusters",
        "CONTRIBUTING",
    ],
}

nb_execution_mode = "off"  # people read what is committed; the tests execute it
nb_ipywidgets_js = {}
nb_merge_streams = True
nb_render_markdown_format = "myst"  # of outputs: their links lead to pages, too
myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 3
html_math_renderer = "mathml"

html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_navbar_depth": 1,
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "navbar_persistent": [],
}
html_static_path = ["book.css"]
html_css_files = ["book.css"]
html_extra_path = ["index.html"]  # sends on to README.html
html_copy_source = False


def prepare(app, docname, source):
    """What stands otherwise in the sources: pictures as HTML, widgets without a kernel, and the
    first page's table of contents.
    """
    if Path(app.env.doc2path(docname)).suffix == ".ipynb":
        source[0] = without_widgets(source[0])
    else:
        source[0] = re.sub(r"</?p>\n?", "", re.sub(r"<img [^>]+>", markdown_picture, source[0]))
    if docname == root_doc:
        source[0] += "".join(
            f"\n```{{toctree}}\n:caption: {caption}\n:maxdepth: 1\n:hidden:\n:glob:\n\n"
            + "\n".join(pages)
            + "\n```\n"
            for caption, pages in CONTENTS.items()
        )


def markdown_picture(match):
    """An <img> as Markdown, whose file Sphinx finds and copies."""
    about = dict(re.findall(r'(\w+)="([^"]*)"', match[0]))
    width = f'{{width="{about["width"]}"}}' if "width" in about else ""
    return f"![{about['alt']}]({about['src']}){width}"


def without_widgets(text):
    """A notebook without the widgets of its outputs, which need a kernel; the figure below each
    says the same.
    """
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        if "outputs" in cell:
            cell["outputs"] = [
                output for output in cell["outputs"] if WIDGET not in output.get("data", {})
            ]
    return json.dumps(notebook)


def add_alt_texts(app, doctree):
    """A notebook's outputs hold their alt text in the metadata, where MyST-NB does not look; it
    names a picture by its hash.
    """
    path = Path(app.env.doc2path(app.env.docname))
    if path.suffix != ".ipynb":
        return
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    alts = {
        hashlib.sha256(b64decode("".join(output["data"][mime]))).hexdigest(): about["alt"]
        for cell in cells
        for output in cell.get("outputs", [])
        for mime, about in output.get("metadata", {}).items()
        if "alt" in about
    }
    for image in doctree.findall(nodes.image):
        image.setdefault("alt", alts.get(Path(image["uri"]).stem, ""))


def drop_links_out(app, doctree):
    """Folders have no page here: links to them become plain text. That every link leads somewhere
    is tested on the sources.
    """
    folder = Path(app.env.doc2path(app.env.docname)).parent
    for link in list(doctree.findall(pending_xref)):
        target = link["reftarget"].split("#")[0]
        if (
            link["reftype"] == "myst"
            and link.get("refdomain") != "doc"
            and target
            and not (folder / target).is_file()
        ):
            link.replace_self(link.children)


@functools.cache
def mathml(formula, display):
    mark = "$$" if display else "$"
    return pypandoc.convert_text(f"{mark}{formula}{mark}", "html", "markdown", ["--mathml"]).strip()


def visit_math(self, node):
    self.body.append(mathml(node.astext(), display=False).removeprefix("<p>").removesuffix("</p>"))
    raise nodes.SkipNode


def visit_displaymath(self, node):
    self.body.append(f'<div class="formula">{mathml(node.astext(), display=True)}</div>')
    raise nodes.SkipNode


def setup(app):
    app.connect("source-read", prepare)
    app.connect("doctree-read", add_alt_texts)
    app.connect("doctree-read", drop_links_out)
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_displaymath, None))
