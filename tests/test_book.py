"""The book of `make book`: complete, readable with no network and without pictures."""

import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb")) + sorted(
    (ROOT / "notebooks" / "solutions").glob("*.ipynb")
)


class Page(HTMLParser):
    """What a page holds: pictures, links, places that can be linked to, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.path, self.pictures, self.links, self.places, self.loads, self.tags = (
            path,
            [],
            [],
            set(),
            [],
            Counter(),
        )
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags[tag] += 1
        self.places |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "img":
            self.pictures.append(attributes)
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        if tag == "link" and attributes.get("rel") != "canonical" and attributes.get("href"):
            self.loads.append(attributes["href"])
        if attributes.get("src"):
            self.loads.append(attributes["src"])


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder of the book, built as `make book` does, and its pages by their path there."""
    pytest.importorskip("sphinx_book_theme", reason='the book needs: pip install -e ".[book]"')
    folder = tmp_path_factory.mktemp("book")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-W",
        "--keep-going",
        "-q",
        "-c",
        ROOT / "docs",
        "-d",
        tmp_path_factory.mktemp("doctrees"),
        ROOT,
        folder,
    ]
    built = subprocess.run(command, capture_output=True, text=True)
    assert (built.returncode, built.stderr) == (0, "")
    paths = [path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts]
    return folder, {path.relative_to(folder).as_posix(): Page(path) for path in paths}


def page_of(path):
    return path.relative_to(ROOT).with_suffix(".html").as_posix()


def test_every_notebook_and_text_has_a_page_that_the_first_one_leads_to(book):
    _, pages = book
    texts = [
        ROOT / "report" / "report.md",
        ROOT / "CONTRIBUTING.md",
        ROOT / "koala_utils" / "released" / "MODEL_CARD.md",
        ROOT / "koala_utils" / "photographs" / "CREDITS.md",
        *(ROOT / "docs").glob("*.md"),
    ]
    reached = {target.split("#")[0] for target in pages["README.html"].links}
    assert len(NOTEBOOKS) >= 10
    assert {page_of(path) for path in NOTEBOOKS + texts} <= reached & set(pages)


def test_pictures_beside_each_other_keep_their_widths(book):
    folder, _ = book
    page = (folder / "README.html").read_text(encoding="utf-8")
    widths = re.findall(r'<img src=[^>]*width="(\d+%)"', (ROOT / "README.md").read_text("utf-8"))
    assert widths and "{width" not in page
    assert all(f"width: {width}" in page for width in widths)


def test_every_picture_has_an_alt_text(book):
    _, pages = book
    pictures = [(name, picture) for name, page in pages.items() for picture in page.pictures]
    assert len(pictures) >= 40
    # Without one, Sphinx writes the name of the file: that is no alt text.
    assert [
        (name, picture) for name, picture in pictures if len((picture.get("alt") or "").split()) < 4
    ] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_pictures_of_a_notebook_have_the_notebook_s_alt_texts(book, path):
    _, pages = book
    outputs = [
        output
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        for output in cell.get("outputs", [])
    ]
    alts = [
        " ".join(about["alt"].split())
        for output in outputs
        for mime, about in output.get("metadata", {}).items()
        if mime.startswith("image/")
    ]
    found = [
        " ".join(picture["alt"].split())
        for picture in pages[page_of(path)].pictures
        if "_images/" in picture["src"]
    ]
    assert [
        alt for alt in found if alt in alts
    ] == alts  # the text's own pictures stand between those of the outputs


def test_links_inside_the_book_lead_somewhere(book):
    folder, pages = book
    inside, broken = 0, []
    for name, page in pages.items():
        for link in page.links + page.loads:
            parts = urlparse(link)
            if parts.scheme or parts.netloc:
                continue
            inside += 1
            target = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
            known = (
                pages.get(target.relative_to(folder.resolve()).as_posix())
                if target.is_file()
                else None
            )
            if not target.is_file() or (
                known and parts.fragment and unquote(parts.fragment) not in known.places
            ):
                broken.append(f"{name}: {link}")
    assert inside > 500
    assert broken == []


def test_the_book_loads_nothing_from_elsewhere(book):
    folder, pages = book
    assert [
        (name, load) for name, page in pages.items() for load in page.loads if urlparse(load).netloc
    ] == []
    styles = list(folder.rglob("*.css"))
    assert styles
    remote = re.compile(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//")
    assert [path.name for path in styles if remote.search(path.read_text(encoding="utf-8"))] == []


def test_formulas_are_there_without_a_script(book):
    _, pages = book
    with_formulas = {
        page_of(path)
        for path in NOTEBOOKS
        if "$$"
        in "".join(
            "".join(cell["source"])
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if cell["cell_type"] == "markdown"
        )
    }
    assert with_formulas
    assert {name for name, page in pages.items() if page.tags["math"]} >= with_formulas
    assert not [
        name for name, page in pages.items() for load in page.loads if "mathjax" in load.lower()
    ]


def test_the_book_can_be_searched_and_has_a_dark_mode(book):
    folder, pages = book
    index = (folder / "searchindex.js").read_text(encoding="utf-8")
    assert "vivid" in index and "fusion" in index
    assert "theme-switch-button" in pages["README.html"].path.read_text(encoding="utf-8")
