"""Downloads from a server that cuts, lies, redirects in circles or drips."""

import hashlib
import io
import multiprocessing
import os
import signal
import threading
import time

import pytest
from helpers import assert_one_sentence, files_in, make_noise, start
from PIL import Image

from koala_utils import downloads
from koala_utils.downloads import BUNDLED, download, find_photos
from koala_utils.files import read_rows, replacing
from koala_utils.photos import PhotoError


def png(seed=0, size=200):
    buffer = io.BytesIO()
    Image.fromarray(make_noise(seed, size, size)).save(buffer, "PNG")
    return buffer.getvalue()


WHOLE = png()


def redirected(to):
    def answer(handler):
        handler.send_response(302)
        handler.send_header("Location", to(handler.path))
        handler.end_headers()

    return answer


def dripping(body, seconds=0.05, pieces=1):
    """Byte by byte, each long before a socket's timeout."""

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for i in range(0, len(body), pieces):
            handler.wfile.write(body[i : i + pieces])
            time.sleep(seconds)

    return answer


def begin_chunked(handler):
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()


def chunked_and_cut(body):
    def answer(handler):
        begin_chunked(handler)
        handler.wfile.write(f"{len(body) * 2:x}\r\n".encode() + body)
        handler.wfile.flush()

    return answer


def chunked(body):
    def answer(handler):
        begin_chunked(handler)
        for i in range(0, len(body), 10_000):
            piece = body[i : i + 10_000]
            handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        handler.wfile.write(b"0\r\n\r\n")

    return answer


@pytest.fixture
def faults(site):
    """path -> (what the server does, what is said of it)"""
    site.put("/cut.png", WHOLE[:5000], length=len(WHOLE))
    site.put("/lost-last-byte.png", WHOLE[:-1], length=len(WHOLE))
    site.put("/truncated.png", WHOLE[:5000])
    site.put("/wrong.png", b"something else" * 500)
    site.put("/empty.png", b"")
    site.pages["/circle.png"] = redirected(lambda path: path)
    site.pages["/drip.png"] = dripping(WHOLE)
    site.pages["/cut-chunk.png"] = chunked_and_cut(WHOLE[:5000])
    site.pages["/far.png"] = redirected(lambda path: "ftp://127.0.0.1/" + path)
    return {
        "/cut.png": "cut short",
        "/lost-last-byte.png": "cut short",
        "/truncated.png": "no photograph",
        "/wrong.png": "no photograph",
        "/empty.png": "no photograph",
        "/circle.png": "302",
        "/drip.png": "bytes a second",
        "/cut-chunk.png": "cut short",
        "/far.png": "",
        "/gone.png": "404",
    }


def test_every_fault_of_a_server_is_named_and_leaves_nothing(site, faults, tmp_path):
    site.put("/good.png", WHOLE)
    site.pages["/chunked.png"] = chunked(WHOLE)
    good = [site.url + "/good.png", site.url + "/chunked.png"]
    began = time.monotonic()
    found, skipped = download(
        [*good, *(site.url + path for path in faults)], tmp_path / "got", timeout=4
    )
    assert time.monotonic() - began < 120
    assert [path.read_bytes() for path in found] == [WHOLE, WHOLE]
    assert skipped.keys() == {site.url + path for path in faults}
    for path, reason in faults.items():
        assert reason in skipped[site.url + path], path
    kept = [name for name in files_in(tmp_path / "got") if not name.endswith(".missing")]
    assert kept == sorted(path.name for path in found)


def test_slow_download_that_goes_on_is_not_taken_for_dead(site, tmp_path):
    site.pages["/slow.png"] = dripping(WHOLE, 0.3, len(WHOLE) // 12)
    found, skipped = download([site.url + "/slow.png"], tmp_path, timeout=2)
    assert skipped == {} and found[0].read_bytes() == WHOLE


def test_endless_download_is_broken_off(site, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "MAX_BYTES", 50_000)
    found, skipped = download([site.put("/large.png", WHOLE)], tmp_path)
    assert found == [] and "larger than" in skipped[site.url + "/large.png"]
    assert [name for name in files_in(tmp_path) if not name.endswith(".missing")] == []


def test_collection_comes_through_when_the_server_is_well_again(
    monkeypatch, site, faults, empty_cache
):
    monkeypatch.setattr(downloads, "stream", lambda url, file: stream(url, file, timeout=2))
    digest = hashlib.sha256(WHOLE).hexdigest()
    for path in faults:
        rows = [{"path": "nips2017/a.png", "url": site.url + path, "sha256": digest}]
        monkeypatch.setattr(downloads, "registry", lambda _, rows=rows: rows)
        with pytest.raises(PhotoError) as error:
            find_photos("test")
        assert_one_sentence(error, "test", "KOALA_DATA_DIR")
        assert not (empty_cache / "test" / "nips2017" / "a.png").exists()
    site.put("/gone.png", WHOLE)
    [found] = find_photos("test")
    assert found.read_bytes() == WHOLE


stream = downloads.stream


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_killed_download_is_begun_again_and_its_half_swept(
    site, tmp_path, monkeypatch, empty_cache
):
    dripped = threading.Event()

    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(WHOLE)))
        handler.end_headers()
        handler.wfile.write(WHOLE[:70_000])
        handler.wfile.flush()
        dripped.set()
        time.sleep(10)

    site.pages["/a.png"] = answer
    (tmp_path / "list.txt").write_text(site.url + "/a.png\n")
    process = start("colorize", tmp_path / "list.txt", "-o", tmp_path / "colored")
    assert dripped.wait(300)
    folder = empty_cache / "urls" / "list"
    deadline = time.monotonic() + 20
    while (
        not any(path.stat().st_size for path in folder.glob(".*.tmp-*"))
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    process.kill()
    process.join()
    assert len([name for name in files_in(folder) if ".tmp-" in name]) == 1
    site.put("/a.png", WHOLE)
    [found] = find_photos(tmp_path / "list.txt")
    assert found.read_bytes() == WHOLE
    assert files_in(folder) == [found.name]


def test_two_downloads_of_one_list_at_once_end_with_one_copy(site, tmp_path):
    urls = [site.put(f"/{seed}.png", png(seed, 100)) for seed in range(8)]
    results = []
    threads = [
        threading.Thread(target=lambda: results.append(download(urls, tmp_path))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] and results[0][1] == {}
    assert len(site.requests) == 8
    assert files_in(tmp_path) == sorted(path.name for path in results[0][0])


def test_processes_that_want_a_collection_at_once_all_get_it(
    site, monkeypatch, tmp_path, empty_cache
):
    bodies = [png(seed, 60) for seed in range(6)]
    rows = [
        {
            "path": f"nips2017/{i}.png",
            "url": site.put(f"/{i}.png", body),
            "sha256": hashlib.sha256(body).hexdigest(),
        }
        for i, body in enumerate(bodies)
    ]
    monkeypatch.setattr(downloads, "registry", lambda _: rows)
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=lambda: find_photos("test")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * 4
    assert len(site.requests) == 6
    assert [path.read_bytes() for path in find_photos("test")] == bodies


def test_interrupted_download_does_not_wait_for_the_queue(site, tmp_path, monkeypatch):
    site.pages["/first.png"] = lambda handler: time.sleep(0.5)
    urls = [site.url + "/first.png"] + [site.url + f"/{i}.png" for i in range(40)]
    for url in urls[1:]:
        site.pages[url.removeprefix(site.url)] = dripping(WHOLE, 0.1, 2000)

    def interrupted(error):
        raise KeyboardInterrupt

    monkeypatch.setattr(downloads, "_reason", interrupted)
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        download(urls, tmp_path, workers=4)
    assert time.monotonic() - began < 15  # all of them take a minute
    assert files_in(tmp_path) == [] and len(site.requests) < 20


@pytest.mark.skipif(not hasattr(os, "umask"), reason="this system has no umask")
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o002])
def test_files_honour_the_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        with replacing(tmp_path / "a.txt") as temporary:
            temporary.write_text("whole")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_colour_slides_come_with_the_package_and_no_run_is_on_both_sides():
    table = list(read_rows(BUNDLED / "kodachrome" / "kodachrome.csv"))
    split = {
        name: {row["file"] for row in table if row["split"] == name} for name in ("train", "test")
    }
    for name, collection in (("train", "kodachrome"), ("test", "kodachrome-test")):
        found = {
            path.relative_to(BUNDLED / "kodachrome").as_posix() for path in find_photos(collection)
        }
        assert found == split[name]
    assert (len(split["train"]), len(split["test"])) == (1027, 199)
    runs = [{row["run"] for row in table if row["split"] == name} for name in ("train", "test")]
    assert not runs[0] & runs[1]
