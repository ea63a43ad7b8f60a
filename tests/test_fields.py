import datetime
import decimal
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_etl.model import Dialect
from beam_etl.reading import field_text, fields
from beam_etl.reading.automaton import index_records
from beam_etl.reading.field_index import FieldIndex
from beam_etl.reading.fields import (
    MISFIT_NUL,
    MISFIT_UNDECODABLE,
    MISFIT_VALUE,
    TextRules,
    column_evidence,
    convert_column,
    convert_columns,
)
from beam_etl.schema import ALL_CANDIDATES, CANDIDATES, STRING, ColumnEvidence, ColumnSchema, ColumnType

BOOLEAN, BIGINT = ColumnType("boolean"), ColumnType("bigint")
DOUBLE, DOUBLE_COMMA = ColumnType("double", format="."), ColumnType("double", format=",")
ISO_DATE, PLAIN_DATE = ColumnType("date", format="YYYY-MM-DD"), ColumnType("date", format="YYYYMMDD")
SEMICOLON = Dialect(delimiter=";")
UTF8 = TextRules("utf-8", '"', "doubled", reject_nul=True)
MISFIT = object()
UTC = datetime.timezone.utc


def decimal_type(precision: int, scale: int, mark: str = ".") -> ColumnType:
    return ColumnType("decimal", precision, scale, mark)


def timestamp_type(separator: str, zone: str = "") -> ColumnType:
    return ColumnType("timestamp", format=separator, zone=zone)


def index_of(cells: list[bytes], dialect: Dialect = SEMICOLON) -> FieldIndex:
    """Three fields a record, the cells in the middle one as they are written in a file."""
    data = b"".join(b"17;" + cell + b';"z"\n' for cell in cells)
    records = index_records(np.frombuffer(data, np.uint8), dialect, 3, 1 << 20)
    assert records.n_records == records.index.n_records == len(cells)
    return records.index


def quoted(value: bytes) -> bytes:
    return b'"' + value.replace(b'"', b'""') + b'"'


def convert(
    cells: list[bytes],
    column_type: ColumnType,
    rules: TextRules = UTF8,
    dialect: Dialect = SEMICOLON,
    **column: object,
) -> tuple[list[object], list[int]]:
    """(values, misfit codes) of the cells as one column."""
    schema = ColumnSchema("c", column_type, **column)  # type: ignore[arg-type]
    result = convert_column(index_of(cells, dialect), 1, schema, rules)
    result.array.validate(full=True)
    assert result.array.type == column_type.arrow
    codes = [0] * len(cells) if result.misfits is None else result.misfits.tolist()
    assert result.misfits is None or any(codes)
    values = result.array.to_pylist()
    assert all(value is None for value, code in zip(values, codes) if code)
    return values, codes


def type_id(argument: object) -> str:
    return f"{argument}{argument.format}{argument.zone}" if isinstance(argument, ColumnType) else "texts"


def evidence(cells: list[bytes], markers: tuple[str, ...] = (), rules: TextRules = UTF8) -> ColumnEvidence:
    return column_evidence(index_of(cells), 1, markers, rules)


DATE = datetime.date
ACCEPTED: list[tuple[ColumnType, dict[str, object]]] = [
    (BOOLEAN, dict.fromkeys(["true", "True", "TRUE"], True) | dict.fromkeys(["false", "False", "FALSE"], False)),
    (
        BIGINT,
        {"0": 0, "7": 7, "-7": -7, "10": 10, "9223372036854775807": 2**63 - 1, "-9223372036854775808": -(2**63)},
    ),
    (
        decimal_type(18, 2),
        {
            "0": "0.00",
            "-0": "0.00",
            "-0.00": "0.00",
            "0.5": "0.50",
            "-1.5": "-1.50",
            "1.50": "1.50",
            "9999999999999999.99": "9999999999999999.99",
            "-9999999999999999.99": "-9999999999999999.99",
        },
    ),
    (decimal_type(3, 1, ","), {"12,5": "12.5", "-99,9": "-99.9", "7": "7.0"}),
    (decimal_type(2, 2), {"0.25": "0.25", "0": "0.00", "-0.9": "-0.90"}),
    (
        decimal_type(38, 10),
        {
            "1": "1.0000000000",
            "-0.0000000001": "-0.0000000001",
            "9" * 28 + "." + "9" * 10: "9" * 28 + "." + "9" * 10,
            "-" + "9" * 28 + "." + "9" * 10: "-" + "9" * 28 + "." + "9" * 10,
            "18446744073709551616": "18446744073709551616.0000000000",
        },
    ),
    (decimal_type(38, 38), {"0." + "1" * 38: "0." + "1" * 38}),
    (decimal_type(38, 0), {"9" * 38: "9" * 38, "-" + "1" + "0" * 37: "-1" + "0" * 37}),
    (
        DOUBLE,
        {
            "0": 0.0,
            "0.1": 0.1,
            "-2.5": -2.5,
            "1e5": 1e5,
            "1E+5": 1e5,
            "12e-3": 0.012,
            "1e22": 1e22,
            "1e23": 1e23,
            "0.30000000000000004": 0.30000000000000004,
            "1.7976931348623157e308": 1.7976931348623157e308,
            "5e-324": 5e-324,
            "2.2250738585072014E-308": 2.2250738585072014e-308,
            "9007199254740993e0": MISFIT,
            "9007199254740992": 2.0**53,
            "0e999999999999999999999": 0.0,
            "100000000000000000000000": 1e23,
        },
    ),
    (DOUBLE_COMMA, {"1,5": 1.5, "-0,1e-2": -0.001, "0,30000000000000004": 0.30000000000000004}),
    (ISO_DATE, {"0001-01-01": DATE(1, 1, 1), "9999-12-31": DATE(9999, 12, 31), "2000-02-29": DATE(2000, 2, 29)}),
    (PLAIN_DATE, {"18000101": DATE(1800, 1, 1), "21991231": DATE(2199, 12, 31), "20240229": DATE(2024, 2, 29)}),
    (ColumnType("date", format="DD/MM/YYYY"), {"25/12/1999": DATE(1999, 12, 25)}),
    (ColumnType("date", format="MM/DD/YYYY"), {"12/25/1999": DATE(1999, 12, 25)}),
    (ColumnType("date", format="DD.MM.YYYY"), {"01.03.1900": DATE(1900, 3, 1)}),
    (
        timestamp_type("T"),
        {
            "2020-02-29T23:59:59": datetime.datetime(2020, 2, 29, 23, 59, 59),
            "1969-12-31T23:59:59.9": datetime.datetime(1969, 12, 31, 23, 59, 59, 900_000),
            "0001-01-01T00:00:00.000001": datetime.datetime(1, 1, 1, 0, 0, 0, 1),
        },
    ),
    (timestamp_type(" "), {"9999-12-31 23:59:59.999999": datetime.datetime(9999, 12, 31, 23, 59, 59, 999_999)}),
    (timestamp_type("T", "Z"), {"2020-01-01T00:00:00Z": datetime.datetime(2020, 1, 1, tzinfo=UTC)}),
    (
        timestamp_type(" ", "+02:30"),
        {"2020-01-01 00:00:00.25+02:30": datetime.datetime(2019, 12, 31, 21, 30, 0, 250_000, tzinfo=UTC)},
    ),
    (timestamp_type("T", "-15:59"), {"2020-01-01T00:00:00-15:59": datetime.datetime(2020, 1, 1, 15, 59, tzinfo=UTC)}),
    (timestamp_type("T", "+00:00"), {"2020-01-01T00:00:00+00:00": datetime.datetime(2020, 1, 1, tzinfo=UTC)}),
]
REFUSED: list[tuple[ColumnType, list[str]]] = [
    (BOOLEAN, ["tRue", "t", "1", "yes", "true ", "falsE", "FALSe", "truefalse"]),
    (
        BIGINT,
        [
            "00501",
            "+5",
            "1_000",
            " 5",
            "5 ",
            "0x1F",
            "-0",
            "-",
            "--1",
            "1.0",
            "1e3",
            "12345678901234567890",
            "00",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            chr(0x661),
            "1\x00",
        ],
    ),
    (decimal_type(18, 2), ["1.500", "10000000000000000", "00.5", ".5", "5.", "-", "-.5", "1,5", "1e2", "+1", "1.2.3"]),
    (decimal_type(2, 2), ["1", "1.25", "0.250"]),
    (decimal_type(38, 0), ["1" + "0" * 38, "1.0"]),
    (decimal_type(3, 1, ","), ["1.5", "100,0", "1,55"]),
    (
        DOUBLE,
        [
            "1e400",
            "-1e400",
            "1e-400",
            "nan",
            "NaN",
            "inf",
            "-Infinity",
            "1e",
            "1e+",
            "e5",
            ".5",
            "5.",
            "01",
            "+1",
            "1,5",
            "0.1000000000000000055",
            "9007199254740993",
            "0x1p3",
            "1_0",
            "1e5.5",
            "4.9e-324",
            "1e1_0",
            "1e99999999999999999",
        ],
    ),
    (
        ISO_DATE,
        [
            "0000-01-01",
            "2021-02-29",
            "1900-02-29",
            "2020-13-01",
            "2020-00-01",
            "2020-01-00",
            "2020-04-31",
            "2020-1-1",
            "20200101",
            "2020/01/01",
            "2020-01-01 ",
            "-020-01-01",
            "2020-01-0a",
            "10000-01-01",
        ],
    ),
    (PLAIN_DATE, ["17991231", "22000101", "20211301", "2021221", "37981131", "00000000", "0"]),
    (ColumnType("date", format="DD/MM/YYYY"), ["12/25/1999", "1/2/1999", "25-12-1999"]),
    (ColumnType("date", format="MM/DD/YYYY"), ["25/12/1999"]),
    (
        timestamp_type("T"),
        [
            "2020-01-01 00:00:00",
            "2020-01-01T24:00:00",
            "2020-01-01T00:60:00",
            "2020-01-01T23:59:60",
            "2020-01-01T00:00",
            "2020-01-01T00:00:00.",
            "2020-01-01T00:00:00.1234567",
            "2020-01-01T00:00:00Z",
            "2020-01-01t00:00:00",
            "2020-01-01T00:00:00+00:00",
            "2021-02-29T00:00:00",
            "2020-01-01",
            "2020-01-01T0a:00:00",
        ],
    ),
    (timestamp_type("T", "Z"), ["2020-01-01T00:00:00", "2020-01-01T00:00:00z", "2020-01-01T00:00:00+00:00"]),
    (
        timestamp_type("T", "+02:00"),
        [
            "2020-01-01T00:00:00+03:00",
            "2020-01-01T00:00:00-02:00",
            "2020-01-01T00:00:00+0200",
            "2020-01-01T00:00:00Z",
            "0001-01-01T00:00:00+02:00",
        ],
    ),
    (timestamp_type("T", "-02:00"), ["9999-12-31T23:00:00-02:00"]),
    (timestamp_type("T", "+00:00"), ["2020-01-01T00:00:00-00:00"]),
]


@pytest.mark.parametrize(("column_type", "table"), ACCEPTED, ids=type_id)
def test_accepted(column_type, table):
    for text, value in table.items():
        values, codes = convert([text.encode(), quoted(text.encode())], column_type)
        if value is MISFIT:
            assert codes == [MISFIT_VALUE] * 2, text
            continue
        expected = decimal.Decimal(value) if column_type.kind == "decimal" else value
        assert (values, codes) == ([expected] * 2, [0, 0]), text


@pytest.mark.parametrize(("column_type", "texts"), REFUSED, ids=type_id)
def test_refused(column_type, texts):
    for text in texts:
        assert convert([quoted(text.encode())], column_type) == ([None], [MISFIT_VALUE]), text


def test_declared_types_accept_more():
    assert convert([b"00010101", b"99991231"], PLAIN_DATE, declared=True)[1] == [0, 0]
    assert convert([b"2020-01-01T00:00:00", b"2020-01-01 00:00:00"], timestamp_type(" "), declared=True)[1] == [0, 0]
    cells = [b"2020-01-01T00:00:00Z", b"2020-01-01 02:00:00+02:00", b"2019-12-31T23:00:00-01:00"]
    instant = datetime.datetime(2020, 1, 1, tzinfo=UTC)
    assert convert(cells, timestamp_type(" ", "Z"), declared=True) == ([instant] * 3, [0, 0, 0])
    cells = [b"2020-01-01T00:00:00", b"2020-01-01T00:00:00+16:00"]
    assert convert(cells, timestamp_type(" ", "Z"), declared=True)[1] == [MISFIT_VALUE] * 2


TYPED = [c if c.kind != "decimal" else decimal_type(18, 2, c.format) for c in CANDIDATES if c.zone != "+"]


@pytest.mark.parametrize("column_type", TYPED, ids=type_id)
def test_nulls_and_empty_text(column_type):
    cells = [b"", b'""', b"NIL", b'"NIL"', b"NI", b"NILS"]
    codes = [0, 0, 0, 0, MISFIT_VALUE, MISFIT_VALUE]
    assert convert(cells, column_type, null_markers=("-", "NIL")) == ([None] * 6, codes)
    assert convert([], column_type) == ([], [])
    assert convert([b""] * 9, column_type) == ([None] * 9, [0] * 9)


def test_null_markers_of_text_and_numbers():
    cells = [b"", b'""', b"NIL", b'"NIL"', b"nil", b'"a""b"', b'"a""c"']
    values = [None, "", None, None, "nil", None, 'a"c']
    assert convert(cells, STRING, null_markers=("NIL", 'a"b')) == (values, [0] * 7)
    assert convert([b'""', b"x"], STRING, null_markers=("",)) == ([None, "x"], [0, 0])
    assert convert([b"0", b"-1", b"1"], BIGINT, null_markers=("0", "-1")) == ([None, None, 1], [0] * 3)
    latin = TextRules("iso-8859-1", '"', "doubled", True)
    assert convert([b"n\xe3o", b"x"], STRING, latin, null_markers=("não", "\u0142")) == ([None, "x"], [0, 0])


def test_escapes():
    assert convert([b'"a""b"', b'""""', b'"1""2"', b'a"b'], STRING) == (['a"b', '"', '1"2', 'a"b'], [0] * 4)
    assert convert([b'"1""2"', b'"12"'], BIGINT) == ([None, 12], [MISFIT_VALUE, 0])
    dialect = Dialect(delimiter=";", escape="backslash")
    rules = TextRules("utf-8", '"', "backslash", True)
    cells = [rb'"a\"b"', rb'"\\"', rb"\;x", rb"\N", rb"\\N", rb'"\N"', b'"""'[:2]]
    values = ['a"b', "\\", ";x", None, "\\N", None, ""]
    assert convert(cells, STRING, rules, dialect, null_markers=("\\N",)) == (values, [0] * 7)
    assert convert([rb"\12", rb"\N"], BIGINT, rules, dialect, null_markers=("\\N",)) == ([None, None], [1, 0])
    none = TextRules("utf-8", '"', "none", True)
    assert convert([rb'"a\"', b'""'], STRING, none, Dialect(delimiter=";", escape="none")) == (["a\\", ""], [0, 0])


def test_unseen_column_refuses_every_value():
    cells = [b"", b'""', b"x", b"NIL", b"\xff"]
    values, codes = convert(cells, STRING, unseen=True, null_markers=("NIL",))
    assert (values, codes) == ([None, "", None, None, None], [0, 0, MISFIT_VALUE, 0, MISFIT_VALUE])
    assert convert([b"", b'""'], STRING, unseen=True) == ([None, ""], [0, 0])


def test_undecodable_and_nul():
    cells = [
        b"ok",
        b"a\x00b",
        b"a\xff",
        "é€😀".encode(),
        b"\xed\xa0\x80",
        b"\xc0\xaf",
        b"\xf4\x90\x80\x80",
        b"\xe2\x82",
        b"z",
    ]
    values = ["ok", None, None, "é€😀", None, None, None, None, "z"]
    codes = [0, MISFIT_NUL, MISFIT_UNDECODABLE, 0, *[MISFIT_UNDECODABLE] * 4, 0]
    assert convert(cells, STRING) == (values, codes)
    keep_nul = TextRules("utf-8", '"', "doubled", reject_nul=False)
    values[1], codes[1] = "a\x00b", 0
    assert convert(cells, STRING, keep_nul) == (values, codes)
    # Half a character in each of two fields must not make a whole one.
    assert convert([b"\xc3", b"\xa9"], STRING) == ([None, None], [MISFIT_UNDECODABLE] * 2)
    assert convert([b"1\x00", b"\xff"], BIGINT) == ([None, None], [MISFIT_VALUE] * 2)


@pytest.mark.parametrize("encoding", ["shift_jis", "utf-16", "cp037", "utf-7"])
def test_encodings_that_need_staging_are_refused(encoding):
    with pytest.raises(ValueError, match="one-byte encoding"):
        convert([b"x"], STRING, TextRules(encoding, '"', "doubled", True))


def expected_text(value: bytes, encoding: str, reject_nul: bool) -> tuple[set[int], str | None]:
    """(allowed misfit codes, the text)."""
    try:
        text = value.decode(encoding)
    except UnicodeDecodeError:
        return {MISFIT_UNDECODABLE, MISFIT_NUL} if reject_nul and b"\0" in value else {MISFIT_UNDECODABLE}, None
    return ({MISFIT_NUL}, None) if reject_nul and "\0" in text else ({0}, text)


FRAGMENTS = [
    "a",
    "plain text of eight and more",
    '"',
    ",",
    "\n",
    "é",
    "€",
    "\u07ff",
    "\u0800",
    "\ud7ff",
    "\uffff",
    "😀",
]
UTF8_PIECES = st.sampled_from(
    [f.encode() for f in FRAGMENTS]
    + [
        b"\0",
        b"\x80",
        b"\xbf",
        b"\xc1\x81",
        b"\xc3",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
    ]
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.lists(UTF8_PIECES, max_size=6).map(b"".join), max_size=12), st.booleans())
def test_utf8_like_the_codec(values, reject_nul):
    got, codes = convert([quoted(v) for v in values], STRING, TextRules("utf-8", '"', "doubled", reject_nul))
    for value, text, code in zip(values, got, codes):
        allowed, expected = expected_text(value, "utf-8", reject_nul)
        assert code in allowed
        assert text == expected


ONE_BYTE = ["iso-8859-1", "latin1", "iso-8859-15", "cp1252", "cp1250", "cp1251", "cp1257", "koi8-r", "cp437", "ascii"]


@pytest.mark.parametrize("encoding", ONE_BYTE)
def test_one_byte_encodings_like_the_codec(encoding):
    @settings(max_examples=60, deadline=None)
    @given(
        st.lists(st.binary(max_size=24) | st.text("abcdefgh", max_size=24).map(str.encode), max_size=10), st.booleans()
    )
    def check(values, reject_nul):
        values = [bytes(range(256))[i : i + 16] for i in range(0, 256, 16)] + values
        got, codes = convert([quoted(v) for v in values], STRING, TextRules(encoding, '"', "doubled", reject_nul))
        for value, text, code in zip(values, got, codes):
            allowed, expected = expected_text(value, encoding, reject_nul)
            assert code in allowed
            assert text == expected

    check()


NUMBER = r"-?(0|[1-9][0-9]*)"
TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d:\d\d)(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?", re.ASCII)
DATE_ORDERS = {"YYYY-MM-DD": "%Y-%m-%d", "YYYYMMDD": "%Y%m%d", "DD/MM/YYYY": "%d/%m/%Y", "MM/DD/YYYY": "%m/%d/%Y"}
DATE_ORDERS["DD.MM.YYYY"] = "%d.%m.%Y"


def reference(text: str, column_type: ColumnType) -> object:
    """The value by Python's own types, or MISFIT."""
    mark = column_type.format
    if column_type.kind == "boolean":
        return {"true": True, "false": False}[text.lower()] if text in ACCEPTED[0][1] else MISFIT
    if column_type.kind == "bigint":
        fits = re.fullmatch(NUMBER, text) and text != "-0" and -(2**63) <= int(text) < 2**63
        return int(text) if fits else MISFIT
    if column_type.kind == "decimal":
        if not re.fullmatch(NUMBER + rf"({re.escape(mark)}[0-9]+)?", text):
            return MISFIT
        value = decimal.Decimal(text.replace(mark, "."))
        limit = decimal.Decimal(10) ** (column_type.precision - column_type.scale)
        fits = -value.as_tuple().exponent <= column_type.scale and abs(value) < limit
        return value if fits else MISFIT
    if column_type.kind == "double":
        if not re.fullmatch(NUMBER + rf"({re.escape(mark)}[0-9]+)?([eE][+-]?[0-9]+)?", text):
            return MISFIT
        point = text.replace(mark, ".")
        value = float(point)
        return value if decimal.Decimal(repr(value)) == decimal.Decimal(point) else MISFIT
    try:
        return reference_time(text, column_type)
    except (ValueError, OverflowError):
        return MISFIT


def reference_time(text: str, column_type: ColumnType) -> object:
    if column_type.kind == "date":
        pattern = re.sub("[YMD]", "[0-9]", re.escape(column_type.format))
        if not re.fullmatch(pattern, text):
            return MISFIT
        day = datetime.datetime.strptime(text, DATE_ORDERS[column_type.format]).date()
        return MISFIT if column_type.format == "YYYYMMDD" and not 1800 <= day.year <= 2199 else day
    match = TIMESTAMP.fullmatch(text)
    if not match or match[2] != column_type.format or (match[5] or "") != column_type.zone or match[5] == "-00:00":
        return MISFIT
    naive = datetime.datetime.fromisoformat(f"{match[1]}T{match[3]}")
    naive += datetime.timedelta(microseconds=int((match[4] or ".0")[1:].ljust(6, "0")))
    if column_type.zone in ("", "Z"):
        return naive.replace(tzinfo=UTC) if column_type.zone else naive
    minutes = int(match[5][1:3]) * 60 + int(match[5][4:])
    if minutes > 15 * 60 + 59 or int(match[5][4:]) > 59:
        return MISFIT
    offset = datetime.timedelta(minutes=-minutes if match[5][0] == "-" else minutes)
    return (naive - offset).replace(tzinfo=UTC)


NUMBER_TEXT = st.from_regex(r"\A-?[0-9]{0,22}([.,][0-9]{0,19})?([eE][+-]?[0-9]{0,3})?\Z").filter(str.isascii)
NUMBER_VALUE = (
    st.integers(-(2**64), 2**64).map(str)
    | st.floats(allow_nan=False, allow_infinity=False).map(repr)
    | st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**20), max_value=10**20).map(str)
)
DAY = st.dates() | st.dates(datetime.date(1790, 1, 1), datetime.date(2210, 1, 1))
DATE_TEXT = st.builds(
    lambda day, order: (
        order.replace("%Y", f"{day.year:04d}").replace("%m", f"{day.month:02d}").replace("%d", f"{day.day:02d}")
    ),
    DAY,
    st.sampled_from(sorted(DATE_ORDERS.values())),
)
WILD_DATE = st.from_regex(r"\A[0-9]{4}-?[0-3][0-9]-?[0-3][0-9]\Z")
TIME_TEXT = st.builds(
    "{}{}{}{}{}".format,
    DAY.map(datetime.date.isoformat) | WILD_DATE,
    st.sampled_from("T t"),
    st.times().map(lambda t: t.isoformat("seconds")) | st.from_regex(r"\A[0-2][0-9]:[0-6][0-9]:[0-6][0-9]\Z"),
    st.sampled_from(["", "."]) | st.from_regex(r"\A\.[0-9]{1,7}\Z"),
    st.sampled_from(["", "Z", "z", "+02:30", "-15:59", "+16:00", "-00:00", "+00:00", "+00:60", "+0230"]),
)
ANY_TEXT = st.text(min_size=1, max_size=12).filter(lambda t: not any("\ud800" <= c <= "\udfff" for c in t))
TEXTS = (
    NUMBER_TEXT | NUMBER_VALUE | DATE_TEXT | WILD_DATE | TIME_TEXT | st.sampled_from(sorted(ACCEPTED[0][1])) | ANY_TEXT
)
REFERENCED = [
    *TYPED,
    decimal_type(18, 0),
    decimal_type(38, 10),
    decimal_type(5, 5),
    decimal_type(38, 0, ","),
    timestamp_type("T", "+02:30"),
    timestamp_type(" ", "-15:59"),
    timestamp_type(" ", "+00:00"),
]


@settings(max_examples=700, deadline=None)
@given(st.lists(TEXTS.filter(bool), min_size=1, max_size=20))
def test_any_text_keeps_its_value_or_is_a_misfit(texts):
    cells = [quoted(text.encode()) for text in texts]
    for column_type in REFERENCED:
        values, codes = convert(cells, column_type)
        for text, value, code in zip(texts, values, codes):
            expected = reference(text, column_type)
            assert code == (MISFIT_VALUE if expected is MISFIT else 0), (text, column_type)
            assert value == (None if expected is MISFIT else expected), (text, column_type)


def essence(found: ColumnEvidence) -> tuple[object, ...]:
    """Evidence without bounds that belong to no possible candidate."""
    kinds = {(c.kind, c.zone) for bit, c in enumerate(CANDIDATES) if found.candidates >> bit & 1}
    digits = (found.integer_digits, found.fraction_digits) if ("decimal", "") in kinds else None
    return found.candidates, found.seen, digits, found.offset_minutes if ("timestamp", "+") in kinds else None


SAME_KIND = st.one_of(
    *[st.lists(s.filter(bool), max_size=12) for s in (NUMBER_TEXT, NUMBER_VALUE, DATE_TEXT, TIME_TEXT, TEXTS)],
    st.lists(st.integers(0, 10**9).map(str), max_size=200),
    st.lists(DAY.map(str), max_size=100),
    st.lists(st.booleans().map(str), max_size=100),
)


@settings(max_examples=300, deadline=None)
@given(SAME_KIND, st.lists(st.sampled_from([b"", b'""', b"NIL"]), max_size=3), st.data())
def test_evidence_of_parts_is_evidence_of_the_whole(texts, empties, data):
    cells = data.draw(st.permutations([quoted(text.encode()) for text in texts] + empties))
    cut = data.draw(st.integers(0, len(cells)))
    whole = evidence(cells, ("NIL",))
    merged = evidence(cells[:cut], ("NIL",)).merge(evidence(cells[cut:], ("NIL",)))
    assert essence(merged) == essence(whole)
    assert merged.best_type() == whole.best_type()
    # What was recognised converts: the same kernels decide both.
    _, codes = convert(cells, whole.best_type(), null_markers=("NIL",))
    assert not {MISFIT_VALUE} & set(codes)
    assert whole.seen == any(texts)
    # And a candidate is exactly a type that every value fits.
    for bit, candidate in enumerate(CANDIDATES):
        if candidate.kind != "decimal" and candidate.zone != "+":
            fits = not any(convert(cells, candidate, null_markers=("NIL",))[1])
            assert (whole.candidates >> bit & 1 == 1) == fits, candidate


def test_evidence_exactly():
    assert evidence([]) == evidence([b"", b'""', b""]) == ColumnEvidence()
    assert evidence([b"NIL"], ("NIL",)) == ColumnEvidence()
    assert ColumnEvidence().candidates == ALL_CANDIDATES
    numbers = evidence([b"12", b"", b"-3"])
    assert [str(CANDIDATES[b]) for b in range(len(CANDIDATES)) if numbers.candidates >> b & 1] == [
        "bigint",
        *["decimal(0,0)"] * 2,
        *["double"] * 2,
    ]
    assert evidence([b"1.5", b"100", b"0.25"]).best_type() == decimal_type(18, 2)
    assert evidence([b"1,5", b"1000000000000000000"]).best_type() == decimal_type(38, 1, ",")
    assert evidence([b"1e5", b"0.5"]).best_type() == DOUBLE
    assert evidence([b"1" * 38, b"0.5"]).best_type() == STRING
    assert evidence([b"20200101", b"19991231"]).best_type() == PLAIN_DATE
    assert evidence([b"20200101", b"12345678"]).best_type() == BIGINT
    assert evidence([b"01/02/2020"]).best_type().format == "DD/MM/YYYY"
    assert evidence([b"01/02/2020", b"12/25/2020"]).best_type().format == "MM/DD/YYYY"
    assert evidence([b"25/12/2020", b"12/25/2020"]).best_type() == STRING
    same = evidence([b"2020-01-01 00:00:00-03:00", b"2020-01-01 00:00:00.5-03:00"])
    assert (same.best_type(), same.offset_minutes) == (timestamp_type(" ", "-03:00"), (-180, -180))
    varying = evidence([b"2020-01-01T00:00:00-03:00", b"2020-01-01T00:00:00+02:00"])
    assert (varying.best_type(), varying.offset_minutes) == (STRING, (-180, 120))
    # A misfit far beyond the first block.
    assert evidence([b"1"] * 30_000 + [b"00501"]).best_type() == STRING
    assert evidence([b"1"] * 30_000 + [b"1.25"]).best_type() == decimal_type(18, 2)


@pytest.mark.parametrize(
    "position", [0, 63, 64, 65, 319, 320, 321, 1343, 1344, 1345, 5439, 5440, 5441, 9535, 9536, 9999]
)
def test_evidence_misses_no_record_between_blocks(position):
    cells = [b"7"] * 10_000
    cells[position] = b"12.345"
    assert evidence(cells).best_type() == decimal_type(18, 3)


def test_random_columns_equal_python_whatever_the_blocks(monkeypatch):
    """All types at once, nulls and misfits among them, in blocks of a few records and in one."""
    random = np.random.default_rng(7)
    n_records = 5000
    columns = [
        (BIGINT, [str(v) for v in random.integers(-(2**63), 2**63 - 1, n_records)]),
        (decimal_type(18, 2), [f"{v / 100:.2f}" for v in random.integers(-(10**15), 10**15, n_records)]),
        (decimal_type(38, 10), [f"{v}.{v % 977}" for v in random.integers(0, 2**63 - 1, n_records)]),
        (
            DOUBLE,
            [repr(v) for v in (random.normal(size=n_records) * 10.0 ** random.integers(-30, 30, n_records)).tolist()],
        ),
        (BOOLEAN, [str(v) for v in random.integers(0, 2, n_records) == 1]),
        (ISO_DATE, [str(np.datetime64("1600-01-01") + v) for v in random.integers(0, 300_000, n_records)]),
        (
            timestamp_type("T"),
            [f"{np.datetime64(int(v), 'us')}" for v in random.integers(-(10**16), 10**16, n_records)],
        ),
        (STRING, ["ã€😀x"[v : v + 2] * (v * v) for v in random.integers(0, 9, n_records)]),
    ]
    rows = [list(row) for row in zip(*(texts for _, texts in columns))]
    for record in range(0, n_records, 11):
        rows[record][record % len(columns)] = ""
        rows[record][(record + 3) % (len(columns) - 1)] = "?"
    data = "\n".join(",".join(row) for row in rows).encode()
    index = index_records(np.frombuffer(data, np.uint8), Dialect(), len(columns), 1 << 20).index
    schemas = [(field, ColumnSchema(str(field), column_type)) for field, (column_type, _) in enumerate(columns)]
    results = convert_columns(index, schemas, UTF8)
    for field, (column_type, _) in enumerate(columns):
        expected = [
            None
            if row[field] in ("", "?")
            else row[field]
            if column_type is STRING
            else reference(row[field], column_type)
            for row in rows
        ]
        assert MISFIT not in expected
        assert results[field].array.to_pylist() == expected
        misfits = results[field].misfits
        refused = [row[field] == "?" for row in rows]
        assert misfits is None if column_type is STRING else (misfits == MISFIT_VALUE).tolist() == refused
    for block_bytes in (1, 1000, 1 << 30):
        monkeypatch.setattr(fields, "_BLOCK_BYTES", block_bytes)
        for again, result in zip(convert_columns(index, schemas, UTF8), results):
            again.array.validate(full=True)
            assert again.array.equals(result.array)


def test_text_of_very_uneven_blocks(monkeypatch):
    monkeypatch.setattr(fields, "_BLOCK_BYTES", 256)
    texts = ["", "x" * 5000, "é" * 3000, *["ab"] * 1000, "€" * 20_000, "end"]
    latin9 = TextRules("iso-8859-15", '"', "doubled", True)
    assert convert([quoted(text.encode("iso-8859-15")) for text in texts], STRING, latin9) == (texts, [0] * len(texts))
    assert convert([quoted(text.encode()) for text in texts], STRING) == (texts, [0] * len(texts))


def test_too_much_text_for_one_column(monkeypatch):
    monkeypatch.setattr(field_text, "_MAX_TEXT_BYTES", 500)
    assert convert([b"x" * 90] * 5, STRING)[0] == ["x" * 90] * 5
    with pytest.raises(ValueError, match="lower chunk_bytes"):
        convert([b"x" * 90] * 6, STRING)


def test_bytes_may_be_read_only_and_last_without_line_end():
    data = np.frombuffer(b"a,1\nb,22", np.uint8)
    assert not data.flags.writeable
    for bytes_ in (data, data.copy()):
        index = index_records(bytes_, Dialect(), 2, 100).index
        arrays = [convert_column(index, f, ColumnSchema("c", t), UTF8).array for f, t in ((0, STRING), (1, BIGINT))]
        assert [array.to_pylist() for array in arrays] == [["a", "b"], [1, 22]]
        assert arrays[0].null_count == 0
        assert arrays[0].buffers()[0] is None
    assert pa.types.is_string(arrays[0].type)
