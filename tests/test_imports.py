"""The architecture: which package may import which, and what no file of the project may contain."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {
    "golden": set(),
    "rtl": {"golden"},
    "sim": {"golden", "rtl"},
    "perf_model": {"golden"},
}
OURS = {*ALLOWED, "tests"}

# A letter in brackets keeps a pattern from matching itself here.
FOREIGN = re.compile(
    rb"(?<![\w.~-])/([r]oot|[h]ome|[w]ork|[t]mp/dev)/"  # a path of the machine a file was written on
    rb"|[p]ypi\.org|[p]ythonhosted\.org|[i]ndex-url|[f]ind-links"  # where one machine gets its packages from
)


def imported_modules(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the name of every module that `source` imports by an absolute name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, str(node.module)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"__import__", "importlib.import_module"}:
            for argument in node.args[:1]:
                if isinstance(argument, ast.Constant):
                    yield node.lineno, str(argument.value)


def forbidden_imports(package: str, source: str) -> list[str]:
    """Return, as ``line: module``, the imports of `source` that a module of `package` may not have."""
    allowed = ALLOWED[package] | {package}
    return [
        f"{line}: {module}"
        for line, module in imported_modules(source)
        if module.partition(".")[0] in OURS and module.partition(".")[0] not in allowed
    ]


def project_files(root: Path) -> Iterator[Path]:
    """Yield the files under `root` that .gitignore doesn't name."""
    ignored = [".git"] + [line.rstrip("/") for line in (root / ".gitignore").read_text().splitlines() if line]
    for path in sorted(root.iterdir()):
        if any(fnmatch(path.name, pattern) for pattern in ignored):
            continue
        if path.is_dir():
            for inner in sorted(path.rglob("*")):
                parts = inner.relative_to(root).parts
                if inner.is_file() and not any(fnmatch(part, pattern) for part in parts for pattern in ignored):
                    yield inner
        elif path.is_file():
            yield path


def foreign_text(content: bytes) -> list[str]:
    """Return, as ``line: text``, what of `content` only makes sense on one machine."""
    return [
        f"{number}: {match.group().decode()}"
        for number, line in enumerate(content.splitlines(), 1)
        for match in FOREIGN.finditer(line)
    ]


@pytest.mark.parametrize("package", ALLOWED)
def test_package_imports_only_what_it_may(package: str):
    modules = sorted((ROOT / package).rglob("*.py"))
    assert modules, f"the package {package} has no modules"
    faults = [
        f"{module.relative_to(ROOT)}:{fault}"
        for module in modules
        for fault in forbidden_imports(package, module.read_text())
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("golden", "import rtl"),
        ("golden", "from perf_model.cycles import count"),
        ("rtl", "def f():\n    import sim.runner as runner"),
        ("sim", "from golden import config\nfrom perf_model import cycles"),
        ("perf_model", "import importlib\nimportlib.import_module('rtl.core')"),
        ("sim", "import tests.helpers"),
    ],
)
def test_forbidden_import_is_seen(package: str, source: str):
    assert len(forbidden_imports(package, source)) == 1


def test_permitted_imports_pass():
    source = "import golden.config\nfrom rtl import top\nfrom . import runner\nfrom .rtl import x\nimport simpy"
    assert forbidden_imports("sim", source) == []


def test_no_file_names_a_machine():
    faults = [
        f"{path.relative_to(ROOT)}:{fault}" for path in project_files(ROOT) for fault in foreign_text(path.read_bytes())
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "text", ["see /ro" + "ot/x", "'/ho" + "me/me/y'", "--index" + "-url=z", "(/tm" + "p/dev/venv)"]
)
def test_machine_name_is_seen(tmp_path: Path, text: str):
    (tmp_path / ".gitignore").write_text("build/\n*.egg-info/\n")
    for name in ("docs/page.md", "build/page.md", "x.egg-info/page.md"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(f"first line\n{text}\n")
    (page,) = (path for path in project_files(tmp_path) if path.suffix == ".md")
    assert page == tmp_path / "docs/page.md"
    (fault,) = foreign_text(page.read_bytes())
    assert fault.startswith("2: ")
