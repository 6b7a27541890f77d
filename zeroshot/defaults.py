"""What is used where nothing is named; chosen by measurement (docs/defaults.md)."""

__all__ = ["BACKBONE", "EMBEDDINGS"]

BACKBONE = "mobilenet-v2"
EMBEDDINGS = "numberbatch"
