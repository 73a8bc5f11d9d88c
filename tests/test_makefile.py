"""The Makefile: its help, its complaints about a bare machine, and what it makes anew when."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ["awk", "cat", "echo", "find", "g++", "grep", "ls", "make", "mkdir", "perl", "rm", "sed", "sh", "touch"]

STUB = f"""#!{sys.executable} -IS
# Stands in for Python: logs the module it is asked to run, and makes the files that this module would make.
import os, pathlib, shutil, sys

arguments = sys.argv[1:]
if arguments[0] == "-c":
    sys.exit(any(word in arguments[1] for word in os.environ.get("STUB_LACKS", "").split()))
if arguments[:3] == ["-m", "pip", "install"]:
    arguments = [*arguments[:3], *arguments[-2:]]
with open("log", "a") as log:
    print(*arguments[1:], file=log)
output = pathlib.Path(arguments[-1])
if arguments[1] == "venv":
    shutil.rmtree(output, ignore_errors=True)
    (output / "bin").mkdir(parents=True)
    shutil.copy(__file__, output / "bin" / "python")
elif arguments[1:3] == ["sim", "sweep"]:
    output.with_suffix(".json").touch()
    output.with_suffix(".md").write_text("the table")
elif arguments[1:3] == ["perf_model", "plot"]:
    output.mkdir(exist_ok=True)
    (output / "throughput.png").touch()
elif "-o" in arguments or "--json" in arguments:
    output.parent.mkdir(parents=True, exist_ok=True)
    output.touch()
"""


class Checkout:
    """A folder with the project's Makefile, an empty package for each of its own, and a stub of Python.

    Parameters
    ----------
    root : pathlib.Path
        The folder, empty.
    """

    def __init__(self, root: Path):
        self.root = root
        self.path = root / "bin"
        self.path.mkdir()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found, f"{tool} is not on the PATH"
            (self.path / tool).symlink_to(found)
        for folder in ("golden", "rtl", "sim", "perf_model", "tests"):
            (root / folder).mkdir()
            (root / folder / "__init__.py").touch()
        (root / "golden" / "data").mkdir()
        for name in ("minilm_l3_128", "byte_lm_512"):
            (root / "golden" / "data" / f"{name}.npz").touch()
        shutil.copy(ROOT / "Makefile", root)
        shutil.copy(ROOT / "pyproject.toml", root)
        (root / "python").write_text(STUB)
        (root / "python").chmod(0o755)

    def make(self, *arguments: str, python: str = "./python", lacks: str = "") -> subprocess.CompletedProcess[str]:
        """Run make with only the chosen tools on the PATH and a Python that `lacks` modules."""
        environment = {"PATH": str(self.path), "STUB_LACKS": lacks}
        command = [str(shutil.which("make")), f"PYTHON={python}", *arguments]
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    def modules_run(self) -> list[str]:
        """Return the module command lines run since the last call."""
        log = self.root / "log"
        lines = log.read_text().splitlines() if log.exists() else []
        log.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


BASE = ["venv --clear .venv", "pip install --editable ."]
VERILOG = "rtl --preset default -o build/lean_attention.v"
RUN = "sim run --input golden/data/minilm_l3_128.npz --json build/minilm.json"
SWEEP = (
    "sim sweep --input golden/data/minilm_l3_128.npz --decode golden/data/byte_lm_512.npz "
    "--tau 4 5 6 7 8 9 10 11 12 -o build/summary"
)
PYTEST = "pytest --numprocesses auto --dist loadfile"
PLOT = "perf_model plot --measured build/summary.json -o build/plots"


def test_help_lists_every_target(checkout: Checkout):
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    result = checkout.make("help")
    assert result.returncode == 0, result.stderr
    described = re.findall(r"^  ([a-z-]+) +\w.*$", result.stdout, re.MULTILINE)
    assert sorted(described) == sorted(phony.group(1).split())
    assert checkout.modules_run() == []


@pytest.mark.parametrize("tool", ["g++", "make", "perl"])
def test_missing_tool_is_named(checkout: Checkout, tool: str):
    (checkout.path / tool).unlink()
    result = checkout.make()
    assert result.returncode != 0
    (message,) = (line for line in result.stderr.splitlines() if line.startswith("missing: "))
    assert message.startswith(f"missing: {tool}, ")
    assert message.endswith(f"apt-get install {tool}")
    assert checkout.modules_run() == []


@pytest.mark.parametrize(
    ("lacks", "package"),
    [("version_info", "python3 python3-venv"), ("ensurepip", "python3-venv"), ("CDLL", "libpython3-dev")],
)
def test_missing_part_of_python_is_named(checkout: Checkout, lacks: str, package: str):
    result = checkout.make(lacks=lacks)
    assert result.returncode != 0
    (message,) = (line for line in result.stderr.splitlines() if line.startswith("missing: "))
    assert f"apt-get install {package}" in message
    assert checkout.modules_run() == []


def test_python_version_is_that_of_the_package():
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    major, minor = required.removeprefix(">=").split(".")
    assert f"sys.version_info < ({major}, {minor})" in (ROOT / "Makefile").read_text()


def test_no_python_at_all_is_named(checkout: Checkout):
    result = checkout.make(python="python3")
    assert result.returncode != 0
    assert "missing: Python 3.11 or later as python3" in result.stderr


def test_all_that_is_missing_is_named_at_once(checkout: Checkout):
    (checkout.path / "g++").unlink()
    (checkout.path / "perl").unlink()
    assert checkout.make(lacks="ensurepip").stderr.count("missing: ") == 3


def test_prerequisites_of_these_tests_are_met(checkout: Checkout):
    result = checkout.make("prerequisites", python=sys.executable)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_main_job_runs_in_order_and_prints_its_results(checkout: Checkout):
    result = checkout.make()
    assert result.returncode == 0, result.stderr
    assert checkout.modules_run() == [*BASE, VERILOG, RUN, SWEEP, PLOT]
    for text in ("the table", "build/summary.md", "build/plots/throughput.png"):
        assert text in result.stdout


def test_second_make_runs_nothing(checkout: Checkout):
    checkout.make()
    checkout.modules_run()
    result = checkout.make()
    assert result.returncode == 0
    assert checkout.modules_run() == []
    assert "the table" in result.stdout


@pytest.mark.parametrize(
    ("changed", "rerun"),
    [
        ("pyproject.toml", [BASE[1], VERILOG, RUN, SWEEP, PLOT]),
        ("golden/__init__.py", [VERILOG, RUN, SWEEP, PLOT]),
        ("rtl/__init__.py", [VERILOG, RUN, SWEEP, PLOT]),
        ("sim/__init__.py", [RUN, SWEEP, PLOT]),
        ("golden/data/minilm_l3_128.npz", [RUN, SWEEP, PLOT]),
        ("perf_model/__init__.py", [PLOT]),
    ],
)
def test_change_makes_anew_what_depends_on_it(checkout: Checkout, changed: str, rerun: list[str]):
    checkout.make()
    checkout.modules_run()
    (checkout.root / changed).touch()
    assert checkout.make().returncode == 0
    assert checkout.modules_run() == rerun


def test_extras_are_installed_once_and_after_the_base(checkout: Checkout):
    install, run = "pip install --editable .[test]", PYTEST
    assert checkout.make("test").returncode == 0
    assert checkout.modules_run() == [*BASE, install, run]
    assert checkout.make("test", "ARGS=-k merge").returncode == 0
    assert checkout.modules_run() == [f"{PYTEST} -k merge"]


def test_models_are_installed_once_and_only_when_asked_for(checkout: Checkout):
    install = "pip install --editable .[models]"
    assert checkout.make("models").returncode == 0
    assert checkout.modules_run() == [*BASE, install]
    assert checkout.make("models", "test").returncode == 0
    assert checkout.modules_run() == ["pip install --editable .[test]", PYTEST]
    assert checkout.make("bench-golden").returncode == 0
    assert checkout.modules_run() == ["golden bench"]
    (checkout.root / "pyproject.toml").touch()
    assert checkout.make("test").returncode == 0
    assert install not in checkout.modules_run()


def test_parallel_make_installs_one_at_a_time(checkout: Checkout):
    assert checkout.make("-j8", "soak", "synth", "N=5", "SEED=7").returncode == 0
    assert checkout.modules_run() == [
        *BASE,
        "pip install --editable .[test]",
        "sim soak --runs 5 --seed 7",
        "pip install --editable .[synth]",
        "rtl synth --preset small",
    ]


def test_long_sweeps_are_tests_with_more_points(checkout: Checkout):
    assert checkout.make("sweep-resume").returncode == 0
    run = "pytest tests/test_perf_sweep.py -k killed_halfway or dask_cluster --sweep-points 10000"
    assert checkout.modules_run() == [*BASE, "pip install --editable .[test]", run]


def test_tools_have_an_environment_of_their_own(checkout: Checkout):
    requirements = checkout.root / "perf_model" / "data" / "tools" / "requirements.txt"
    requirements.parent.mkdir(parents=True)
    requirements.touch()
    rerun = "perf_model tools --rerun .venv/tools/bin/python"
    assert checkout.make("tools").returncode == 0
    install = f"pip install --requirement {requirements.relative_to(checkout.root)}"
    assert checkout.modules_run() == [*BASE, "venv --clear .venv/tools", install, rerun]
    assert checkout.make("tools").returncode == 0
    assert checkout.modules_run() == [rerun]


def test_broken_environment_is_made_anew(checkout: Checkout):
    checkout.make("venv")
    checkout.modules_run()
    (checkout.root / ".venv" / ".base").unlink()
    (checkout.root / ".venv" / "bin" / "python").unlink()
    assert checkout.make("venv").returncode == 0
    assert checkout.modules_run() == BASE


def test_experiments_train_every_model_once_and_measure_each(checkout: Checkout):
    """What `experiments-quick` asks for, as `experiments` does with other sizes."""
    (checkout.root / "golden" / "data" / "byte_lm.npz").touch()
    result = checkout.make("experiments-quick")
    assert result.returncode == 0, result.stderr
    lines = [line.removeprefix("golden.experiments ") for line in checkout.modules_run()]
    kinds = ["standard", "optimised", "efficient", "super"]
    trained = [f"lm-{name}" for name in ("more", "target", *kinds)] + [f"digits-{name}" for name in (*kinds, "target")]
    outputs = [Path(line.split()[-1]).stem for line in lines if line.startswith("train-")]
    assert sorted(outputs) == sorted(trained)
    evaluated = [line.split() for line in lines if line.startswith("evaluate")]
    assert {Path(words[words.index("--weights") + 1]).stem for words in evaluated} == set(trained)
    simulated = [line.split() for line in lines if line.startswith("sim run")]
    inputs = [Path(words[words.index("--input") + 1]).name for words in simulated]
    assert inputs == ["lm-target.layer.npz", "digits-target.layer.npz"]
    (target,) = (line for line in lines if line.startswith("train-byte-lm") and line.endswith("/lm-target.npz"))
    assert "--steps 10 " in target
    assert "--survive 0.16 0.09 --tau 1 2 --rows 16 2 " in target
    decode = [line for line in lines if line.startswith("evaluate-byte-lm") and "--rows 2 " in line]
    assert len(decode) == 2
    assert len([line for line in lines if line.startswith("perf_model recorded") and "--scratchpad-kib 0" in line]) == 2
    checkout.make("experiments-quick")
    assert checkout.modules_run() == []


def test_clean_keeps_the_environment_and_distclean_does_not(checkout: Checkout):
    checkout.make()
    assert checkout.make("clean").returncode == 0
    assert not (checkout.root / "build").exists()
    assert (checkout.root / ".venv").exists()
    assert checkout.make("distclean").returncode == 0
    assert not (checkout.root / ".venv").exists()


def test_failing_step_stops_make_and_leaves_no_result(checkout: Checkout):
    (checkout.root / "python").write_text(STUB.replace("output.touch()", "output.touch(); sys.exit(1)"))
    assert checkout.make().returncode != 0
    assert checkout.modules_run() == [*BASE, VERILOG]
    assert not (checkout.root / "build" / "lean_attention.v").exists()
