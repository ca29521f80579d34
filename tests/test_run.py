"""notebooks/run.py, which executes the course and refreshes the notebooks' outputs."""

import base64
import importlib.util
import io
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient.exceptions import CellExecutionError
from PIL import Image

ROOT = Path(__file__).parents[1]
COMMITTED = sorted((ROOT / "notebooks").glob("*.ipynb")) + sorted(
    (ROOT / "notebooks" / "solutions").glob("*.ipynb")
)


@pytest.fixture
def runner(tmp_path):
    """The script as a module that takes tmp_path for the folder of the notebooks."""
    spec = importlib.util.spec_from_file_location("run", ROOT / "notebooks" / "run.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.HERE, module.WORK = tmp_path, tmp_path / "work"
    return module


def write(path, *sources):
    notebook = nbformat.v4.new_notebook(
        metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}, "of": "the author"}
    )
    for number, source in enumerate(sources):
        notebook.cells.append(
            nbformat.v4.new_code_cell(source, id=f"cell-{number:02}", metadata={"tags": ["kept"]})
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    return nbformat.writes(notebook)


def test_a_refresh_changes_outputs_alone(runner, tmp_path, monkeypatch, capsys):
    paths = [
        write(tmp_path / "01_a.ipynb", "print('one')\nprint('two')", "6 * 7"),
        write(tmp_path / "solutions" / "01_a.ipynb", "1 + 1"),
    ]
    other = write(tmp_path / "02_b.ipynb", "1 / 0")
    before, untouched = [without_outputs(path) for path in paths], other.read_bytes()
    monkeypatch.setattr("sys.argv", ["run.py", "--refresh", "1"])
    runner.main()
    assert [without_outputs(path) for path in paths] == before
    cells = nbformat.read(paths[0], as_version=4).cells
    assert (
        cells[0].outputs[0].text == "one\ntwo\n" and cells[1].outputs[0].data["text/plain"] == "42"
    )
    assert [cell.execution_count for cell in cells] == [1, 2]
    assert other.read_bytes() == untouched
    once = paths[0].read_bytes()
    runner.main()
    assert paths[0].read_bytes() == once
    assert "2/2  solutions/01_a" in capsys.readouterr().out


def test_a_refresh_leaves_a_notebook_that_fails_as_it_was(runner, tmp_path, monkeypatch, capsys):
    path = write(tmp_path / "03_c.ipynb", "print('before')", "1 / 0")
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["run.py", "--refresh"])
    with pytest.raises(SystemExit) as stopped:
        runner.main()
    assert (
        stopped.value.code == 1
        and "03_c.ipynb stopped at an error; it was left as it is." in capsys.readouterr().err
    )
    assert path.read_bytes() == before
    with pytest.raises(CellExecutionError):
        runner.run(path)
    assert (
        path.read_bytes() == before
        and "ZeroDivisionError" in (tmp_path / "work" / "notebooks" / "03_c.ipynb").read_text()
    )


def test_two_notebooks_run_at_once_and_are_named_in_order(runner, tmp_path, monkeypatch, capsys):
    meet = (
        "import time\nfrom pathlib import Path\nPath({!r}).touch()\n"
        "for _ in range(600):\n    time.sleep(0.1)\n    if Path({!r}).exists():\n        break\n"
        "else:\n    raise TimeoutError"
    )
    here, there = str(tmp_path / "here"), str(tmp_path / "there")
    write(tmp_path / "01_a.ipynb", meet.format(here, there))
    write(tmp_path / "02_b.ipynb", meet.format(there, here))
    monkeypatch.setattr("sys.argv", ["run.py"])
    runner.main()
    assert re.match(r"1/2  01_a +\d+ s\n2/2  02_b +\d+ s\n", capsys.readouterr().out)
    assert len(list((tmp_path / "work" / "notebooks").iterdir())) == 2


def test_long_notebooks_begin_early_and_records_before_their_readers(runner, monkeypatch):
    begun = []
    monkeypatch.setattr(runner, "run", lambda path: begun.append(path.name[:2]))
    numbers = [f"{number:02}" for number in range(11)]
    with ThreadPoolExecutor(1) as pool:
        times = list(runner.started(pool, [Path(f"{number}_x.ipynb") for number in numbers]))
    assert len(times) == 11 and sorted(begun) == numbers
    assert begun.index("01") < begun.index("04") < begun.index("03")


def test_alt_texts_come_from_the_metadata_of_the_cells(runner, tmp_path, monkeypatch):
    show = (
        "from IPython.display import display\n"
        "data = {'image/png': 'iVBORw0KGgo=', 'text/plain': '<Figure>'}\n"
    )
    plain = "display(data, raw=True)\n"
    own = "display(data, metadata={'image/png': {'alt': 'its own words'}}, raw=True)"
    path = write(tmp_path / "01_a.ipynb", show + plain, show + plain + own + "\n" + plain, "1")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[0].metadata["alt"] = "a single dot"
    notebook.cells[1].metadata["alt"] = ["the first of two", "the second of two"]
    nbformat.write(notebook, path)
    before = without_outputs(path)
    monkeypatch.setattr("sys.argv", ["run.py", "--refresh"])
    runner.main()
    assert without_outputs(path) == before
    first, second, third = nbformat.read(path, as_version=4).cells
    assert first.outputs[0].metadata["image/png"]["alt"] == "a single dot"
    assert first.outputs[0].data["text/plain"] == "a single dot"
    assert [output.metadata["image/png"]["alt"] for output in second.outputs] == [
        "the first of two",
        "its own words",
        "the second of two",
    ]
    assert third.outputs[0].data["text/plain"] == "1"


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_notebooks_are_written_as_a_refresh_writes_them(path, tmp_path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.write(notebook, tmp_path / path.name)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert (
        not [cell.id for cell in notebook.cells if "execution" in cell.metadata]
        and "widgets" not in notebook.metadata
    )


def test_pictures_of_a_large_notebook_are_encoded_again_until_it_fits(runner):
    noise = np.random.default_rng(0).integers(0, 256, (900, 1600, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((1800, 1000)).save(buffer, "JPEG", quality=95)
    data = {"image/jpeg": base64.b64encode(buffer.getvalue()).decode(), "text/plain": "noise"}
    output = nbformat.v4.new_output("display_data", data, metadata={"image/jpeg": {"alt": "noise"}})
    cells = [nbformat.v4.new_code_cell("x", outputs=[output]) for _ in range(4)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    assert len(nbformat.writes(notebook)) > runner.LARGEST
    runner.shrink_pictures(notebook)
    assert len(nbformat.writes(notebook)) <= runner.LARGEST
    kept = notebook.cells[0].outputs[0]
    assert Image.open(io.BytesIO(base64.b64decode(kept.data["image/jpeg"]))).width == 1200
    assert kept.metadata["image/jpeg"]["alt"] == "noise"
