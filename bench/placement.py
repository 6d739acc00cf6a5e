"""The places of goroutines in a measurement that is given as a number of processes."""

from __future__ import annotations


def workers_for(processes: int) -> int:
    """Return the workers of a runtime in which goroutines use so many processes.

    With two, one side is in the host and the other in worker 1; a second worker sleeps, as it would in a program.
    """
    return 0 if processes == 1 else processes
