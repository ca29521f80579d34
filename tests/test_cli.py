"""The commands, as a user meets them: what is done, what is named, and the exit status."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import files_in, make_photo, save
from PIL import Image
from skimage.color import rgb2lab

from koala_utils.app.cli import main
from koala_utils.downloads import BUNDLED, find_photos
from koala_utils.evaluation import colorfulness
from koala_utils.photos import read_photo, resize_short_side


@pytest.fixture
def koala(capsys):
    """Runs a command: the exit status, what it printed, and the lines of its errors."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out, printed.err.splitlines()

    return run


@pytest.fixture
def colorize(koala, model_file, tmp_path):
    """`koala colorize` with random weights, into the folder `colored`."""

    def run(*sources, output=tmp_path / "colored"):
        return koala("colorize", *sources, "-o", output, "--model", model_file)

    return run


@pytest.fixture
def album(tmp_path):
    """Three good photographs of one folder, each of another kind and size."""
    folder = tmp_path / "album"
    save(make_photo(1, 40, 56), folder / "beach.jpg")
    save(make_photo(2, 48, 30)[..., 0].astype(np.uint16) * 257, folder / "scan.tif")
    Image.fromarray(make_photo(3, 33, 64)).convert("CMYK").save(folder / "print.jpeg")
    return folder


# ---------------------------------------------------------------- koala colorize


def test_mixed_folder_is_colored_and_the_bad_files_are_named(colorize, album, tmp_path):
    (album / "notes.txt").write_text("beach: 1938")
    half = save(make_photo(4), album / "half.png")
    half.write_bytes(half.read_bytes()[: len(half.read_bytes()) // 2])
    status, out, errors = colorize(album)
    assert status == 1
    assert files_in(tmp_path / "colored") == ["beach.png", "print.png", "scan.png"]
    for name, shape in (("beach", (40, 56, 3)), ("scan", (48, 30, 3)), ("print", (33, 64, 3))):
        colored = read_photo(tmp_path / "colored" / f"{name}.png")
        assert colored.shape == shape and colorfulness(colored) > 5
    assert len(errors) == 2
    assert (
        sum("notes.txt" in line for line in errors)
        == sum("half.png" in line for line in errors)
        == 1
    )
    assert "3 of 5" in out


def test_good_folder_exits_with_zero(colorize, album, tmp_path):
    status, out, errors = colorize(album)
    assert (status, errors) == (0, [])
    assert "3 of 3" in out and str(tmp_path / "colored" / "beach.png") in out


def test_16_bit_scan_keeps_its_lightness(colorize, album, tmp_path):
    colorize(album / "scan.tif")
    scan, colored = (
        rgb2lab(read_photo(album / "scan.tif")),
        rgb2lab(read_photo(tmp_path / "colored" / "scan.png")),
    )
    assert np.abs(colored - scan)[..., 0].mean() < 1 < np.abs(colored - scan)[..., 1:].mean()


def test_photographs_of_one_name_do_not_overwrite_each_other(colorize, tmp_path):
    sources = [
        save(make_photo(seed, 32 + seed, 40), tmp_path / name)
        for seed, name in enumerate(
            ("a/IMG_1.jpg", "b/IMG_1.jpg", "b/img_1.png", "c/IMG_1-1.jpg", "c/IMG_1-2.jpg")
        )
    ]
    status, _, _ = colorize(*sources)
    assert status == 0
    heights = sorted(read_photo(path).shape[0] for path in (tmp_path / "colored").iterdir())
    assert heights == [32, 33, 34, 35, 36]


def test_output_inside_the_source_is_not_colored_again(colorize, album):
    for _ in range(2):
        status, out, _ = colorize(album, output=album / "colored")
        assert status == 0 and "3 of 3" in out
    assert files_in(album / "colored") == ["beach.png", "print.png", "scan.png"]


def test_photograph_named_twice_is_colored_once(colorize, album, tmp_path):
    status, out, _ = colorize(album / "beach.jpg", album / "beach.jpg", f"{album}/b*.jpg")
    assert status == 0 and "1 of 1" in out
    assert files_in(tmp_path / "colored") == ["beach.png"]


def test_original_is_never_overwritten(colorize, tmp_path):
    path = save(make_photo(1), tmp_path / "album" / "barn.png")
    before = path.read_bytes()
    colorize(path, output=path.parent)
    assert path.read_bytes() == before


def test_folder_can_be_colored_into_itself(colorize, album):
    status, out, _ = colorize(album, output=album)
    assert status == 0 and "3 of 3" in out
    assert {"beach.jpg", "scan.tif", "print.jpeg"} < set(files_in(album))


@pytest.mark.parametrize("suffix", [".txt", ".urls"])
def test_list_of_urls_is_downloaded_and_colored(colorize, site, tmp_path, suffix):
    buffer = io.BytesIO()
    Image.fromarray(make_photo(1)).save(buffer, "JPEG")
    (tmp_path / f"list{suffix}").write_text(
        "# one koala\n" + site.put("/a.jpg", buffer.getvalue()) + "\n"
    )
    status, out, _ = colorize(tmp_path / f"list{suffix}")
    assert status == 0 and "1 of 1" in out
    assert len(files_in(tmp_path / "colored")) == 1


def test_vividness_is_passed_on(koala, tmp_path):
    source = save(
        resize_short_side(read_photo(BUNDLED / "color" / "coffee.png"), 96), tmp_path / "coffee.png"
    )
    colors = []
    for vividness in ("0", "1"):
        assert (
            koala("colorize", source, "-o", tmp_path / vividness, "--vividness", vividness)[0] == 0
        )
        colors.append(colorfulness(read_photo(tmp_path / vividness / "coffee.png")))
    assert colors[1] > 1.2 * colors[0] > 0
    status, _, errors = koala(
        "colorize", source, "-o", tmp_path, "--model", "koala", "--vividness", "1"
    )
    assert status == 1 and len(errors) == 1 and "--strength" in errors[0]


def test_strength_is_passed_on(koala, album, model_file, tmp_path):
    assert (
        koala(
            "colorize",
            album / "beach.jpg",
            "-o",
            tmp_path,
            "--model",
            model_file,
            "--strength",
            "0",
        )[0]
        == 0
    )
    assert colorfulness(read_photo(tmp_path / "beach.png")) < 2


@pytest.mark.parametrize(
    "arguments, parts",
    [
        (["colorize", "nowhere.jpg"], ["nowhere.jpg", "no such file"]),
        (["colorize", "bundled-historical", "--model", "wombat"], ["wombat", "koala"]),
        (["colorize", "bundled-historical", "--extractor", "vgg16"], ["vgg16", "mobilenet_v2"]),
        (["prepare", "nowhere", "-o", "records"], ["nowhere"]),
        (
            ["prepare", "bundled", "-o", "records", "--extractor", "vgg16"],
            ["vgg16", "mobilenet_v2"],
        ),
        (["train", "nowhere", "-o", "run"], ["nowhere", "koala prepare"]),
        (["evaluate", "nowhere"], ["nowhere"]),
        (["study", "nowhere.csv"], ["nowhere.csv", "nobody"]),
    ],
)
def test_impossible_request_is_one_sentence(koala, monkeypatch, tmp_path, arguments, parts):
    monkeypatch.chdir(tmp_path)
    status, _, errors = koala(*arguments)
    assert status == 1
    assert len(errors) == 1 and errors[0].startswith(f"koala {arguments[0]}: ")
    assert all(part in errors[0] for part in parts)


def test_empty_folder_is_one_sentence(colorize, tmp_path):
    (tmp_path / "empty").mkdir()
    status, _, errors = colorize(tmp_path / "empty")
    assert status == 1 and len(errors) == 1 and str(tmp_path / "empty") in errors[0]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["paint"],
        ["train", "records", "-o", "run", "--epochs", "0"],
        ["train", "records", "-o", "run", "--crop", "-8"],
        ["prepare", "bundled"],
        ["colorize", "a.jpg", "--vividness", "1.5"],
        ["colorize", "a.jpg", "--vividness", "x"],
    ],
)
def test_wrong_usage_exits_with_two(arguments):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2


# ---------------------------------------------------------------- the other commands


def test_photographs_are_prepared_trained_on_and_evaluated(koala, tmp_path):
    for seed in range(12):
        save(make_photo(seed), tmp_path / "photos" / f"{seed:02d}.png")
    (tmp_path / "photos" / "broken.jpg").write_text("not a photograph")
    prepare = [
        "prepare",
        tmp_path / "photos",
        "-o",
        tmp_path / "records",
        "--size",
        "40",
        "--validation-share",
        "0.4",
    ]
    status, out, _ = koala(*prepare)
    assert (
        status == 0
        and out.startswith("12 photographs")
        and "1 left out" in out
        and "broken.jpg" in out
    )
    assert koala(*prepare)[1] == out

    train = [
        "train",
        tmp_path / "records",
        "-o",
        tmp_path / "run",
        "--epochs",
        "1",
        "--crop",
        "32",
        "--batch",
        "4",
    ]
    status, out, errors = koala(*train, "--extractor", "inception_resnet_v2")
    assert status == 1 and len(errors) == 1 and "mobilenet_v2_grey" in errors[0]
    status, out, _ = koala(*train, "--extractor", "mobilenet_v2_grey")
    assert status == 0 and "1 epochs done" in out
    weights = tmp_path / "run" / "koala.safetensors"
    assert weights.is_file()

    status, out, _ = koala(
        "evaluate",
        tmp_path / "photos" / "0[01].png",
        "-o",
        tmp_path / "evaluation",
        "--sheets",
        tmp_path / "sheets",
        "--model",
        weights,
    )
    assert status == 0
    for method in ("| grey | 1.000", "| mean color |", "| koala |"):
        assert method in out and method in (tmp_path / "evaluation" / "table.md").read_text()
    assert len((tmp_path / "evaluation" / "scores.csv").read_text().splitlines()) == 1 + 2 * 3
    assert read_photo(tmp_path / "sheets" / "sheet-00.jpg").shape[0] == 2 * 200


def test_released_models_are_compared_from_cautious_to_vivid(koala, tmp_path):
    save(
        resize_short_side(read_photo(BUNDLED / "color" / "coffee.png"), 96), tmp_path / "coffee.png"
    )
    status, out, _ = koala("evaluate", tmp_path / "coffee.png", "--vividness", "0", "0.8")
    assert status == 0
    rows = [line.split(" | ")[0].strip("| ") for line in out.splitlines() if line.startswith("| ")]
    assert rows == ["method", "grey", "mean color", "koala", "koala-plus 0", "koala-plus 0.8"]


def test_grey_photographs_have_sheets_and_no_figures(koala, tmp_path):
    for seed in range(2):
        save(make_photo(seed)[..., 0], tmp_path / "old" / f"{seed}.png")
    status, out, errors = koala("evaluate", tmp_path / "old")
    assert status == 1 and len(errors) == 1 and "--sheets" in errors[0]
    status, out, _ = koala(
        "evaluate", tmp_path / "old", "--sheets", tmp_path / "sheets", "--vividness", "0.5"
    )
    assert status == 0 and "no truth" in out
    assert files_in(tmp_path / "sheets") == ["sheet-00.jpg"]


def test_check_describes_the_environment(koala):
    status, out, errors = koala("check")
    assert (status, errors) == (0, [])
    assert (
        "nothing is missing" in out
        and "tensorflow" in out
        and "koala.safetensors: as released" in out
    )


def test_released_model_colors_by_default(koala, tmp_path):
    source = find_photos("bundled-historical")[0]
    assert koala("colorize", source, "-o", tmp_path)[0] == 0
    assert files_in(tmp_path) == [f"{source.stem}.png"]
    assert read_photo(tmp_path / f"{source.stem}.png").shape == read_photo(source).shape


def test_console_script_reports_without_a_traceback(tmp_path):
    script = Path(sys.executable).parent / "koala"
    done = subprocess.run(
        [script, "colorize", "nowhere.jpg"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        line for line in done.stderr.splitlines() if line.startswith("koala colorize: ")
    ]
    assert "nowhere.jpg" in done.stderr


def test_help_does_not_wait_for_tensorflow():
    code = "import sys, koala_utils.app.cli as c\ntry: c.main(['--help'])\nfinally: print('tensorflow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
    for command in ("check", "prepare", "train", "evaluate", "colorize"):
        assert command in done.stdout


def test_coloring_does_not_wait_for_matplotlib(tmp_path):
    photo = save(make_photo(), tmp_path / "photo.png")
    code = f"""
import sys
from koala_utils.app.cli import main
assert main(["colorize", {str(photo)!r}, "-o", {str(tmp_path / "colored")!r}]) == 0
print("tensorflow" in sys.modules, "matplotlib.pyplot" in sys.modules)
import matplotlib.pyplot  # which is there for whoever asks
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True False"
