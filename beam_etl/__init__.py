"""beam_etl: lands piles of delimited text as typed Parquet and PostgreSQL, every record exactly once."""

from beam_etl.api import ConversionResult, EtlConfig, convert_csvs_to_parquet, load, load_multiple_tables, load_table

__all__ = [
    "ConversionResult",
    "EtlConfig",
    "convert_csvs_to_parquet",
    "load",
    "load_multiple_tables",
    "load_table",
]
