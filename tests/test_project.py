"""The project's own files agree with each other."""

import ast
import csv
import json
import re
import subprocess
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import Request, urlopen

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements():
    """All requirements of pyproject.toml with those of the extras: name -> specifier."""
    lines = PROJECT["dependencies"] + [
        line for extra in PROJECT["optional-dependencies"].values() for line in extra
    ]
    return {canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, lines)}


def tracked_files():
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if listing.returncode:
        pytest.skip("not a git checkout: what is tracked is not known")
    return [ROOT / name for name in listing.stdout.split("\0") if name and (ROOT / name).is_file()]


# ---------------------------------------------------------------- requirements


def test_every_requirement_has_a_lower_bound():
    assert all(re.fullmatch(r">=[\d.]+", specifier) for specifier in requirements().values())


def test_conda_environment_has_the_same_requirements():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    pip = next(line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    # repo2docker, and so Binder, reads the version only where it is written as python=X.Y.
    version = next(line.removeprefix("python=") for line in conda if line.startswith("python="))
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)
    assert "pip" in conda and "-e ." in pip and environment["channels"] == ["conda-forge"]
    listed = {
        canonicalize_name(r.name): str(r.specifier) for r in map(Requirement, set(pip) - {"-e ."})
    }
    assert listed == requirements()


def test_pinned_constraints_satisfy_every_bound():
    lines = (
        line.split("#")[0].strip()
        for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    )
    pins = {canonicalize_name(r.name): r for r in (Requirement(line) for line in lines if line)}
    assert all(re.fullmatch(r"==[^*,]+", str(pin.specifier)) for pin in pins.values())
    for name, specifier in requirements().items():
        assert name in pins
        assert Requirement(f"{name}{specifier}").specifier.contains(
            str(pins[name].specifier).removeprefix("==")
        )


def test_package_imports_only_what_it_requires():
    import sys

    needed = {"pil": "pillow", "skimage": "scikit-image"}
    required = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]} | {
        "koala-utils"
    }
    course = {
        canonicalize_name(Requirement(line).name)
        for line in PROJECT["optional-dependencies"]["course"]
    }
    for path in (ROOT / "koala_utils").rglob("*.py"):
        widgets = course | {"traitlets"}  # which ipywidgets brings
        allowed = required | widgets if path.name == "demo.py" else required
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else ([node.module] if isinstance(node, ast.ImportFrom) else [])
            )
            for name in (name.split(".")[0] for name in names):
                package = needed.get(name.lower(), canonicalize_name(name))
                assert name in sys.stdlib_module_names or package in allowed, (
                    f"{path.name} imports {name}"
                )


# ---------------------------------------------------------------- notebooks


def test_every_notebook_of_the_course_is_there_with_its_solutions():
    numbers = [f"{number:02d}" for number in range(11)]
    assert [path.name[:2] for path in NOTEBOOKS] == numbers and [
        path.name[:2] for path in SOLUTIONS
    ] == numbers


def cells(path, kind="code"):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [cell for cell in notebook["cells"] if cell["cell_type"] == kind]


def source(cell):
    return "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_committed_with_its_outputs_and_without_errors(path):
    outputs = [output for cell in cells(path) for output in cell["outputs"]]
    assert outputs
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert not [
        cell for cell in cells(path) if source(cell).strip() and cell["execution_count"] is None
    ]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_small(path):
    assert path.stat().st_size < 2_500_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_of_a_notebook_has_an_alt_text(path):
    pictures = 0
    for cell in cells(path):
        for output in cell["outputs"]:
            for mime in (mime for mime in output.get("data", {}) if mime.startswith("image/")):
                alt = output.get("metadata", {}).get(mime, {}).get("alt", "")
                assert len(alt.split()) >= 4, (
                    f"a picture without alt text after: {source(cell)[:80]}"
                )
                pictures += 1
    assert pictures


@pytest.mark.parametrize(
    "path", NOTEBOOKS + SOLUTIONS, ids=lambda path: f"{path.parent.name}-{path.stem}"
)
def test_code_cells_are_short(path):
    for cell in cells(path):
        lines = [line for line in source(cell).splitlines() if line.strip()]
        assert len(lines) <= 24, f"{len(lines)} lines: {source(cell)[:80]}"


def checks(path):
    """The cells that check an exercise: their source, and what they printed when they last ran."""
    tagged = [cell for cell in cells(path) if "exercise-check" in cell["metadata"].get("tags", [])]
    assert all(
        "nbval-check-output" in cell["metadata"]["tags"] for cell in tagged
    )  # so that the tests hold them to it
    return [
        (source(cell), "".join(source({"source": output["text"]}) for output in cell["outputs"]))
        for cell in tagged
    ]


@pytest.mark.parametrize(
    "path", [path for path in NOTEBOOKS if path.name[0].isdigit()], ids=lambda path: path.stem
)
def test_exercises_fail_unsolved_and_pass_solved(path):
    unsolved, solved = checks(path), checks(path.parent / "solutions" / path.name)
    assert unsolved and [cell for cell, _ in unsolved] == [cell for cell, _ in solved]
    assert all(printed.startswith("not yet: ") for _, printed in unsolved)
    assert all(printed == "right\n" for _, printed in solved)


def test_notebook_0_lists_every_other_notebook_of_the_course():
    texts = cells(ROOT / "notebooks" / "00_start_here.ipynb", "markdown")
    rows = [line for text in texts for line in source(text).splitlines() if line.startswith("| [")]
    numbered = [path.name for path in NOTEBOOKS if re.match(r"0[1-9]|1\d", path.name)]
    assert [re.search(r"\]\(([^)]+)\)", row)[1] for row in rows] == numbered


# ---------------------------------------------------------------- code


SCRIPTS = sorted(
    path
    for folder in ("koala_utils", "koala_utils/app", "notebooks", "report", "docs")
    for path in (ROOT / folder).glob("*.py")
)
CODE = SCRIPTS + NOTEBOOKS + SOLUTIONS


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]], ids=" ".join)
def test_ruff_finds_nothing(command):
    ruff = pytest.importorskip("ruff").find_ruff_bin()
    found = subprocess.run([ruff, *command, "--quiet"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr


def trees(path):
    """The syntax trees of a script, or of a notebook's cells; a magic is no Python, and fails."""
    texts = [path.read_text(encoding="utf-8")] if path.suffix == ".py" else map(source, cells(path))
    return [ast.parse(text, str(path)) for text in texts]


@pytest.mark.parametrize("path", CODE, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_names_in_code_are_american_as_in_keras(path):
    names = {
        getattr(node, field)
        for tree in trees(path)
        for node in ast.walk(tree)
        for field in ("id", "attr", "arg", "name", "asname")
        if isinstance(getattr(node, field, None), str)
    }
    assert [
        name for name in names if "colour" in name.lower() and not name.startswith("test_")
    ] == []


# ---------------------------------------------------------------- recorded trainings


HISTORIES = sorted((ROOT / "report" / "training").glob("*.csv"))


def history(path):
    with path.open(newline="", encoding="utf-8") as lines:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]


@pytest.mark.parametrize("path", HISTORIES, ids=lambda path: path.stem)
def test_recorded_history_agrees_with_itself(path):
    rows = history(path)
    if "step" in rows[0]:  # of second_generation.py, which validates on five collections
        epochs = [row["epoch"] for row in rows]
        assert epochs == sorted(set(epochs))
        parts = "imagenette", "flickr8k", "kodachrome", "scenes", "imagenet_sample"
        for row in rows:
            mean = sum(row[part] for part in parts) / len(parts)
            assert row["val_ratio"] == pytest.approx(mean, abs=1.5e-3)
        return
    assert [row["epoch"] for row in rows] == list(range(1, len(rows) + 1))
    # The first runs had the squared error for a loss.
    error = "val_ab_error" if "val_ab_error" in rows[0] else "val_loss"
    # Of one run, grey's error is the same in every epoch.
    grey = [row[error] / row["val_ratio"] for row in rows]
    assert max(grey) == pytest.approx(min(grey), rel=1e-4)


def test_recorded_histories_are_of_different_runs():
    rows = [(row["loss"], row["val_ratio"]) for path in HISTORIES for row in history(path)]
    assert rows and len(set(rows)) == len(rows)


# ---------------------------------------------------------------- texts


def markdown_files():
    return [path for path in tracked_files() if path.suffix == ".md"]


def markdown_of(path):
    """The Markdown of a file, or of a notebook's cells, without its code."""
    text = (
        "\n\n".join(map(source, cells(path, "markdown")))
        if path.suffix == ".ipynb"
        else path.read_text(encoding="utf-8")
    )
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.M | re.S)


def links_of(path):
    """The targets of all links and pictures of a Markdown file or a notebook."""
    text = re.sub(r"`[^`\n]*`", "", markdown_of(path))
    return (
        re.findall(r"\]\(([^)\s]+)\)", text)
        + re.findall(r'(?:src|href)="([^"]+)"', text)
        + re.findall(r"<(https?://[^>\s]+)>", text)
    )


def anchors_of(path):
    """What may stand behind the # of a link: the headings, as GitHub and MyST name them."""
    text = markdown_of(path)
    anchors = re.findall(r'\b(?:id|name)="([^"]+)"', text)
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", text, re.M):
        words = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        times = sum(
            re.fullmatch(rf"{re.escape(slug)}(-\d+)?", each) is not None for each in anchors
        )
        anchors.append(f"{slug}-{times}" if times else slug)
    return anchors


def missing_link(path, target):
    """What is wrong with a link inside the project, or None."""
    name, _, anchor = unquote(target).partition("#")
    found = path.parent / name if name else path
    if not found.exists():
        return f"{path.name}: {target} is not there"
    if anchor and found.suffix in (".md", ".ipynb") and anchor not in anchors_of(found):
        return f"{path.name}: {target} has no such section"
    return None


def linking_files():
    return markdown_files() + NOTEBOOKS + SOLUTIONS


def test_internal_links_lead_to_files_and_sections_that_exist():
    assert ROOT / "README.md" in markdown_files()
    links = [
        (path, target)
        for path in linking_files()
        for target in links_of(path)
        if not re.match(r"[a-z]+:", target)
    ]
    assert len(links) > 100 and any("#" in target for _, target in links)
    assert [problem for link in links if (problem := missing_link(*link))] == []


def test_a_link_to_a_missing_file_or_section_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n\n## `koala train`, and *more*\n\n## Twice\n\n## Twice\n\n"
        "```\n# a comment, [no link](nowhere.md)\n```\n"
        '[one](other.md) [two](#nothing) `[three](x.md)` <a href="page.md#twice">four</a>\n'
    )
    assert links_of(page) == ["other.md", "#nothing", "page.md#twice"]
    assert anchors_of(page) == ["a-page", "koala-train-and-more", "twice", "twice-1"]
    wrong = [missing_link(page, target) for target in links_of(page)]
    assert wrong == [
        "page.md: other.md is not there",
        "page.md: #nothing has no such section",
        None,
    ]


def dead(url):
    """Why an address cannot be read, or None. A server that refuses programs is no dead link."""
    for method in ("HEAD", "GET"):  # some servers do not answer the first
        request = Request(url, method=method, headers={"User-Agent": "Mozilla/5.0"})
        try:
            with urlopen(request, timeout=30):
                return None
        except HTTPError as error:
            reason = str(error.code) if error.code in (404, 410) else None
        except OSError as error:
            reason = str(error)
    return reason and f"{url}: {reason}"


@pytest.mark.network
def test_external_links_lead_somewhere():
    links = {target.split("#")[0] for path in linking_files() for target in links_of(path)}
    urls = sorted(link for link in links if re.match(r"https?:", link))
    assert urls
    with ThreadPoolExecutor(8) as pool:
        assert [problem for problem in pool.map(dead, urls) if problem] == []


def test_every_page_of_docs_is_in_the_book_s_contents():
    tree = ast.parse((ROOT / "docs" / "conf.py").read_text(encoding="utf-8"))
    contents = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "CONTENTS"
    )
    listed = {page for pages in contents.values() for page in pages}
    assert {f"docs/{path.stem}" for path in (ROOT / "docs").glob("*.md")} <= listed


def test_development_container_sets_up_with_a_python_that_the_package_supports():
    settings = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    version = settings["image"].rpartition(":")[2]
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(version)
    assert settings["postCreateCommand"] == "make setup"


def test_every_word_of_the_glossary_is_used_where_it_says():
    rows = re.findall(
        r"^\| ([^|]+) \| ([^|]+) \| \[[^]]+\]\(([^)]+)\) \|$",
        (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8"),
        re.M,
    )
    terms = [term for term, _, _ in rows]
    assert (
        len(terms) > 30 and terms == sorted(terms, key=str.lower) and len(set(terms)) == len(terms)
    )
    for term, meaning, target in rows:
        path = (ROOT / "docs" / target).resolve()
        text = (
            "".join(map(source, cells(path, "markdown") + cells(path)))
            if path.suffix == ".ipynb"
            else path.read_text(encoding="utf-8")
        )
        assert re.search(term.replace(" ", r"\s+"), text.replace("*", ""), re.I), (
            f"{term} is not in {path.name}"
        )
        assert meaning.rstrip().endswith(".") and meaning.count(". ") == 0, (
            f"{term}: not one sentence"
        )


def test_citation_names_this_version_and_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(
        citation
    )  # what the format requires
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert "https://arxiv.org/abs/1712.03400" in [
        reference["url"] for reference in citation["references"]
    ]


def test_data_sheet_counts_the_photographs_as_the_registries_do():
    from koala_utils import downloads

    text = (ROOT / "docs" / "data_sheet.md").read_text(encoding="utf-8")
    rows = {
        row.split(" | ")[0].lstrip("| "): row.split(" | ")[1]
        for row in text.splitlines()
        if row.startswith("| ")
    }
    for row, collection in (
        ("bundled, colour", "bundled"),
        ("bundled, historical", "bundled-historical"),
    ):
        assert int(rows[row]) == len(downloads.find_photos(collection))
    for name, (_, _, prefix) in downloads.PUBLISHED.items():
        assert int(rows[name]) == len(
            [row for row in downloads.registry(name) if row["path"].startswith(prefix)]
        )


def test_commands_of_the_readme_are_targets_of_the_makefile():
    targets = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    texts = "\n".join(
        (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md")
    )
    named = re.findall(r"\bmake ([a-z-]+)\b(?=[`\s]*(?:$|`|#))", texts, re.MULTILINE)
    assert named and set(named) <= targets


def test_no_tracked_file_names_a_package_registry_s_host():
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry", "npmjs", "org"),
            ("registry", "yarnpkg", "com"),
            ("conda", "anaconda", "org"),
        )
    ]
    text_files = [
        path
        for path in tracked_files()
        if path.suffix not in (".png", ".jpg", ".safetensors", ".gif")
    ]
    found = [
        f"{path.relative_to(ROOT)}: {host}"
        for path in text_files
        for host in [*hosts, "index" + "-url"]
        if host in path.read_text(encoding="utf-8", errors="replace")
    ]
    assert len(text_files) > 20
    assert not found


def test_tracked_files_are_small_and_none_is_a_leftover():
    for path in tracked_files():
        assert path.stat().st_size < 20_000_000
        assert path.suffix not in (".pyc", ".tmp", ".h5", ".tfrecord")


def test_every_bundled_photograph_is_credited():
    bundled = ROOT / "koala_utils" / "photographs"
    credits = "\n".join(
        path.read_text(encoding="utf-8")
        for path in tracked_files()
        if path.name.startswith("CREDITS")
    )
    credits += (bundled / "kodachrome" / "kodachrome.csv").read_text(encoding="utf-8")
    photographs = [path for path in bundled.rglob("*") if path.suffix in (".jpg", ".png")]
    assert photographs
    assert [path.name for path in photographs if path.stem not in credits] == []
    assert "mobilenet_v2" in credits.lower() and "Apache" in credits
