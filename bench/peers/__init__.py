"""The work of each row, written once for each peer in that peer's own way."""
