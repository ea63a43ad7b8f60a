"""One data-parallel verb a file: wiring only."""
