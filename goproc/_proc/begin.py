"""The core imports this module at the first use of the runtime: the zygote boots while this process imports the rest."""

from __future__ import annotations

from goproc._isolation import isolated
from goproc._proc.sigint_early import held

with held(), isolated:
    from goproc._proc import early

    early.boot()
    from goproc import _wiring as _wiring
