"""The Parquet sink: one file a chunk, staged, committed by a record, published by a manifest."""
