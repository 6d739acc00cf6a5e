"""Benchmarks of goproc beside its peers: ``python -m bench`` (see `bench.__main__`)."""
