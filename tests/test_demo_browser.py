"""The demo, the study and notebook 6 in a real browser: Debian's chromium, driven by Playwright.

KOALA_SCREENSHOTS names a folder for pictures of every state, which are to be looked at.
"""

import base64
import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from helpers import make_noise
from PIL import Image, ImageCms
from test_demo import bomb, decoded, encoded

from koala_utils import ROOT, colorize, evaluation, film, notebook
from koala_utils.app import demo, study
from koala_utils.downloads import find_photos
from koala_utils.photos import read_photo

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
pytestmark = pytest.mark.skipif(
    not CHROMIUM, reason="no browser is here: install Debian's chromium"
)

DESKTOP = {"viewport": {"width": 1280, "height": 900}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
PAGES = ROOT / "notebooks" / "pages"


@contextlib.contextmanager
def served(folder, *command):
    """The address of a Jupyter application, started on this machine as the Makefile does; its files
    are in `folder`.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {
        "JUPYTER_PATH": str(PAGES),
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "KOALA_WORK_DIR": str(folder / "work"),
        "KOALA_DATA_DIR": str(folder / "none"),
    }
    log = (folder / "server.log").open("w+")
    server = subprocess.Popen(
        [sys.executable, "-m", *command, f"--port={port}", "--no-browser"],
        cwd=PAGES,
        env=environment,
        stdout=log,
        stderr=log,
    )
    try:
        for _ in range(1500):
            with (
                contextlib.suppress(OSError),
                socket.create_connection(("127.0.0.1", port), timeout=1),
            ):
                break
            assert server.poll() is None, (folder / "server.log").read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)
        log.close()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("server")


@pytest.fixture(scope="module")
def address(folder):
    with served(folder, "voila", "demo.ipynb") as url:
        yield url


def visit(browser, url, asked=None, **options):
    """A page of its own that shows its gallery; what it asks of any host is noted in `asked`."""
    page = browser.new_page(**options)
    page.set_default_timeout(60_000)
    if asked is not None:
        page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    return page


@pytest.fixture(scope="module")
def asked():
    return []


@pytest.fixture(scope="module")
def shared(browser, address, asked):
    """One page for many tests: it has to go on working after each of them."""
    page = visit(browser, address, asked, **DESKTOP)
    page.get_by_role("button", name="rocket").wait_for()
    yield page
    page.close()


def picture(page, name, kind="after"):
    """The photograph that is shown under that name, once it is, as an array."""
    image = page.locator(f".koala-{kind}[alt='{kind}: {name}'][data-shown]")
    image.wait_for()
    settle(page)
    data = image.evaluate("""async (image) => {
        const bytes = new Uint8Array(await (await fetch(image.src)).arrayBuffer());
        return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
    }""")
    return decoded(base64.b64decode(data))


def settle(page):
    """Waits until nothing is being worked on and the picture stays the same."""
    page.wait_for_function("() => document.querySelector('.koala-progress progress').hidden")
    state = None
    for _ in range(50):
        before, state = state, page.locator(".koala-after").get_attribute("data-shown")
        if before == state:
            return
        time.sleep(0.25)


def choose(page, name):
    page.get_by_role("button", name=name, exact=True).click()
    return picture(page, name)


def give(page, name, data):
    page.locator("input[type=file]").set_input_files(
        [{"name": name, "mimeType": "application/octet-stream", "buffer": data}]
    )


def download(page):
    """What the download button gives: (file name, Pillow image)."""
    settle(page)
    with page.expect_download() as found:
        page.get_by_role("button", name="Download").click()
    return found.value.suggested_filename, Image.open(
        io.BytesIO(Path(found.value.path()).read_bytes())
    )


def keep(page, name):
    if os.environ.get("KOALA_SCREENSHOTS"):
        time.sleep(0.8)
        page.screenshot(path=Path(os.environ["KOALA_SCREENSHOTS"]) / f"{name}.png", full_page=True)


# ---------------------------------------------------------------- the page


def test_page_shows_its_gallery_and_no_code(shared):
    keep(shared, "desktop-gallery")
    assert (
        shared.title()
        == shared.get_by_role("heading", level=1).inner_text()
        == "Colour your photograph"
    )
    assert shared.locator(".koala-tiles img").count() == 14
    assert (
        shared.locator(".jp-CodeCell").count() == 1
        and shared.locator(".jp-CodeCell .jp-InputArea").count() == 0
    )
    assert "koala_utils" not in shared.locator("body").inner_text()
    assert not shared.locator(".koala-stage").is_visible()


def test_bundled_photograph_is_colored(shared):
    after = choose(shared, "dust bowl home")
    before = picture(shared, "dust bowl home", "before")
    keep(shared, "desktop-colored")
    assert before.shape == after.shape
    assert evaluation.colorfulness(before) < 1 < 4 < evaluation.colorfulness(after)
    assert shared.locator(".koala-bars li").count() == 5
    assert (
        shared.get_by_role("group", name="plausible colourings").get_by_role("button").count() == 4
    )


def test_wipe_follows_the_keyboard(shared):
    choose(shared, "dust bowl home")
    handle = shared.get_by_role("slider", name="wipe between grey and colour")
    clips = []
    for key in ("Home", "End", "ArrowLeft"):
        handle.press(key)
        clips.append(
            shared.locator(".koala-after").evaluate("image => getComputedStyle(image).clipPath")
        )
    assert [re.search(r"([\d.]+)%?\)$", clip).group(1) for clip in clips] == ["0", "100", "99"]
    handle.press("Home")
    for _ in range(40):
        handle.press("ArrowRight")


def test_sliders_change_the_picture_from_the_keyboard(shared):
    colors = [evaluation.colorfulness(choose(shared, "dust bowl home"))]
    for key in ("Home", "End"):
        shared.get_by_role("slider", name="Strength").press(key)
        time.sleep(0.5)
        colors.append(evaluation.colorfulness(picture(shared, "dust bowl home")))
    assert colors[1] < 1 < colors[0] < colors[2]
    shared.get_by_role("slider", name="Strength").fill("1")
    shared.get_by_role("slider", name="Cautious to vivid").press("End")
    time.sleep(0.5)
    assert evaluation.colorfulness(picture(shared, "dust bowl home")) > colors[0]
    assert (
        shared.get_by_role("button", name="vivid", exact=True).get_attribute("aria-pressed")
        == "true"
    )
    shared.get_by_role("button", name="balanced").click()
    time.sleep(0.5)
    assert shared.get_by_role("slider", name="Cautious to vivid").input_value() == "0.5"
    assert evaluation.colorfulness(picture(shared, "dust bowl home")) == pytest.approx(
        colors[0], rel=0.05
    )


def test_lent_meaning_changes_the_picture(shared):
    own = choose(shared, "coffee")
    shared.get_by_label("Lend it the meaning of").select_option("flower")
    shared.get_by_role("heading", name="What the classifier saw in flower").wait_for()
    assert evaluation.ab_error(picture(shared, "coffee"), own) > 1
    keep(shared, "desktop-lent")


def test_uploaded_photograph_comes_back_in_color_at_full_size(shared):
    large = np.asarray(
        Image.fromarray(read_photo(find_photos("bundled-historical")[3])).resize(
            (2600, 2000), Image.LANCZOS
        )
    )
    large = np.clip(large + np.random.default_rng(0).normal(0, 8, large.shape), 0, 255).astype(
        np.uint8
    )  # as film's grain does
    exif = Image.Exif()
    exif[0x010F] = "Leica"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(large, quality=95, exif=exif, icc_profile=profile)
    assert len(data) > 1_500_000  # so that it comes in parts
    give(shared, "aunt.jpg", data)
    picture(shared, "aunt.jpg")
    keep(shared, "desktop-uploaded")
    name, result = download(shared)
    assert name == "aunt-color.png" and result.size == (2600, 2000)
    assert result.getexif()[0x010F] == "Leica" and "icc_profile" in result.info
    rgb = np.asarray(result)
    sent = read_photo(io.BytesIO(data))
    assert np.abs(film.grey_of(rgb) - film.grey_of(sent)).mean() < 0.02
    assert np.abs(rgb.astype(int) - colorize(sent)).max() <= 1


def test_turned_photograph_comes_back_upright(shared):
    upright = read_photo(find_photos("bundled")[5])
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(np.rot90(upright), quality=95, exif=exif)
    give(shared, "turned.jpg", data)
    shown = picture(shared, "turned.jpg")
    assert (shown.shape[0] > shown.shape[1]) == (upright.shape[0] > upright.shape[1])
    _, result = download(shared)
    assert result.size == upright.shape[1::-1] and result.getexif().get(0x0112, 1) == 1
    assert np.abs(film.grey_of(np.asarray(result)) - film.grey_of(upright)).mean() < 0.03


def test_photograph_may_be_dropped(shared):
    data = base64.b64encode(encoded(read_photo(find_photos("bundled")[1]))).decode()
    shared.locator(".koala-drop").evaluate(
        """(zone, data) => {
        const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
        const carried = new DataTransfer();
        carried.items.add(new File([bytes], "dropped.jpg"));
        zone.dispatchEvent(
            new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true }));
    }""",
        data,
    )
    assert evaluation.colorfulness(picture(shared, "dropped.jpg")) > 2


def test_bad_files_get_a_sentence_each_and_the_page_goes_on(shared, tmp_path):
    bad = {
        "letter.txt": b"Dear aunt,",
        "bomb.png": bomb(),
        "half.jpg": encoded(make_noise(1, 200, 200))[:9000],
        "huge.jpg": bytes(demo.MAX_BYTES + 1),
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    shared.locator("input[type=file]").set_input_files([tmp_path / name for name in bad])
    alerts = shared.get_by_role("alert").locator("p")
    alerts.nth(len(bad) - 1).wait_for()
    keep(shared, "desktop-refused")
    said = alerts.all_inner_texts()
    assert [text.split(":")[0] for text in said] == list(bad)
    assert not [text for text in said if "/" in text or "Error" in text or "\n" in text]
    choose(shared, "china")
    assert alerts.count() == 0


def test_every_control_is_named_for_a_screen_reader(shared):
    choose(shared, "dust bowl home")
    tree = shared.context.new_cdp_session(shared).send("Accessibility.getFullAXTree")["nodes"]
    kinds = (
        "button",
        "slider",
        "combobox",
        "textbox",
        "checkbox",
        "radio",
        "spinbutton",
        "link",
        "image",
        "progressbar",
    )
    found = [
        (node["role"]["value"], node["name"]["value"])
        for node in tree
        if not node["ignored"] and node["role"]["value"] in kinds
    ]
    assert {"button", "slider", "combobox", "image"} <= {role for role, _ in found} and len(
        found
    ) >= 24
    assert [role for role, name in found if not name.strip()] == []
    assert len([name for role, name in found if role == "slider"]) == 3


# ---------------------------------------------------------------- hints


@contextlib.contextmanager
def hinting(page, name):
    """The coloured picture of a photograph while it takes hints; at the end it has none."""
    choose(page, name)
    toggle = page.get_by_role("button", name="Colour hints")
    toggle.click()
    assert toggle.get_attribute("aria-pressed") == "true"
    yield page.locator(".koala-layer")
    if page.get_by_role("button", name="Remove all").is_enabled():
        page.get_by_role("button", name="Remove all").click()
    toggle.click()
    assert not page.locator(".koala-layer").is_visible()


def point(layer, x, y, press="click"):
    """Clicks or taps a place, in shares of the picture's sides, and waits for its colors."""
    box = layer.bounding_box()
    getattr(layer, press)(position={"x": x * box["width"], "y": y * box["height"]})
    layer.page.locator(".koala-swatch").nth(4).wait_for()


def redrawn(page, name, act, *given):
    """The photograph in color after an action that changes it, however long that takes."""
    before = page.locator(".koala-after").get_attribute("data-shown")
    act(*given)
    page.wait_for_function(
        "before => document.querySelector('.koala-after').dataset.shown !== before", arg=before
    )
    return picture(page, name)


def changes(one, other, *places):
    """The mean change of the color around each place, in shares of the picture's sides."""
    height, width = one.shape[:2]
    difference = np.abs(one.astype(float) - other).max(-1)
    found = []
    for x, y in places:
        row, column = int(y * height), int(x * width)
        found.append(difference[max(0, row - 6) : row + 6, max(0, column - 6) : column + 6].mean())
    return found


def test_hint_is_chosen_from_likely_colors_moved_undone_and_removed(shared):
    name, here, there = "dust bowl home", (0.3, 0.7), (0.75, 0.85)
    plain = choose(shared, name)
    with hinting(shared, name) as layer:
        point(layer, *here)
        keep(shared, "desktop-hint-panel")
        shares = shared.locator(".koala-swatch").all_inner_texts()
        assert len(shares) == 5 and all(re.fullmatch(r"(< )?\d+ %", text) for text in shares)
        hinted = redrawn(shared, name, shared.locator(".koala-swatch").nth(2).click)
        dots = layer.locator(".koala-dot")
        playwright.expect(dots).to_have_count(1)
        assert not shared.get_by_role("dialog").is_visible()
        near, far = changes(plain, hinted, here, there)
        assert near > 8 and far < 0.75 * near

        point(layer, 0.9, 0.1)
        two = redrawn(shared, name, shared.get_by_role("button", name="No colour here").click)
        grey, blue = (evaluation.colorfulness(each[:40, -80:]) for each in (two, hinted))
        playwright.expect(dots).to_have_count(2)
        assert grey < 0.7 * blue
        keep(shared, "desktop-hint-dots")
        _, result = download(shared)
        small = np.asarray(result.resize(two.shape[1::-1], Image.LANCZOS))
        assert evaluation.ab_error(small, two) < 0.1 * evaluation.ab_error(small, plain)

        box = layer.bounding_box()
        dots.first.hover()
        shared.mouse.down()
        shared.mouse.move(
            box["x"] + there[0] * box["width"], box["y"] + there[1] * box["height"], steps=5
        )
        moved = redrawn(shared, name, shared.mouse.up)
        assert not shared.get_by_role("dialog").is_visible()  # a drag is no click
        near, far = changes(two, moved, here, there)
        assert near > 4 and far > 4
        assert "75 % from the left, 85 % from the top" in dots.first.get_attribute("aria-label")

        for expected in (two, hinted, plain):
            undone = redrawn(shared, name, shared.get_by_role("button", name="Undo").click)
            assert changes(undone, expected, here, there, (0.9, 0.1)) == [0, 0, 0]
        playwright.expect(dots).to_have_count(0)
        assert shared.get_by_role("button", name="Undo").is_disabled()

        for x in (0.2, 0.5):
            point(layer, x, 0.3)
            shared.get_by_label("another colour").fill("#2040c0")
            shared.get_by_role("dialog").wait_for(state="hidden")
        dots.last.click()
        shared.get_by_role("button", name="Remove this hint").click()
        playwright.expect(dots).to_have_count(1)
        assert "#2040c0" in dots.first.get_attribute("aria-label")
        choose(shared, "coffee")
        playwright.expect(dots).to_have_count(0)
        choose(shared, name)
        playwright.expect(dots).to_have_count(1)
        redrawn(shared, name, shared.get_by_role("button", name="vivid", exact=True).click)
        playwright.expect(dots).to_have_count(1)
        redrawn(shared, name, shared.get_by_role("button", name="balanced").click)
        cleared = redrawn(shared, name, shared.get_by_role("button", name="Remove all").click)
        assert changes(cleared, plain, here, (0.2, 0.3)) == [0, 0]
        playwright.expect(dots).to_have_count(0)


def test_hints_are_given_from_the_keyboard(shared):
    plain, keys = choose(shared, "dust bowl home"), shared.keyboard
    shared.get_by_role("button", name="Colour hints").press("Enter")
    cursor = shared.get_by_role("button", name="new hint, 50 % from the left, 50 % from the top")
    cursor.wait_for()
    assert cursor.evaluate("cursor => cursor === document.activeElement")
    for key in ["Shift+ArrowLeft"] * 5 + ["ArrowLeft", "ArrowDown"]:
        keys.press(key)
    dot = shared.locator(".koala-dot")
    for opened in range(2):  # the first time, Escape gives no hint
        keys.press("Enter")
        shared.locator(".koala-swatch").nth(2).wait_for()
        shared.wait_for_function("document.activeElement.className === 'koala-swatch'")
        keys.press("Tab" if opened else "Escape")
        playwright.expect(dot).to_have_count(0)
    keys.press("Tab")
    hinted = redrawn(shared, "dust bowl home", keys.press, "Enter")
    assert "24 % from the left, 51 % from the top" in dot.get_attribute("aria-label")
    assert changes(plain, hinted, (0.24, 0.51))[0] > 4
    for _ in range(5):
        moved = redrawn(shared, "dust bowl home", keys.press, "Shift+ArrowDown")
    assert "84 % from the top" in dot.get_attribute("aria-label")
    assert changes(hinted, moved, (0.24, 0.51))[0] > 2
    removed = redrawn(shared, "dust bowl home", keys.press, "Delete")
    playwright.expect(dot).to_have_count(0)
    assert changes(plain, removed, (0.24, 0.51)) == [0]
    shared.get_by_role("button", name="Colour hints").press("Enter")
    assert shared.get_by_role("slider", name="wipe between grey and colour").is_visible()


def test_refused_hint_goes_back_and_says_why(shared):
    photo = np.full((300, 400), 255, np.uint8)
    photo[30:270, 40:360] = np.clip(
        film.grey_of(read_photo(find_photos("bundled")[1]))[:240, :320, 0] * 255, 20, 200
    )
    give(shared, "framed.png", encoded(photo, "PNG"))
    picture(shared, "framed.png")
    with hinting(shared, "framed.png") as layer:
        point(layer, 0.5, 0.5)
        shared.locator(".koala-swatch").first.click()
        layer.click(position={"x": 4, "y": 4})
        said = shared.get_by_role("alert").get_by_text("The edge of the film stays grey")
        said.wait_for()
        assert not shared.get_by_role("dialog").is_visible()
        dot, box = shared.locator(".koala-dot"), layer.bounding_box()
        dot.hover()
        shared.mouse.down()
        shared.mouse.move(box["x"] + 5, box["y"] + 5, steps=4)
        shared.mouse.up()
        shared.locator(".koala-dot[aria-label*='50 % from the left']").wait_for()
        playwright.expect(dot).to_have_count(1)
        point(layer, 0.4, 0.4)
        said.wait_for(state="hidden")


# ---------------------------------------------------------------- the servers, a telephone


def test_page_asks_no_other_host_and_names_no_path_of_this_machine(shared, asked, address):
    assert len(asked) > 20
    assert [
        url
        for url in asked
        if not url.startswith((address, "blob:", "data:", address.replace("http", "ws")))
    ] == []
    text = shared.locator("body").inner_text() + "".join(
        shared.locator("[title]").evaluate_all("all => all.map(e => e.title)")
    )
    assert str(ROOT) not in text and str(Path.home()) not in text


def test_nothing_is_left_in_the_temporary_folder(shared, folder):
    """What is there is Jupyter's and the compiler's; photographs are a good deal larger."""
    settle(shared)
    left = [path for path in folder.rglob("*") if path.is_file() and path.name != "server.log"]
    assert [
        path
        for path in left
        if path.suffix in (".png", ".jpg", ".tmp") or path.stat().st_size > 100_000
    ] == []


def test_page_is_served_to_this_machine_alone(address):
    port = int(address.rpartition(":")[2])
    assert json.loads((PAGES / "voila.json").read_text())["Voila"]["ip"] == "127.0.0.1"
    with (
        pytest.raises(OSError),
        socket.create_connection(("127.0.0.2", port), timeout=2),
    ):  # which 0.0.0.0 would answer
        pass


def test_notebook_of_the_page_cannot_be_fetched(address):
    for path in (
        "demo.ipynb",
        "voila.json",
        "api/kernels",
        "files/demo.ipynb",
        "voila/files/demo.ipynb",
        "voila/files/voila.json",
    ):
        with contextlib.suppress(urllib.error.HTTPError):
            text = urllib.request.urlopen(f"{address}/{path}", timeout=20).read()
            assert not re.search(rb"MappingKernelManager|from koala_utils|execution_state", text), (
                path
            )


def test_phone_shows_all_of_it_and_another_person_s_photographs_are_not_there(
    browser, address, shared
):
    give(shared, "private.jpg", encoded(make_noise(2, 60, 80)))
    picture(shared, "private.jpg")
    page = visit(browser, address, **PHONE)
    page.get_by_role("button", name="rocket").wait_for()
    keep(page, "phone-gallery")
    page.get_by_role("button", name="grace hopper").tap()
    keep(page, "phone-loading")
    picture(page, "grace hopper")
    keep(page, "phone-colored")
    assert "private.jpg" not in page.content()
    plain = picture(page, "grace hopper")
    with hinting(page, "grace hopper") as layer:
        for x, y in ((0.05, 0.1), (0.95, 0.6)):  # the panel stays on the screen
            point(layer, x, y, "tap")
            time.sleep(0.8)  # until it is scrolled to
            keep(page, f"phone-hint-{x}")
            box = page.get_by_role("dialog").bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= 390
            assert box["y"] >= 0 and box["y"] + box["height"] <= 844
            for control in page.locator(".koala-panel :is(button, label):visible").all():
                assert min(control.bounding_box()["height"], control.bounding_box()["width"]) >= 44
            hinted = redrawn(page, "grace hopper", page.locator(".koala-swatch").nth(2).tap)
        assert page.locator(".koala-dot").count() == 2
        assert changes(plain, hinted, (0.95, 0.6))[0] > 4
        keep(page, "phone-hint-dots")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        assert download(page)[1].size == (512, 600)
    for control in page.locator(".koala-demo :is(button, input, select):visible").all():
        box = control.bounding_box()
        assert box["height"] >= 24 and box["width"] >= 24, control
    page.close()


def test_page_that_is_left_takes_its_photographs_along(browser, address, folder):
    def ended():
        return (folder / "server.log").read_text().count("Kernel shutdown")

    before = ended()
    page = visit(browser, address, **DESKTOP)
    page.get_by_role("button", name="rocket").wait_for()
    page.goto("about:blank")
    for _ in range(100):
        if ended() > before:
            break
        time.sleep(0.2)
    assert ended() == before + 1
    page.close()


# ---------------------------------------------------------------- the study


def test_study_is_taken_to_its_end(browser, tmp_path):
    with served(tmp_path, "voila", "study.ipynb") as url:
        page = visit(browser, url, **PHONE)
        page.get_by_role("button", name="As long as I like").wait_for()
        keep(page, "study-start")
        page.get_by_role("button", name="Two seconds for each").click()
        for number in range(1, 9):
            page.get_by_role("status").filter(has_text=f"photograph {number} of 8").wait_for()
            page.locator(f".koala-seen img[data-shown='{number}']").wait_for(state="attached")
            if number == 1:
                assert page.locator(".koala-seen img").is_visible()
                keep(page, "study-photograph")
                page.get_by_text("What did you see?").wait_for()
                assert not page.locator(".koala-seen img").is_visible()
                keep(page, "study-hidden")
            page.get_by_role("button", name="Real colours" if number % 2 else "Recoloured").click()
        page.get_by_role("heading", name="You were right about").wait_for()
        keep(page, "study-end")
        kept = study.read_answers(tmp_path / "work" / "study.csv")
        assert [answer.taken_for_real for answer in kept] == [True, False] * 4
        assert sum(answer.recolored for answer in kept) == 4
        assert 2 < kept[0].seconds < 60 and max(answer.seconds for answer in kept[1:]) < 60
        assert all(line.strip() in page.locator("pre").inner_text() for line in study.report(kept))
        page.close()


# ---------------------------------------------------------------- the notebook


def test_widgets_of_the_notebook_show_in_jupyterlab(browser, tmp_path):
    path = Path(
        shutil.copy(ROOT / "notebooks" / "06_interactive_demo.ipynb", tmp_path / "notebook.ipynb")
    )
    notebook = json.loads(path.read_text(encoding="utf-8"))
    # nbval runs the whole notebook; what is looked at here are its three widgets.
    needed = re.compile(r"PHOTO = |^import|compare\(grey|= Demo\(\)|^Study\(\)", re.MULTILINE)
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and needed.search("".join(cell["source"]))
    ]
    for cell in notebook["cells"]:
        cell["outputs"], cell["execution_count"] = [], None
    path.write_text(json.dumps(notebook), encoding="utf-8")
    with served(
        tmp_path,
        "jupyterlab",
        f"--ServerApp.root_dir={tmp_path}",
        "--IdentityProvider.token=",
        "--allow-root",
    ) as url:
        page = visit(browser, f"{url}/lab/tree/notebook.ipynb", **DESKTOP)
        page.set_default_timeout(300_000)  # the kernel has to import TensorFlow first
        for _ in range(600):  # a kernel that is still starting forgets what it was asked
            with urllib.request.urlopen(f"{url}/api/sessions") as answer:
                kernels = [session["kernel"] for session in json.load(answer)]
            if [(k["execution_state"], k["connections"]) for k in kernels] == [("idle", 1)]:
                break
            time.sleep(0.5)
        page.keyboard.press("Escape")  # JupyterLab may ask something when it is slow
        page.get_by_role("menuitem", name="Run", exact=True).click()
        page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        shown = page.locator(".koala-wipe .koala-after[data-shown]").first
        shown.wait_for()
        keep(page, "lab-running")
        assert shown.is_visible()
        for _ in range(120):
            page.keyboard.press("Control+s")
            time.sleep(1)
            try:
                saved = json.loads(path.read_text(encoding="utf-8"))
            except json.JSONDecodeError:  # it is just being saved
                continue
            code = [cell for cell in saved["cells"] if cell["cell_type"] == "code"]
            if all(cell["execution_count"] for cell in code):
                break
        keep(page, "lab")
        assert all(cell["execution_count"] for cell in code)
        outputs = [output for cell in code for output in cell["outputs"]]
        assert [output for output in outputs if output["output_type"] == "error"] == []
        assert (
            sum(
                "application/vnd.jupyter.widget-view+json" in output.get("data", {})
                for output in outputs
            )
            == 3
        )
        page.close()


# ---------------------------------------------------------------- the sliders of the lessons


def test_slider_of_a_lesson_needs_no_kernel(browser, monkeypatch):
    shown = []
    monkeypatch.setattr(notebook, "display", lambda data, **_: shown.append(data["text/html"]))
    photos = [np.full((40, 60, 3), grey, np.uint8) for grey in (0, 128, 255)]
    texts = ["vividness 0", "vividness 0.5", "vividness 1"]
    notebook.slider(photos, "a square", texts, start=1)
    page = browser.new_page(**PHONE)
    page.set_content(shown[0])
    visible = lambda: [  # noqa: E731
        image.get_attribute("alt") for image in page.get_by_role("img").all() if image.is_visible()
    ]
    assert visible() == ["a square: vividness 0.5"]
    knob = page.get_by_role("slider")
    for key, text in (("ArrowRight", "vividness 1"), ("Home", "vividness 0")):
        knob.press(key)
        assert visible() == [f"a square: {text}"]
        assert page.locator("span").inner_text() == text
    page.close()
