"""`koala check`: what it finds, and what it finds missing."""

import importlib.metadata
import platform
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from koala_utils import downloads, weights
from koala_utils.app import check

ROOT = Path(__file__).parents[1]


def test_versions_hardware_and_folders_are_named(empty_cache):
    lines, problems = check.check()
    text = "\n".join(lines)
    assert problems == []
    assert platform.python_version() in text
    for name in ("tensorflow", "keras", "numpy", "pillow"):
        assert any(name in line and importlib.metadata.version(name) in line for line in lines)
    assert str(empty_cache) in text and "exists" in text
    assert "GPUs" in text and "trains in" in text


def test_requirements_are_those_of_the_project():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {str(each) for each in check.requirements()} == {str(Requirement(x)) for x in listed}


@pytest.mark.parametrize(
    "wanted, part",
    [
        ("no-such-package>=1.0", "no-such-package is missing"),
        ("numpy>=99.0", "does not fit >=99.0"),
        ("numpy<1.0", "does not fit <1.0"),
    ],
)
def test_missing_and_old_packages_are_problems(monkeypatch, wanted, part):
    monkeypatch.setattr(check, "requirements", lambda: [Requirement(wanted)])
    problems = check.check()[1]
    assert len(problems) == 1 and part in problems[0] and "make setup" in problems[0]


def test_later_versions_are_newer_by_number_and_not_by_letter(monkeypatch):
    monkeypatch.setattr(check, "requirements", lambda: [Requirement("numpy>=2.0")])
    for version in ("2.10.1", "2.10.0rc1"):
        monkeypatch.setattr(importlib.metadata, "version", lambda name, found=version: found)
        assert check.check()[1] == []


def test_damaged_and_missing_weights_are_problems(monkeypatch, tmp_path):
    (tmp_path / "SHA256SUMS").write_text(
        f"{'0' * 64}  damaged.safetensors\n{'0' * 64}  gone.safetensors\n"
    )
    (tmp_path / "damaged.safetensors").write_bytes(b"something else")
    monkeypatch.setattr(weights, "RELEASED", tmp_path)
    problems = check.check()[1]
    assert len(problems) == 2
    assert "damaged.safetensors" in problems[0] and "gone.safetensors" in problems[1]


def test_cache_folder_that_is_not_there_yet_is_no_problem(monkeypatch, tmp_path):
    monkeypatch.setenv("KOALA_DATA_DIR", str(tmp_path / "later"))
    assert downloads.data_dir() == tmp_path / "later"
    lines, problems = check.check()
    assert problems == [] and any("later (not there yet" in line for line in lines)
