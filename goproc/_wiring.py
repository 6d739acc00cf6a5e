"""The module whose import connects the C core with everything above it. The core itself imports this one, and no other."""

from __future__ import annotations

from goproc._proc import host as host
