"""Settings that every test shares, and the figures that tests print."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import settings

# No deadline: the first example of a property compiles the golden model. The blob makes a failure found on another
# machine reproducible. What Hypothesis itself sets when CI is in the environment stays.
settings.register_profile("lean-attention", parent=settings(), deadline=None, print_blob=True)
settings.load_profile("lean-attention")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make sweep-resume` says otherwise."""
    parser.addoption("--sweep-points", type=int, default=960, help="of the sweeps that are killed or shared out")


@pytest.fixture
def figure(record_property) -> Callable[[str], None]:
    """Give a function that has a line printed after the tests, whichever process runs this one."""
    return lambda line: record_property("figure", line)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the lines that `figure` was given."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    lines = [line for report in reports for name, line in report.user_properties if name == "figure"]
    if lines:
        terminalreporter.section("figures")
        terminalreporter.write_line("\n".join(lines))
