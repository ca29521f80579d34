"""Fixtures that several test modules share; what is slow to build is built once a session."""

import http.server
import os
import socket
import threading
from pathlib import Path

import hypothesis
import numpy as np
import pooch
import pytest
from helpers import TINY, make_photo

DATA = Path(os.environ.get("KOALA_DATA_DIR") or pooch.os_cache("koala")).resolve()

# Servers of the tests are on this machine, also where everything else is reached by a proxy.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = "127.0.0.1,localhost"

hypothesis.settings.register_profile(
    "koala", deadline=None, max_examples=25, derandomize=True, database=None
)
hypothesis.settings.load_profile("koala")


@pytest.fixture(autouse=True)
def empty_cache(tmp_path_factory, monkeypatch):
    """Every test begins with an empty cache folder of its own, and never touches the user's."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("KOALA_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def published(monkeypatch):
    """The folder of the published photographs; skips a test that needs them where they are not."""
    if not (DATA / "test" / "nips2017").is_dir() or not (DATA / "historical" / "fsa_owi").is_dir():
        pytest.skip(f"the published photographs are not in {DATA}, which KOALA_DATA_DIR names")
    monkeypatch.setenv("KOALA_DATA_DIR", str(DATA))
    return DATA


class Site:
    """A web site on this machine.

    `pages` maps each path to (status, body, declared length), or to a function that answers by the
    request's handler. `requests` lists the paths that were asked for.
    """

    def __init__(self):
        self.pages, self.requests = {}, []
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                site.requests.append(self.path)
                page = site.pages.get(self.path, (404, b"not found", None))
                if callable(page):
                    return page(self)
                status, body, length = page
                self.send_response(status)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def put(self, path, body, status=200, length=None):
        self.pages[path] = status, body, length
        return self.url + path


@pytest.fixture
def site():
    served = Site()
    yield served
    served.server.shutdown()
    served.server.server_close()


@pytest.fixture
def dead_url():
    """An address on this machine where nothing listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="session")
def network():
    """The network with random weights; its last layer is amplified to give vivid colours."""
    import keras

    from koala_utils import lab
    from koala_utils.network import build_network, predict_chroma

    keras.utils.set_random_seed(1)
    network = build_network()
    lightness = lab.lightness(make_photo(3, 32, 32)[..., :1] / np.float32(255)).numpy()[None]
    embedding = np.random.default_rng(1).normal(size=(1, 1000))
    spread = np.arctanh(predict_chroma(network, lightness, embedding)).std()
    last = network.get_layer("chroma_half")
    last.kernel.assign(last.kernel * (0.4 / spread))
    return network


@pytest.fixture(scope="session")
def model_file(network, tmp_path_factory):
    """Weights that colour vividly and at random, for what needs no released weights."""
    from koala_utils.weights import save_weights

    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_weights(network, path, {"extractor": "mobilenet_v2"})
    return path


@pytest.fixture(scope="session")
def bundled_records(tmp_path_factory):
    """Records of the eight bundled photographs: six for training and two for validation."""
    from koala_utils import records

    folder = tmp_path_factory.mktemp("records")
    report = records.prepare("bundled", folder, size=64, validation_share=0.52, progress=False)
    assert (report["train"], report["validation"]) == (6, 2)
    return folder


@pytest.fixture(scope="session")
def finished(bundled_records, tmp_path_factory):
    """A finished run of two tiny epochs: its folder, network and history."""
    from koala_utils.training import train

    run = tmp_path_factory.mktemp("run")
    return run, *train(bundled_records, run, epochs=2, **TINY)
