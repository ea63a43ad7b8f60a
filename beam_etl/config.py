"""EtlConfig: the only list of knobs. The command line's flags, the keys of job.yaml and their help come from it."""

from __future__ import annotations

from typing import Any, Literal

import pydantic

from beam_etl.model import OnRagged
from beam_etl.schema import ColumnType, OnConflict, parse_type
from beam_etl.secrets import holds_password
from beam_etl.sources.encoding import canonical_encoding

MAX_GZIP_LEVEL = 9

Mode = Literal["replace", "append", "fail_if_exists"]
OnNewColumn = Literal["add", "fail"]
Lineage = Literal["_file", "_byte_start", "_load_id"]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)


class DialectConfig(_Strict):
    """How files are written, where that is declared; what is not declared is detected for each file."""

    encoding: str | None = pydantic.Field(None, description="Codec of the files, for example utf-8 or iso-8859-1.")
    delimiter: str | None = pydantic.Field(
        None, description="What stands between fields: one character or several.", min_length=1, max_length=16
    )
    quote: str | None = pydantic.Field(None, description='One character around fields, or "" for none.', max_length=1)
    escape: Literal["doubled", "backslash", "none"] | None = pydantic.Field(
        None, description="How a quote stands inside a quoted field."
    )
    header: bool | None = pydantic.Field(None, description="Whether the first record names the columns.")
    line_end: Literal["lf", "cr", "any"] | None = pydantic.Field(
        None, description="lf (LF or CRLF), cr (CR alone) or any (LF, CRLF and CR)."
    )
    comment: str | None = pydantic.Field(
        None, description='One character that makes a line a comment, or "" for none.', max_length=1
    )
    skip_lines: int | None = pydantic.Field(None, description="Lines before the header.", ge=0)
    footer_lines: int | None = pydantic.Field(None, description="Lines behind the last record.", ge=0)

    @pydantic.field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        if value is not None:
            canonical_encoding(value)
        return value


class ColumnConfig(_Strict):
    """A declared column. Without a type it is inferred."""

    type: str | None = pydantic.Field(None, description="For example string, bigint, decimal(18,2), date(YYYYMMDD).")
    decimal_mark: Literal[".", ","] = pydantic.Field(".", description="Decimal mark of a decimal or double.")
    null_markers: tuple[str, ...] | None = pydantic.Field(
        None, description="Texts that mean NULL, besides the empty field."
    )

    @pydantic.model_validator(mode="after")
    def _type_is_known(self) -> ColumnConfig:
        self.column_type()
        return self

    def column_type(self) -> ColumnType | None:
        return None if self.type is None else parse_type(self.type, self.decimal_mark)


class TableConfig(_Strict):
    """What is declared of one table."""

    name: str = pydantic.Field(description="Name of the table in every sink.", min_length=1)
    files: tuple[str, ...] = pydantic.Field(
        (), description='Globs (or "re:<regex>") on file names, member names and URIs.'
    )
    dialect: DialectConfig = pydantic.Field(DialectConfig(), description="How the files of this table are written.")
    columns: dict[str, ColumnConfig] = pydantic.Field({}, description="Columns in order, with types where declared.")
    null_markers: tuple[str, ...] = pydantic.Field(
        (), description="Texts that mean NULL in every column of this table."
    )
    mode: Mode | None = pydantic.Field(None, description="As the setting of that name, for this table.")
    on_new_column: OnNewColumn | None = pydantic.Field(None, description="As the setting of that name, for this table.")
    on_ragged: OnRagged | None = pydantic.Field(None, description="As the setting of that name, for this table.")
    on_conflict: OnConflict | None = pydantic.Field(None, description="As the setting of that name, for this table.")
    lineage: tuple[Lineage, ...] | None = pydantic.Field(
        None, description="As the setting of that name, for this table."
    )

    @pydantic.field_validator("columns", mode="before")
    @classmethod
    def _short_forms(cls, value: Any) -> Any:
        """`name: bigint` stands for `name: {type: bigint}`, and a bare `name:` for an inferred column."""
        if not isinstance(value, dict):
            return value
        short = {name: {"type": c} if isinstance(c, str) else c for name, c in value.items()}
        return {name: {} if c is None else c for name, c in short.items()}


class EtlConfig(_Strict):
    """One load. Fields marked as flags are also the command line's flags."""

    runner: str = pydantic.Field(
        "DirectRunner",
        description="Where to run: DirectRunner, PrismRunner, FlinkRunner, DataflowRunner or any other Beam runner.",
    )
    input: tuple[str, ...] = pydantic.Field(
        description="Globs, directories or files, local or gs://; repeatable or comma-separated.", min_length=1
    )
    output: str = pydantic.Field(
        description="Directory or gs:// prefix for the Parquet datasets, rejects, manifests and reports.", min_length=1
    )
    postgres: str | None = pydantic.Field(
        None,
        description="PostgreSQL target: where its DSN is (env:NAME, file:PATH or a secret of Google Cloud), embedded:DIR, "
        "or a DSN without a password. Else only Parquet is written.",
    )
    postgres_schema: str = pydantic.Field(
        "public", description="Schema of the published PostgreSQL tables.", min_length=1
    )
    table: str | None = pydantic.Field(
        None, description="Table of every file that no rule of job.yaml names.", min_length=1
    )
    mode: Mode = pydantic.Field(
        "replace",
        description="What a load does to a table that is there: take its place, add the files that it does not hold "
        "yet, or refuse.",
    )
    on_new_column: OnNewColumn = pydantic.Field(
        "add", description="What a column that the table lacks does in append: it is added, or the table fails."
    )
    on_ragged: OnRagged = pydantic.Field(
        "reject",
        description="What becomes of a record with too few or too many fields: it is rejected, or padded: missing "
        "trailing fields are NULL, trailing ones too many are left out if they are empty.",
    )
    on_conflict: OnConflict = pydantic.Field(
        "widen",
        description="What a value that does not fit its column does: widen an inferred column (a declared one rejects the "
        "record), reject the record, rescue (NULL, its text in the column _rescued), or fail the table.",
    )
    lineage: tuple[Lineage, ...] = pydantic.Field(
        (), description="Columns that tell where each row came from, any of _file, _byte_start, _load_id."
    )
    report: str | None = pydantic.Field(None, description="Copy of report.json is written here.")
    on_bad_file: Literal["fail_table", "publish_without"] = pydantic.Field(
        "fail_table", description="What an unreadable file does to its table."
    )
    max_reject_ratio: float = pydantic.Field(
        0.01,
        description="Largest share of rejected records (0 to 1) with which a table is still published.",
        ge=0,
        le=1,
    )
    force: bool = pydantic.Field(False, description="Load again even if this very load is already the current one.")
    wait: bool = pydantic.Field(
        True, description="Follow the job to its end; --no-wait submits it to a remote runner and leaves."
    )
    progress: Literal["auto", "live", "plain", "none"] = pydantic.Field(
        "auto",
        description="How the command line shows how far a local load is: live draws a table on the terminal, plain writes "
        "a line every 10 seconds, auto is live on a terminal and plain elsewhere.",
    )
    log_format: Literal["text", "json"] = pydantic.Field(
        "text",
        description="How the command line writes what goes to standard error: for a person, or an object a line, with an "
        "entry for each committed chunk.",
    )
    keep_staging: bool = pydantic.Field(
        False, description="Leave what the load staged after it is published, for a look at it; gc takes it away."
    )
    chunk_mb: int | None = pydantic.Field(
        None, description="Size of a chunk in MiB (1 to 512); else planned from size and cores.", ge=1, le=512
    )
    max_record_bytes: int = pydantic.Field(
        16 << 20, description="Longest record in bytes; a longer one is rejected.", ge=1 << 10, le=256 << 20
    )
    memory_budget_mb: int | None = pydantic.Field(
        None,
        description="Memory in MiB that conversion may reserve in one worker process; else planned from the machine.",
        ge=64,
    )
    parquet_codec: Literal["zstd", "snappy", "gzip", "none"] = pydantic.Field(
        "zstd", description="Compression of the Parquet files."
    )
    parquet_codec_level: int = pydantic.Field(
        1, description="Level of the codec (zstd 1 to 22, gzip 1 to 9).", ge=1, le=22
    )
    dialect: DialectConfig = pydantic.Field(DialectConfig(), description="How files are written, for every table.")
    tables: tuple[TableConfig, ...] = pydantic.Field((), description="What is declared, by table.")

    @pydantic.field_validator("input", "lineage", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        items = [value] if isinstance(value, str) else value
        return [part for item in items for part in str(item).split(",") if part]

    @pydantic.field_validator("postgres")
    @classmethod
    def _no_open_password(cls, value: str | None) -> str | None:
        if value is not None and holds_password(value):
            raise ValueError(
                "holds a password in the open, which process lists, shell histories and the job's graph would show; put "
                "the whole DSN into an environment variable or a file, and give env:NAME or file:PATH instead"
            )
        return value

    @pydantic.model_validator(mode="after")
    def _combinations(self) -> EtlConfig:
        names = [table.name for table in self.tables]
        double = {name for name in names if names.count(name) > 1}
        if double:
            raise ValueError(f"tables: {sorted(double)[0]!r} is declared twice; join the two entries")
        if self.parquet_codec == "gzip" and self.parquet_codec_level > MAX_GZIP_LEVEL:
            raise ValueError(
                f"parquet_codec_level: gzip has levels 1 to {MAX_GZIP_LEVEL}; lower it, or take parquet_codec zstd"
            )
        if self.chunk_mb is not None and self.chunk_mb << 20 < self.max_record_bytes // 64:
            raise ValueError("chunk_mb is far below max_record_bytes; raise chunk_mb or lower max_record_bytes")
        return self

    def table_config(self, name: str) -> TableConfig:
        """What is declared of a table, every setting that it shares with others filled in."""
        table = next((table for table in self.tables if table.name == name), TableConfig(name=name))
        settled = {
            "mode": table.mode or self.mode,
            "on_new_column": table.on_new_column or self.on_new_column,
            "on_ragged": table.on_ragged or self.on_ragged,
            "on_conflict": table.on_conflict or self.on_conflict,
            "lineage": self.lineage if table.lineage is None else table.lineage,
        }
        return table.model_copy(update=settled)


# Knobs that only job.yaml can hold, because a flag could not carry their structure.
YAML_ONLY = ("dialect", "tables")
