"""Valid RFC 4180 data means the same to beam_etl, to Python's csv module, to DuckDB in strict mode and to PostgreSQL."""

import csv
import io
import random

import duckdb
import numpy as np
import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_etl.model import Dialect, InspectedFile, SourceFile, Span
from beam_etl.reading.csv_arrow import convert_span
from beam_etl.schema import STRING, ColumnSchema, TableSchema

# Line ends inside cells, quotes, delimiters, blanks at the edges, accents, digits; no NUL, which PostgreSQL has no text for.
_CELL = st.text(alphabet="ab,;\"\n\r\t 0é漢\\.'", max_size=8)


def _tables(cells=_CELL, most_rows=12):
    return st.integers(2, 4).flatmap(
        lambda width: st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=most_rows)
    )


def _written(rows, delimiter, line_end, quoting=csv.QUOTE_ALL):
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=delimiter, lineterminator=line_end, quoting=quoting).writerows(rows)
    return stream.getvalue().encode()


def _read(data, delimiter, width, quote='"'):
    """The rows that beam_etl reads, every column as text."""
    names = tuple(f"c{number}" for number in range(width))
    source = SourceFile(0, "memory", "", "t", len(data), "1")
    dialect = Dialect(delimiter=delimiter, quote=quote)
    file = InspectedFile(source, "memory", len(data), "1", dialect, 0, names)
    schema = TableSchema(tuple(ColumnSchema(name, STRING, declared=True) for name in names))
    rejects = []
    span = Span(file, 0, len(data))
    found = convert_span(np.frombuffer(data, np.uint8), span, schema, 1 << 24, False, rejects.append)
    assert not rejects
    assert not found.conflicts
    assert found.counts[0].records == found.table.num_rows
    return [list(row.values()) for row in found.table.to_pylist()]


@settings(max_examples=1500, deadline=None)
@given(
    rows=_tables(),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    line_end=st.sampled_from(["\n", "\r\n"]),
    minimal=st.booleans(),
)
def test_the_csv_module(rows, delimiter, line_end, minimal):
    # With LF alone the module's writer leaves a CR without quotes, which RFC 4180 forbids.
    writing = ("\r\n", csv.QUOTE_MINIMAL) if minimal else (line_end, csv.QUOTE_ALL)
    data = _written(rows, delimiter, *writing)
    read = list(csv.reader(io.StringIO(data.decode(), newline=""), delimiter=delimiter))
    assert read == rows
    assert [[cell or "" for cell in row] for row in _read(data, delimiter, len(rows[0]))] == read


# Not with CRLF: there DuckDB 2.0 loses a file of one record of empty cells, and refuses several of them.
@settings(max_examples=150, deadline=None)
@given(rows=_tables(), delimiter=st.sampled_from([",", ";", "\t", "|"]))
def test_duckdb_in_strict_mode(tmp_path_factory, rows, delimiter):
    data = _written(rows, delimiter, "\n")
    path = tmp_path_factory.getbasetemp() / "duckdb.csv"
    path.write_bytes(data)
    columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(rows[0])))
    with duckdb.connect() as connection:
        found = connection.execute(
            f"FROM read_csv('{path}', auto_detect=false, strict_mode=true, header=false, delim=$1, quote='\"', "
            f"escape='\"', new_line='\\n', columns={{{columns}}})",
            [delimiter],
        ).fetchall()
    assert [[cell or "" for cell in row] for row in _read(data, delimiter, len(rows[0]))] == [
        [cell or "" for cell in row] for row in found
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_copy_of_postgresql(database, delimiter, line_end):
    """NULL and the empty text are told apart alike: nothing between delimiters is NULL, two quotes are the empty text."""

    def copied(connection, data, width):
        columns = ", ".join(f"c{number} text" for number in range(width))
        connection.execute(f"CREATE TEMP TABLE t (n bigint GENERATED ALWAYS AS IDENTITY, {columns}) ON COMMIT DROP")
        names = ", ".join(f"c{number}" for number in range(width))
        with connection.cursor().copy(f"COPY t ({names}) FROM STDIN (FORMAT csv, DELIMITER E'{delimiter}')") as copy:
            copy.write(data)
        rows = connection.execute(f"SELECT {names} FROM t ORDER BY n").fetchall()
        connection.rollback()
        return [list(row) for row in rows]

    # In unquoted text COPY takes no CR that ends no line, and no line that is \. alone; both are quoted here.
    plain = st.text(alphabet="ab0é漢 .'", min_size=1, max_size=6)
    quoted = _CELL.map(lambda text: '"' + text.replace('"', '""') + '"')
    written = st.one_of(plain, quoted, st.just(""))

    with psycopg.connect(database) as connection:

        @settings(max_examples=250, deadline=None)
        @given(rows=_tables(written))
        def same(rows):
            data = "".join(delimiter.join(row) + line_end for row in rows).encode()
            assert _read(data, delimiter, len(rows[0])) == copied(connection, data, len(rows[0]))

        same()


def test_many_records_at_once():
    """Long enough for every block and segment of the kernels to be crossed in any state."""
    rng = random.Random(5)
    pieces = ["a", '"', ",", "\n", "\r\n", "é", "x" * 60, "", " "]
    rows = [["".join(rng.choices(pieces, k=rng.randrange(4))) for _ in range(3)] for _ in range(30_000)]
    data = _written(rows, ",", "\r\n", csv.QUOTE_MINIMAL)
    assert [[cell or "" for cell in row] for row in _read(data, ",", 3)] == rows
