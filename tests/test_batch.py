"""Many photographs: which are found, where their results go, and how they are coloured together."""

import os
import threading
import time

import numpy as np
import pytest
from helpers import assert_one_sentence, files_in, make_photo, save
from PIL import Image

from koala_utils import photos
from koala_utils.app import batch
from koala_utils.colorizer import colorize
from koala_utils.embedding import DEFAULT
from koala_utils.evaluation import colorfulness
from koala_utils.photos import Photo, PhotoError, read_photo


def found(*sources, output="colored"):
    return [str(place) for _, place in batch.find(list(map(str, sources)), batch.Path(output))[0]]


def pretend(job):
    """Writes the results of a job without colouring anything."""
    for target in job.targets:
        batch._save(job, np.zeros((8, 8, 3), np.uint8), target, "koala")


@pytest.fixture
def album(tmp_path):
    """Two photographs of one name, one of them in a subfolder, and a text."""
    save(make_photo(1), tmp_path / "album" / "001.jpg")
    save(make_photo(2), tmp_path / "album" / "beach" / "001.jpg")
    (tmp_path / "album" / "notes.txt").write_text("beach: 1938")
    return tmp_path / "album"


# ---------------------------------------------------------------- which photographs


def test_folders_keep_their_structure(album, tmp_path):
    assert found(album) == ["001.jpg", "beach/001.jpg", "notes.txt"]
    assert found(f"{album}/**/*.jpg") == ["001.jpg", "beach/001.jpg"]
    assert found(album, album / "beach") == [
        "album/001.jpg",
        "album/beach/001.jpg",
        "album/notes.txt",
    ]
    save(make_photo(3), tmp_path / "1939" / "001.jpg")
    assert found(album / "beach", tmp_path / "1939") == ["beach/001.jpg", "1939/001.jpg"]


def test_hidden_files_and_the_output_folder_are_left_out(album):
    for name in (".hidden.jpg", ".thumbnails/001.jpg", "colored/001.png"):
        save(make_photo(3), album / name)
    assert found(album, output=album / "colored") == ["001.jpg", "beach/001.jpg", "notes.txt"]


def test_text_beside_photographs_is_a_file_that_is_no_photograph(album):
    assert found(album / "notes.txt", album / "001.jpg") == ["notes.txt", "001.jpg"]


def test_bad_source_is_named_and_the_others_are_found(album):
    sources = [str(album / "001.jpg"), "missing.jpg", "nothing-*.jpg", "https://example.org/a.jpg"]
    originals, problems, _ = batch.find(sources, album / "colored")
    assert [str(path) for path, _ in originals] == sources[:2]
    assert [str(problem).split(":")[0] for problem in problems] == ["nothing-*.jpg", "https"]
    for source, advice in (("https://example.org/a.jpg", "text file"), ("-", "write it into")):
        with pytest.raises(PhotoError) as error:
            found(source)
        assert_one_sentence(error, source, advice)


def test_name_of_a_collection_comes_before_a_folder_of_that_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(make_photo(), tmp_path / "bundled" / "mine.jpg")
    assert "mine.jpg" not in found("bundled") and found("./bundled") == ["mine.jpg"]


# ---------------------------------------------------------------- where the results go


def plan(*sources, output, **options):
    return batch.plan(batch.find(list(map(str, sources)), output)[0], output, **options)


def test_results_lie_as_their_photographs(album, tmp_path):
    (album / "notes.txt").unlink()
    out = tmp_path / "out"
    targets = [job.targets for job in plan(album, output=out)]
    assert targets == [(out / "001.png",), (out / "beach" / "001.png",)]
    (jpeg, _) = plan(album, output=out, kind="jpeg")
    assert jpeg.targets == (out / "001.jpg",)


def test_one_photograph_may_become_a_named_file(album, tmp_path):
    photo, target = album / "001.jpg", tmp_path / "grandma.jpg"
    (job,) = plan(photo, output=target)
    assert job.targets == (target,) and not job.done
    pretend(job)
    assert plan(photo, output=target)[0].done
    for sources, output, options, words in (
        ([album], target, {}, "several"),
        ([photo], target, {"kind": "png"}, "--format"),
        ([album / "beach" / "001.jpg"], target, {}, "--overwrite"),
        ([photo], photo, {"overwrite": True}, "another name"),
    ):
        with pytest.raises(PhotoError) as error:
            plan(*sources, output=output, **options)
        assert_one_sentence(error, output, words)
    assert not plan(album / "beach" / "001.jpg", output=target, overwrite=True)[0].done
    folder = tmp_path / "scans.tif"
    folder.mkdir()
    assert plan(photo, output=folder)[0].targets == (folder / "001.png",)


def test_second_folder_does_not_replace_the_results_of_the_first(tmp_path):
    out, first = tmp_path / "out", []
    for year in ("1938", "1939", "1940"):
        save(make_photo(int(year)), tmp_path / year / "001.jpg")
        (job,) = plan(tmp_path / year, output=out)
        assert not job.done
        pretend(job)
        first.append(job.targets[0].name)
    assert first == ["001.png", "001-color.png", "001-color-2.png"]
    for year, name in zip(("1938", "1939", "1940"), first, strict=True):
        (job,) = plan(tmp_path / year, output=out)
        assert job.done and job.targets[0].name == name


def test_foreign_file_is_never_replaced(album, tmp_path):
    save(make_photo(9), tmp_path / "out" / "001.png")
    (job,) = plan(album / "001.jpg", output=tmp_path / "out", overwrite=True)
    assert job.targets[0].name == "001-color.png"


def test_what_is_done_is_skipped_until_its_photograph_changes(album, tmp_path):
    photo, out = album / "001.jpg", tmp_path / "out"
    pretend(plan(photo, output=out)[0])
    assert plan(photo, output=out)[0].done
    assert not plan(photo, output=out, overwrite=True)[0].done
    later = time.time() + 60
    os.utime(photo, (later, later))
    (job,) = plan(photo, output=out)
    assert not job.done and job.targets[0].name == "001.png"


def test_results_are_not_colored_again(album, tmp_path, monkeypatch):
    (album / "notes.txt").unlink()
    monkeypatch.chdir(album)
    for output in ("one", "two", "."):
        for done in (False, True):
            jobs = plan(".", output=batch.Path(output))
            assert len(jobs) == 2 and {job.done for job in jobs} == {done}
            for job in jobs:
                pretend(job)
    originals, _, earlier = batch.find(["."], batch.Path("three"))
    assert (len(originals), earlier) == (2, 6)
    assert found("one/001.png") == ["001.png"]  # named alone, it is coloured


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff"])
def test_every_format_keeps_whose_result_it_is(album, tmp_path, kind):
    (job,) = plan(album / "001.jpg", output=tmp_path / "out", kind=kind)
    pretend(job)
    assert plan(album / "001.jpg", output=tmp_path / "out", kind=kind)[0].done
    assert str(tmp_path).encode() not in job.targets[0].read_bytes()


def test_broken_files_have_jobs(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    jobs = plan(*tmp_path.iterdir(), output=tmp_path / "out")
    assert len(jobs) == 4 and all(job.pixels == 0 for job in jobs)
    assert all(problem for _, problem in batch.check_jobs(jobs))


# ---------------------------------------------------------------- colouring

LOOK = {"": ("koala", None)}


def test_photographs_are_colored_together_as_one_by_one(tmp_path, model_file):
    sources = [save(make_photo(i, 40 + i, 60), tmp_path / "in" / f"{i:02d}.png") for i in range(11)]
    sources[5].write_bytes(sources[5].read_bytes()[:200])
    os.utime(sources[0], (10**9, 10**9))
    jobs = plan(tmp_path / "in", output=tmp_path / "out")
    results = list(batch.colorize_jobs(jobs, {"": (model_file, None)}, DEFAULT))
    assert [job for job, _ in results] == jobs
    assert [job.path.name for job, problem in results if problem] == ["05.png"]
    assert "05.png" in str(results[5][1])
    for i in (0, 4, 10):
        alone = colorize(read_photo(jobs[i].path), model_file)
        difference = np.abs(read_photo(jobs[i].targets[0]).astype(int) - alone).max()
        assert difference <= 2 < colorfulness(alone)
    for job in jobs[:5] + jobs[6:]:  # no two have the same shape
        assert read_photo(job.targets[0]).shape == read_photo(job.path).shape
    assert len(files_in(tmp_path / "out")) == 10
    assert jobs[0].targets[0].stat().st_mtime == 10**9


def test_pixels_bound_what_is_in_memory(tmp_path, monkeypatch, model_file):
    """Each photograph is said to have 20 million pixels, as a small file may."""
    held, most, lock = 0, 0, threading.Lock()

    def load(path, page=0):
        nonlocal held, most
        with lock:
            held += 1
            most = max(most, held)
        return Photo(make_photo(0, 16, 16))

    monkeypatch.setattr(photos, "load_photo", load)
    monkeypatch.setattr(batch.os, "cpu_count", lambda: 8)
    jobs = [
        batch.Job(tmp_path / f"{i}.png", (tmp_path / f"{i}-color.png",), pixels=20_000_000)
        for i in range(16)
    ]
    for _, problem in batch.colorize_jobs(jobs, {"": (model_file, None)}, DEFAULT):
        assert problem is None
        held -= 1
    assert most == 2


def test_photograph_too_large_for_the_memory_is_named(tmp_path, monkeypatch, model_file):
    def load(path, page=0):
        raise MemoryError

    monkeypatch.setattr(photos, "load_photo", load)
    job = batch.Job(tmp_path / "huge.png", (tmp_path / "out.png",))
    [(_, problem)] = batch.colorize_jobs([job], {"": (model_file, None)}, DEFAULT)
    assert_one_sentence(problem, "huge.png", "memory")


def test_grey_stands_beside_the_colors(tmp_path, model_file):
    source = save(make_photo(1, 40, 60), tmp_path / "a.png")
    jobs = plan(source, output=tmp_path / "out")
    list(batch.colorize_jobs(jobs, {"": (model_file, None)}, DEFAULT, keep_grey=True))
    both = read_photo(tmp_path / "out" / "a.png")
    assert both.shape == (40, 120, 3)
    assert colorfulness(both[:, :60]) < 2 < 5 < colorfulness(both[:, 60:])


def test_looks_come_with_a_contact_sheet(tmp_path):
    source = save(make_photo(1, 40, 60), tmp_path / "a.png")
    jobs = plan(source, output=tmp_path / "out", looks=batch.LOOKS)
    assert [problem for _, problem in batch.colorize_jobs(jobs, batch.LOOKS, DEFAULT)] == [None]
    names = [f"a-{look}.png" for look in batch.LOOKS]
    assert files_in(tmp_path / "out") == sorted([*names, "a-looks.jpg"])
    colors = [read_photo(tmp_path / "out" / name) for name in names]
    assert len({rgb.tobytes() for rgb in colors}) == 4
    width = round(batch.TILE * 60 / 40) + 8
    sheet = read_photo(tmp_path / "out" / "a-looks.jpg")
    assert sheet.shape == (batch.TILE + 28, 5 * width - 8, 3)
    middle = sheet[: batch.TILE, 3 * width : 4 * width - 8]  # "vivid"
    smaller = np.asarray(Image.fromarray(middle).resize((60, 40), Image.BOX)).astype(int)
    assert np.abs(smaller - colors[2]).mean() < 6
    assert plan(source, output=tmp_path / "out", looks=batch.LOOKS)[0].done
    (tmp_path / "out" / "a-vivid.png").unlink()
    assert not plan(source, output=tmp_path / "out", looks=batch.LOOKS)[0].done


def test_kept_quality_is_the_jpeg_s(tmp_path, model_file):
    source = save(make_photo(1, 200, 300), tmp_path / "a.png")
    sizes = []
    for quality in (40, 95):
        target = tmp_path / f"{quality}.jpg"
        jobs = plan(source, output=target)
        list(batch.colorize_jobs(jobs, {"": (model_file, None)}, DEFAULT, quality=quality))
        sizes.append(target.stat().st_size)
    assert sizes[0] < 0.7 * sizes[1]
