"""The layer for data processing: pmap and its kin, flow, and their common parts, over goroutines and channels."""
