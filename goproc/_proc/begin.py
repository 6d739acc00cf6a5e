"""The beginning of the runtime, at its first use: the zygote boots while this process imports the rest."""

from __future__ import annotations

import _thread

from goproc._isolation import isolated
from goproc._proc.sigint_early import held

# Threads that use goproc for the first time at once begin one runtime. Reentrant, since a finder of the program's, which
# is called for each import, may use goproc.
_lock = _thread.RLock()
_begun = False


def begin() -> None:
    """Start the zygote, and load what the runtime consists of. The core calls this."""
    global _begun
    with held(), _lock, isolated:
        if _begun:
            return
        from goproc._proc import early

        early.boot()
        from goproc import _wiring as _wiring

        _begun = True
