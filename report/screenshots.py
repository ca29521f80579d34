"""report/figures/demo_desktop.jpg and demo_phone.jpg: the demo in a browser, on a desktop and on a
telephone.

    .venv/bin/python report/screenshots.py

Needs Playwright, which the tests need as well, and Debian's chromium.
"""

import io
import os
import shutil
import subprocess
import sys
import urllib.request

from PIL import Image
from playwright.sync_api import sync_playwright

from koala_utils import ROOT

PORT = 8867
PAGES = ROOT / "notebooks" / "pages"
# name -> (photograph, coloring, what the browser is, width of the figure, how much of its height is
# kept)
SHOTS = {
    "demo_desktop": (
        "dust bowl home",
        "balanced",
        {"viewport": {"width": 1180, "height": 860}},
        1000,
        1,
    ),
    "demo_phone": (
        "china",
        "vivid",
        {
            "viewport": {"width": 390, "height": 844},
            "is_mobile": True,
            "has_touch": True,
            "device_scale_factor": 2,
        },
        500,
        0.435,
    ),
}


def shoot(browser, photo, look, options, width, share):
    """A picture of the whole page when that photograph is shown in that coloring."""
    page = browser.new_page(**options)
    page.goto(f"http://127.0.0.1:{PORT}/")
    page.get_by_role("button", name=photo, exact=True).click()
    page.locator(".koala-after[data-shown]").wait_for()
    page.get_by_role("button", name=look, exact=True).click()
    page.locator(".koala-progress progress").wait_for(state="hidden")
    page.wait_for_timeout(2000)  # the strip glides, and the last picture is decoded
    image = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    page.close()
    image = image.crop((0, 0, image.width, round(image.height * share)))
    return image.resize((width, round(image.height * width / image.width)), Image.LANCZOS)


def main():
    server = subprocess.Popen(
        [sys.executable, "-m", "voila", "demo.ipynb", "--no-browser", f"--port={PORT}"],
        cwd=PAGES,
        env=os.environ | {"JUPYTER_PATH": str(PAGES)},
        stderr=subprocess.DEVNULL,
    )
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            while server.poll() is None:
                try:
                    urllib.request.urlopen(
                        f"http://127.0.0.1:{PORT}/voila/static/main.js", timeout=1
                    )
                except urllib.error.HTTPError:
                    break  # it answers
                except OSError:
                    continue
                break
            for name, shot in SHOTS.items():
                path = ROOT / "report" / "figures" / f"{name}.jpg"
                shoot(browser, *shot).save(path, quality=82, optimize=True)
                print(path)
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
