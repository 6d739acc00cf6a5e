"""The beginning of the runtime, at its first use: the zygote boots while this process imports the rest."""

from __future__ import annotations

from goproc._isolation import isolated
from goproc._proc.sigint_early import held


def begin() -> None:
    """Start the zygote, and load what the runtime consists of. The core calls this."""
    with held(), isolated:
        from goproc._proc import early

        early.boot()
        from goproc import _wiring as _wiring
