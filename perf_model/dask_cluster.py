"""Runs a function over many arguments on the workers of a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import CancelledError
from itertools import islice
from typing import Any, TypeVar

from golden.errors import InputError

Result = TypeVar("Result")

WORKER_SECONDS = 30
"""How long a scheduler may take to answer, and be without a worker."""

TASKS_A_THREAD = 4
"""Tasks that are out at a time for each thread of the cluster, so that none waits for its next."""


def on_cluster(
    function: Callable[..., Result], tasks: Sequence[Sequence[Any]], address: str
) -> Generator[Result, None, None]:
    """Yield what `function` makes of each task, in any order.

    Parameters
    ----------
    function : callable
        A function of a module that scheduler and workers can import as well.
    tasks : sequence of sequence
        Its arguments, task by task.
    address : str
        Of the scheduler.

    Raises
    ------
    InputError
        If Dask is not installed, no scheduler answers at `address`, or it has no workers that can do the work. What
        `function` raises is raised here too.
    """
    try:
        import distributed
    except ImportError as error:
        raise InputError("a Dask cluster needs Dask here as well: pip install 'lean-attention[dask]'") from error
    try:
        distributed.comm.get_address_host_port(address)
    except ValueError as error:
        raise InputError(f"a scheduler's address is like tcp://host:8786, not {address!r}: {error}") from error
    try:
        client = distributed.Client(address, timeout=WORKER_SECONDS)
    except OSError as error:
        raise InputError(f"no Dask scheduler answers at {address}") from error
    lost = f"the workers at {address} are gone; they and the scheduler need this version of lean-attention"
    with client:
        try:
            client.wait_for_workers(1, timeout=WORKER_SECONDS)
        except TimeoutError as error:
            raise InputError(f"the Dask scheduler at {address} has no workers") from error
        left = iter(tasks)
        running: set[Any] = set()
        try:
            while True:
                more = TASKS_A_THREAD * max(1, sum(client.nthreads().values())) - len(running)
                running |= {client.submit(function, *task, pure=False) for task in islice(left, max(0, more))}
                if not running:
                    return
                try:
                    done, running = distributed.wait(running, WORKER_SECONDS, return_when="FIRST_COMPLETED")
                except TimeoutError as error:
                    if not client.nthreads():
                        raise InputError(lost) from error
                    continue
                for future in done:
                    # A worker may leave before it has handed its result over.
                    yield future.result(WORKER_SECONDS)
        except (distributed.scheduler.KilledWorker, CancelledError, OSError, ImportError) as error:
            raise InputError(lost) from error
        except RuntimeError as error:
            # What a scheduler answers that can't import the function.
            if "deserialization" not in str(error):
                raise
            raise InputError(lost) from error
