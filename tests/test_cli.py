"""The commands, as a user meets them: what is done, what is named, and the exit status."""

import io
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers import files_in, make_photo, save
from PIL import Image
from skimage.color import rgb2lab

import koala_utils
from koala_utils.app import batch
from koala_utils.app.cli import main
from koala_utils.downloads import BUNDLED, find_photos
from koala_utils.evaluation import colorfulness
from koala_utils.photos import load_photo, read_photo, resize_short_side


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

    def run(*sources, output=tmp_path / "colored"):  # and options
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
    for words in ("3 of 3", "already there: 3"):
        status, out, _ = colorize(album, output=album / "colored")
        assert status == 0 and words in out
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
        (["colorize", "https://example.org/a.jpg"], ["https://example.org/a.jpg", "text file"]),
        (["colorize", "-"], ["file"]),
        (["colorize", "bundled", "--looks", "--vividness", "1"], ["--looks"]),
        (["colorize", "bundled", "-o", "one.jpg"], ["one.jpg", "several"]),
        (["colorize", "bundled-historical", "--model", "wombat"], ["wombat", "koala"]),
        (["colorize", "bundled-historical", "--extractor", "vgg16"], ["vgg16", "mobilenet_v2"]),
        (["prepare", "nowhere", "-o", "records"], ["nowhere"]),
        (
            ["prepare", "bundled", "-o", "records", "--extractor", "vgg16"],
            ["vgg16", "mobilenet_v2"],
        ),
        (["prepare", "bundled", "-o", "records", "--held-out", "1"], ["TABLE.csv:COLUMN"]),
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


def test_text_and_missing_files_among_photographs_are_named(colorize, album, tmp_path):
    (album / "notes.txt").write_text("beach: 1938")
    (album / "empty.jpg").touch()
    (album / "dangling.jpg").symlink_to("nowhere")
    status, out, errors = colorize(
        *sorted(album.iterdir()), album / "missing.jpg", "https://example.org/a.jpg"
    )
    assert status == 1 and "3 of 7" in out
    for name in ("notes.txt", "empty.jpg", "dangling.jpg", "missing.jpg", "example.org"):
        assert sum(name in line for line in errors) == 1, name


def test_interrupted_run_goes_on(colorize, album, monkeypatch, tmp_path):
    whole = batch.colorize_jobs

    def interrupted(*arguments):
        for number, result in enumerate(whole(*arguments)):
            yield result
            if number:
                raise KeyboardInterrupt

    monkeypatch.setattr(batch, "colorize_jobs", interrupted)
    status, _, errors = colorize(album)
    assert status == 130 and errors == ["stopped; run the same command again to go on"]
    monkeypatch.undo()
    first = tmp_path / "colored" / "beach.png"
    before = first.stat().st_ino
    status, out, _ = colorize(album)
    assert status == 0 and "3 of 3" not in out and "already there: " in out
    assert first.stat().st_ino == before
    assert files_in(tmp_path / "colored") == ["beach.png", "print.png", "scan.png"]
    status, out, _ = colorize(album, "--overwrite")
    assert "3 of 3" in out and first.stat().st_ino != before


def test_terminal_shows_a_counted_bar_and_a_pipe_only_lines(colorize, album, monkeypatch):
    _, _, errors = colorize(album)
    assert errors == []

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    colorize(album, "--overwrite")
    shown = sys.stderr.getvalue()
    assert shown.index("loading TensorFlow") < shown.index("colouring") < shown.index("3/3")


def test_16_bits_alpha_and_time_come_back(colorize, tmp_path):
    deep = np.linspace(0, 65535, 48 * 64).reshape(48, 64).astype(np.uint16)
    save(deep, tmp_path / "in" / "deep.png")
    alpha = np.full((48, 64), 255, np.uint8)
    alpha[:10] = 0
    save(np.dstack([make_photo(1), alpha]), tmp_path / "in" / "cut.png")
    os.utime(tmp_path / "in" / "cut.png", (10**9, 10**9))
    status, _, errors = colorize(tmp_path / "in", "--format", "tiff")
    assert (status, errors) == (0, [])
    cut = load_photo(tmp_path / "colored" / "cut.tif")
    assert np.array_equal(cut.alpha, alpha) and cut.deep is None
    assert (tmp_path / "colored" / "cut.tif").stat().st_mtime == 10**9
    assert len(np.unique(load_photo(tmp_path / "colored" / "deep.tif").deep[..., 1])) > 1000
    assert b"compositeWithTrained" in (tmp_path / "colored" / "deep.tif").read_bytes()


def test_pages_are_colored_one_by_one(colorize, tmp_path):
    first, *others = (Image.fromarray(make_photo(seed, 40, 40 + seed)) for seed in range(3))
    first.save(tmp_path / "album.tif", save_all=True, append_images=others)
    status, out, _ = colorize(tmp_path / "album.tif")
    assert status == 0 and "3 of 3" in out and "album.tif, page 2 -> " in out
    for page in range(3):
        colored = read_photo(tmp_path / "colored" / f"album-{page + 1}.png")
        assert colored.shape == (40, 40 + page, 3)


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
        ["colorize", "a.jpg", "--strength", "nan"],
        ["colorize", "a.jpg", "--strength", "-1"],
        ["colorize", "a.jpg", "--quality", "0"],
        ["colorize", "a.jpg", "--format", "bmp"],
        ["train", "records", "-o", "run", "--learning-rate", "nan"],
        ["train", "records", "-o", "run", "--learning-rate", "0"],
        ["train", "records", "-o", "run", "--average", "2"],
        ["prepare", "bundled", "-o", "records", "--validation-share", "10"],
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
    rows = [f"photos/{seed:02d}.png,{seed // 3}" for seed in range(12)]
    table = tmp_path / "shoots.csv"
    table.write_text("\n".join(["file,shoot", *rows, "photos/broken.jpg,4"]))
    prepare = [
        "prepare",
        *sorted((tmp_path / "photos").iterdir()),  # as a shell makes it of photos/*
        "-o",
        tmp_path / "records",
        "--size",
        "40",
        "--groups",
        f"{table}:shoot",
        "--held-out",
        "1",
        "--held-out",
        "3",
    ]
    status, out, _ = koala(*prepare)
    assert (
        status == 0
        and out.startswith("12 photographs (6 for training, 6 for validation)")
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
    assert status == 1 and len(errors) == 1 and "efficientnet_lite2_grey" in errors[0]
    status, out, _ = koala(*train, "--extractor", "efficientnet_lite2_grey")
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
    for method in ("| grey | 1.000", "| mean color |", "| run/koala |"):
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
    code = (
        "import sys, koala_utils.app.cli as c\n"
        "try: c.main(['--help'])\n"
        "finally: print('tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False"
    for command in ("check", "prepare", "train", "evaluate", "colorize"):
        assert command in done.stdout


def test_dry_run_says_what_would_be_done(album, tmp_path):
    (album / "empty.jpg").touch()
    code = f"""
import sys
import koala_utils
from koala_utils.app import batch
from koala_utils.app.cli import main
assert main(["colorize", {str(album)!r}, "-o", {str(tmp_path / "out")!r}, "--dry-run"]) == 1
print("tensorflow" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    *lines, summary, loaded = done.stdout.splitlines()
    assert sorted(lines) == [
        f"{album / source} -> {tmp_path / 'out' / target}"
        for source, target in (
            ("beach.jpg", "beach.png"),
            ("print.jpeg", "print.png"),
            ("scan.tif", "scan.png"),
        )
    ]
    assert "3 of 4 would be coloured" in summary and loaded == "False"
    assert "empty.jpg" in done.stderr and not (tmp_path / "out").exists()


def test_help_of_colorize_fits_a_screen(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main(["colorize", "--help"])
    lines = capsys.readouterr().out.splitlines()
    assert 24 <= len(lines) <= 40 and max(map(len, lines)) <= 80
    assert "130" in lines[-1]


def test_version(capsys):
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out.split()[0] == "koala"


# ---------------------------------------------------------------- where it runs


@pytest.mark.parametrize("stream", [None, type("Stream", (), {"write": print, "flush": print})()])
def test_main_needs_no_particular_standard_output(monkeypatch, stream):
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["study", "nowhere.csv"]) == 1


def test_closed_standard_error_stops_nothing(tmp_path, album, model_file):
    command = [sys.executable, "-c", "import sys; from koala_utils.app.cli import main; sys.exit("]
    command[-1] += (
        f"main(['colorize', {str(album / 'beach.jpg')!r}, '-o', {str(tmp_path / 'out')!r},"
    )
    command[-1] += f" '--model', {str(model_file)!r}]))"
    done = subprocess.run(
        ["sh", "-c", '"$@" 2>&-', "sh", *command], stdout=subprocess.PIPE, text=True
    )
    assert done.returncode == 0 and "1 of 1" in done.stdout


def test_results_of_an_installed_package_lie_in_the_current_folder(tmp_path):
    package = tmp_path / "site-packages" / "koala_utils"
    package.mkdir(parents=True)
    shutil.copy(koala_utils.__file__, package)
    (tmp_path / "here").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "import koala_utils; print(koala_utils.WORK, koala_utils.REPORT)"],
        cwd=tmp_path / "here",
        env={**os.environ, "PYTHONPATH": str(package.parent), "KOALA_WORK_DIR": ""},
        capture_output=True,
        text=True,
    )
    work = tmp_path / "here" / "work"
    assert done.stdout.split() == [str(work), str(work / "report")]


def test_public_names_are_shown():
    assert {"colorize", "find_photos", "read_photo", "save_photo"} <= set(dir(koala_utils))
    assert koala_utils.find_photos is find_photos
