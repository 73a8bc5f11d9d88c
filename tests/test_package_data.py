"""An installed package brings the data files that its modules read."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("package", ["golden", "rtl", "sim", "perf_model"])
def test_every_data_file_is_packaged(package: str):
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = setuptools["package-data"]["*"]
    data = [
        path.relative_to(ROOT / package).as_posix()
        for path in sorted((ROOT / package).rglob("*"))
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    ]
    packaged = {
        path.relative_to(ROOT / package).as_posix() for pattern in patterns for path in (ROOT / package).glob(pattern)
    }
    left_out = [name for name in data if name not in packaged]
    assert not left_out, f"package-data in pyproject.toml matches none of {left_out}"
