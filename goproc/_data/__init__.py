"""The layer for data processing: pmap and its kin, flow, and what they share. It stands on goroutines and channels."""
