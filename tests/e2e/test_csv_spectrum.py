"""The cases of csv-spectrum (github.com/max-mapper/csv-spectrum), as text and with inferred types, in one load."""

import json
from pathlib import Path

import pytest

from beam_etl import load
from tests.landed import parquet_table

PUBLISHED = Path(__file__).resolve().parents[3] / "shared" / "data" / "csv_spectrum"
POINT = '{"type": "Point", "coordinates": [102.0, 0.5]}'

# name -> (bytes, rows), as in the project's own files.
CASES = {
    "comma_in_quotes": (
        b'first,last,address,city,zip\nJohn,Doe,120 any st.,"Anytown, WW",08123\n',
        [{"first": "John", "last": "Doe", "address": "120 any st.", "city": "Anytown, WW", "zip": "08123"}],
    ),
    "empty": (b'a,b,c\n1,"",""\n2,3,4\n', [{"a": "1", "b": "", "c": ""}, {"a": "2", "b": "3", "c": "4"}]),
    "empty_crlf": (b'a,b,c\r\n1,"",""\r\n2,3,4\r\n', [{"a": "1", "b": "", "c": ""}, {"a": "2", "b": "3", "c": "4"}]),
    "escaped_quotes": (b'a,b\n1,"ha ""ha"" ha"\n3,4\n', [{"a": "1", "b": 'ha "ha" ha'}, {"a": "3", "b": "4"}]),
    "json": (f'key,val\n1,"{POINT.replace(chr(34), chr(34) * 2)}"\n'.encode(), [{"key": "1", "val": POINT}]),
    "newlines": (
        b'a,b,c\n1,2,3\n"Once upon \na time",5,6\n7,8,9\n',
        [
            {"a": "1", "b": "2", "c": "3"},
            {"a": "Once upon \na time", "b": "5", "c": "6"},
            {"a": "7", "b": "8", "c": "9"},
        ],
    ),
    "newlines_crlf": (
        b'a,b,c\r\n1,2,3\r\n"Once upon \r\na time",5,6\r\n7,8,9\r\n',
        [
            {"a": "1", "b": "2", "c": "3"},
            {"a": "Once upon \r\na time", "b": "5", "c": "6"},
            {"a": "7", "b": "8", "c": "9"},
        ],
    ),
    "quotes_and_newlines": (
        b'a,b\n1,"ha \n""ha"" \nha"\n3,4\n',
        [{"a": "1", "b": 'ha \n"ha" \nha'}, {"a": "3", "b": "4"}],
    ),
    "simple": (b"a,b,c\n1,2,3\n", [{"a": "1", "b": "2", "c": "3"}]),
    "simple_crlf": (b"a,b,c\r\n1,2,3\r\n", [{"a": "1", "b": "2", "c": "3"}]),
    "utf8": ("a,b,c\n1,2,3\n4,5,ʤ\n".encode(), [{"a": "1", "b": "2", "c": "3"}, {"a": "4", "b": "5", "c": "ʤ"}]),
}


def published_cases():
    """The project's own files where they are at hand; a copy that lost its carriage returns is expected without them."""
    cases = {}
    for path in sorted(PUBLISHED.glob("csvs/*.csv")):
        data = path.read_bytes()
        rows = (PUBLISHED / "json" / f"{path.stem}.json").read_text()
        cases[f"published_{path.stem}"] = (data, json.loads(rows if b"\r" in data else rows.replace("\\r\\n", "\\n")))
    return cases


ALL_CASES = {**CASES, **published_cases()}


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    directory = tmp_path_factory.mktemp("spectrum")
    tables = []
    for name, (data, rows) in ALL_CASES.items():
        for kind in ("text", "typed"):
            (directory / f"{kind}-{name}.csv").write_bytes(data)
            columns = dict.fromkeys(rows[0], "string") if kind == "text" else {}
            tables.append({"name": f"{kind}_{name}", "files": [f"{kind}-{name}.csv"], "columns": columns})
    report = load(input=[str(directory / "*.csv")], output=str(directory / "lake"), tables=tables)
    assert report["published"]
    return directory / "lake"


@pytest.mark.parametrize("name", ALL_CASES)
def test_as_text_every_value_is_exactly_what_is_written(lake, name):
    assert parquet_table(lake, f"text_{name}").to_pylist() == ALL_CASES[name][1]


@pytest.mark.parametrize("name", ALL_CASES)
def test_with_inferred_types_every_value_is_written_the_same(lake, name):
    landed = parquet_table(lake, f"typed_{name}").to_pylist()
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in landed] == ALL_CASES[
        name
    ][1]
