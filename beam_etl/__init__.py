"""beam_etl: lands piles of delimited text as typed Parquet and PostgreSQL, every record exactly once."""
