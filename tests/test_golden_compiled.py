"""Compiled code that Numba keeps is that of the sources that are there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import golden
from golden.compiled import forget_stale_code

SOURCE = Path(golden.__file__).parent


def test_code_older_than_any_source_of_its_folder_or_of_golden_goes(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    newest = max(path.stat().st_mtime for path in SOURCE.glob("*.py"))
    old, new = cache / "rows.old.nbi", cache / "rows.new.nbi"
    for path, age in ((old, newest - 10), (new, newest + 10)):
        path.touch()
        os.utime(path, (age, age))
    forget_stale_code(tmp_path)
    assert not old.exists()
    assert new.exists()
    own = tmp_path / "own.py"
    own.touch()
    os.utime(own, (newest + 20, newest + 20))
    forget_stale_code(tmp_path)
    assert not new.exists()


def test_code_that_another_process_removed_first_does_no_harm(tmp_path):
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    (cache / "rows.gone.nbi").symlink_to(tmp_path / "gone")
    forget_stale_code(tmp_path)


def test_a_constant_changed_in_another_module_is_seen(tmp_path):
    """What Numba's own cache would miss: the caller's file stays as it is."""
    package = tmp_path / "golden"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "compiled.py").write_text((SOURCE / "compiled.py").read_text())
    (package / "caller.py").write_text(
        "from golden.compiled import compiled\nfrom golden.constant import NUMBER\n\n"
        "@compiled\ndef number():\n    return NUMBER\n\nprint(number())\n"
    )

    def run(number: int) -> str:
        (package / "constant.py").write_text(f"NUMBER = {number}\n")
        # A file system may tell times apart only by seconds, and Python bytecode by their whole number.
        os.utime(package / "constant.py", (2e9 + number, 2e9 + number))
        done = subprocess.run(
            [sys.executable, "-m", "golden.caller"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert run(1) == "1"
    assert run(2) == "2"
