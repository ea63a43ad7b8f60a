"""The type table, and evidence about columns: how types are recognised, merged and widened.

A column's evidence is the set of candidate types that every value seen so far satisfies, plus bounds. Merging intersects
the sets and widens the bounds, so it is associative, commutative and idempotent: the order of files, chunks and bundles
never changes a schema. What a type accepts is defined once, by its kernel in fields.py; evidence is gathered by the very
same kernels, so recognition and conversion cannot disagree.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    import pyarrow as pa

# What becomes of a value that does not fit its column; see ColumnSchema.on_conflict.
OnConflict = Literal["widen", "reject", "rescue", "fail"]

KINDS = ("boolean", "bigint", "decimal", "double", "date", "timestamp", "string")

# Precision is inferred in two steps only, so that a later, longer number rarely changes the schema:
# 18 digits fit the fast 64-bit kernel, 38 are all that Arrow's decimal128 holds.
SHORT_DECIMAL_DIGITS = 18
LONG_DECIMAL_DIGITS = 38


@dataclasses.dataclass(frozen=True)
class ColumnType:
    """One row of the type table, with its parameters.

    Attributes:
      kind: one of KINDS.
      precision, scale: of a decimal.
      format: of a date: "YYYY-MM-DD", "YYYYMMDD", "DD/MM/YYYY", "MM/DD/YYYY" or "DD.MM.YYYY"; of a timestamp:
        "T" or " " (what separates date and time); of a decimal or double: "." or "," (the decimal mark).
      zone: of a timestamp: "" without zone, "Z" (a literal Z), or a constant offset such as "+02:00". A timestamp with
        a zone is stored in UTC; the written offset is kept in the column's metadata.
    """

    kind: str
    precision: int = 0
    scale: int = 0
    format: str = ""
    zone: str = ""

    def __str__(self) -> str:
        if self.kind == "decimal":
            return f"decimal({self.precision},{self.scale})"
        if self.kind == "timestamp":
            return "timestamptz" if self.zone else "timestamp"
        return self.kind

    @property
    def arrow(self) -> pa.DataType:
        import pyarrow as pa  # here, so that the configuration, and with it --help, need not load Arrow

        return {
            "boolean": pa.bool_(),
            "bigint": pa.int64(),
            "decimal": pa.decimal128(self.precision or 1, self.scale),
            "double": pa.float64(),
            "date": pa.date32(),
            "timestamp": pa.timestamp("us", tz="UTC" if self.zone else None),
            "string": pa.string(),
        }[self.kind]

    @property
    def postgres(self) -> str:
        return {
            "boolean": "boolean",
            "bigint": "bigint",
            "decimal": f"numeric({self.precision},{self.scale})",
            "double": "double precision",
            "date": "date",
            "timestamp": "timestamp with time zone" if self.zone else "timestamp without time zone",
            "string": "text",
        }[self.kind]


STRING = ColumnType("string")

# What can be recognised, most specific first: the first candidate that every value satisfies is the column's type.
# A candidate's bit in ColumnEvidence.candidates is its position here. Decimals stand for any precision and scale, a
# timestamp's zone "+" for any constant offset; the evidence's bounds fill them in.
CANDIDATES: tuple[ColumnType, ...] = (
    ColumnType("boolean"),
    ColumnType("date", format="YYYY-MM-DD"),
    ColumnType("date", format="YYYYMMDD"),
    ColumnType("date", format="DD/MM/YYYY"),
    ColumnType("date", format="MM/DD/YYYY"),
    ColumnType("date", format="DD.MM.YYYY"),
    ColumnType("timestamp", format="T"),
    ColumnType("timestamp", format=" "),
    ColumnType("timestamp", format="T", zone="Z"),
    ColumnType("timestamp", format=" ", zone="Z"),
    ColumnType("timestamp", format="T", zone="+"),
    ColumnType("timestamp", format=" ", zone="+"),
    ColumnType("bigint"),
    ColumnType("decimal", format="."),
    ColumnType("decimal", format=","),
    ColumnType("double", format="."),
    ColumnType("double", format=","),
)
ALL_CANDIDATES = (1 << len(CANDIDATES)) - 1


@dataclasses.dataclass(frozen=True)
class ColumnEvidence:
    """What is known of a column after some of its values.

    Attributes:
      candidates: bit i set: every value seen satisfies CANDIDATES[i].
      seen: a value that is neither NULL nor empty was seen.
      integer_digits, fraction_digits: the most digits before and after the decimal mark of any number seen.
      offset_minutes: smallest and largest zone offset seen, in minutes; (0, 0) before any.
    """

    candidates: int = ALL_CANDIDATES
    seen: bool = False
    integer_digits: int = 0
    fraction_digits: int = 0
    offset_minutes: tuple[int, int] | None = None

    def merge(self, other: ColumnEvidence) -> ColumnEvidence:
        offsets = [o for o in (self.offset_minutes, other.offset_minutes) if o is not None]
        return ColumnEvidence(
            candidates=self.candidates & other.candidates,
            seen=self.seen or other.seen,
            integer_digits=max(self.integer_digits, other.integer_digits),
            fraction_digits=max(self.fraction_digits, other.fraction_digits),
            offset_minutes=(min(o[0] for o in offsets), max(o[1] for o in offsets)) if offsets else None,
        )

    def best_type(self) -> ColumnType:
        """The most specific type that loses nothing. A column in which no value was seen is text."""
        if not self.seen:
            return STRING
        for bit, candidate in enumerate(CANDIDATES):
            if self.candidates >> bit & 1:
                concrete = self._concrete(candidate)
                if concrete is not None:
                    return concrete
        return STRING

    def _concrete(self, candidate: ColumnType) -> ColumnType | None:
        if candidate.kind == "decimal":
            digits = self.integer_digits + self.fraction_digits
            if digits > LONG_DECIMAL_DIGITS:
                return None
            precision = SHORT_DECIMAL_DIGITS if digits <= SHORT_DECIMAL_DIGITS else LONG_DECIMAL_DIGITS
            return dataclasses.replace(candidate, precision=precision, scale=self.fraction_digits)
        if candidate.zone == "+":
            if self.offset_minutes is None or self.offset_minutes[0] != self.offset_minutes[1]:
                return None
            minutes = self.offset_minutes[0]
            sign = "-" if minutes < 0 else "+"
            return dataclasses.replace(candidate, zone=f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}")
        return candidate


@dataclasses.dataclass(frozen=True)
class ColumnSchema:
    """A column of a table.

    Attributes:
      name: as in the header, the configuration, or generated.
      type: what its values are stored as.
      declared: the type was given, so a value that does not fit rejects its record; else it widens the column.
      unseen: no value was seen when the type was chosen: any value then means that the type must be looked for again.
      null_markers: texts that mean NULL in this column, besides the empty field.
      on_conflict: what becomes of a value that does not fit: its column is widened if its type was inferred, else the
        record rejected (widen); the record is rejected (reject, and fail, which refuses the table then); or the value is
        NULL, and its text is kept in the column "_rescued" (rescue).
      source: what the column is filled with: "" the field of its name, or one of COMPUTED.
      key_place: its place in the table's key, from 1; 0 where it is no part of one. Never NULL then.
      delete_values: values of this column that make a record delete the row of its key.
    """

    name: str
    type: ColumnType
    declared: bool = False
    unseen: bool = False
    null_markers: tuple[str, ...] = ()
    key_place: int = 0
    delete_values: tuple[str, ...] = ()
    on_conflict: OnConflict = "widen"
    source: str = ""

    @property
    def widens(self) -> bool:
        """Whether a value that does not fit makes the column wider."""
        return not self.declared and self.on_conflict == "widen"


# Columns that no file has. Of lineage: "_file" (uri, and !member of an archive), "_byte_start" (offset of the record in the
# plain bytes of the file), "_load_id", "_record" (number of the record in its file, from 1). "_rescued": JSON object
# {column: text} of the values that did not fit, NULL where all did.
LINEAGE = ("_file", "_byte_start", "_load_id", "_record")
RESCUED = "_rescued"
_COMPUTED_TYPES = {"_byte_start": ColumnType("bigint"), "_record": ColumnType("bigint")}


def computed_column(name: str) -> ColumnSchema:
    return ColumnSchema(name, _COMPUTED_TYPES.get(name, STRING), declared=True, source=name)


@dataclasses.dataclass(frozen=True)
class TableSchema:
    """The columns of a table, in order; the hash keys staging tables, files and commit records."""

    columns: tuple[ColumnSchema, ...]

    @property
    def hash(self) -> str:
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)

    @property
    def key(self) -> tuple[str, ...]:
        """The columns that name a row, in the key's order; () where rows have no key."""
        return tuple(c.name for c in sorted(self.columns, key=lambda c: c.key_place) if c.key_place)

    @property
    def arrow(self) -> pa.Schema:
        import pyarrow as pa

        fields = []
        for column in self.columns:
            metadata = {}
            if column.type.format:
                metadata["beam_etl.format"] = column.type.format
            if column.type.zone:
                metadata["beam_etl.zone"] = column.type.zone
            if column.key_place:
                metadata["beam_etl.key"] = str(column.key_place)
            if column.delete_values:
                metadata["beam_etl.delete_when"] = json.dumps(column.delete_values)
            fields.append(pa.field(column.name, column.type.arrow, metadata=metadata or None))
        return pa.schema(fields)

    def to_json(self) -> list[dict[str, object]]:
        return [dataclasses.asdict(column) for column in self.columns]

    @classmethod
    def from_json(cls, columns: Iterable[Mapping[str, object]]) -> TableSchema:
        return cls(
            tuple(
                ColumnSchema(
                    name=str(c["name"]),
                    type=ColumnType(**c["type"]),  # type: ignore[arg-type]
                    declared=bool(c["declared"]),
                    unseen=bool(c["unseen"]),
                    null_markers=tuple(c["null_markers"]),  # type: ignore[arg-type]
                    key_place=int(c.get("key_place", 0)),  # type: ignore[call-overload]
                    delete_values=tuple(c.get("delete_values", ())),  # type: ignore[arg-type]
                    on_conflict=cast(OnConflict, c.get("on_conflict", "widen")),
                    source=str(c.get("source", "")),
                )
                for c in columns
            )
        )


_TYPE_TEXT = re.compile(r"^\s*([a-z0-9 ]+?)\s*(?:\(\s*([^)]*?)\s*\))?\s*$")
_KIND_SYNONYMS = {
    "bool": "boolean",
    "int": "bigint",
    "integer": "bigint",
    "int64": "bigint",
    "numeric": "decimal",
    "float": "double",
    "float64": "double",
    "double precision": "double",
    "text": "string",
    "varchar": "string",
    "timestamptz": "timestamp",
}
_DATE_FORMATS = tuple(c.format for c in CANDIDATES if c.kind == "date")


def parse_type(text: str, decimal_mark: str = ".") -> ColumnType:
    """The ColumnType that a configuration writes as "bigint", "decimal(18,2)", "date(YYYYMMDD)", "timestamptz", ...

    Raises:
      ValueError: naming the text, what is allowed and an example.
    """
    match = _TYPE_TEXT.match(text.lower())
    word = match.group(1) if match else ""
    kind = _KIND_SYNONYMS.get(word, word)
    if match is None or kind not in KINDS:
        raise ValueError(
            f"unknown type {text!r}; use one of {', '.join(KINDS)}, for example decimal(18,2) or date(YYYYMMDD)"
        )
    argument = (match.group(2) or "").upper()
    if kind == "decimal":
        return _parse_decimal(text, argument, decimal_mark)
    if kind == "date":
        if argument and argument not in _DATE_FORMATS:
            raise ValueError(f"unknown date format in {text!r}; use one of {', '.join(_DATE_FORMATS)}")
        return ColumnType("date", format=argument or "YYYY-MM-DD")
    if argument:
        raise ValueError(f"type {text!r} takes no argument; write {kind}")
    if kind == "double":
        return ColumnType("double", format=decimal_mark)
    if kind == "timestamp":
        return ColumnType("timestamp", format=" ", zone="Z" if word == "timestamptz" else "")
    return ColumnType(kind)


def _parse_decimal(text: str, argument: str, decimal_mark: str) -> ColumnType:
    parts = [part.strip() for part in argument.split(",")] if argument else ["38", "0"]
    if len(parts) == 1:
        parts.append("0")
    if len(parts) != 2 or not all(part.isdigit() for part in parts):
        raise ValueError(f"cannot read {text!r}; write decimal(precision,scale), for example decimal(18,2)")
    precision, scale = int(parts[0]), int(parts[1])
    if not 1 <= precision <= LONG_DECIMAL_DIGITS or scale > precision:
        raise ValueError(
            f"{text!r} is out of range; precision is 1 to {LONG_DECIMAL_DIGITS} digits, scale at most precision"
        )
    return ColumnType("decimal", precision=precision, scale=scale, format=decimal_mark)
