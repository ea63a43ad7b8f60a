import codecs
import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beam_etl.model import Dialect
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.dialect import detect

NOTHING = DeclaredDialect()
REGISTRY = (
    '"19131243";"OPEN KNOWLEDGE BRASIL";"3999";"16";"0,00";"05";""\n'
    '"33683111";"SERVIÇO FEDERAL DE PROCESSAMENTO; DADOS\nSERPRO";"2011";"16";"1061004829,23";"05";""\n'
    '"00000000";"RUA JOSÉ\\";"2062";"49";"999999999999,00";"01";"BRASÍLIA"\n'
).encode("iso-8859-1")


def test_registry_file():
    found = detect(REGISTRY, NOTHING, True)
    assert found.dialect == Dialect("iso-8859-1", ";", '"', "doubled", "lf")
    assert (found.header, found.body_start, found.header_lines, found.confidence) == (False, 0, 0, 1.0)
    assert found.columns == tuple(f"column_{n}" for n in range(1, 8))
    assert found.transcode_from is None and found.complete
    assert found.evidence == (
        "iso-8859-1: not UTF-8; one byte a character",
        "delimiter ';' detected, quote '\"', escape doubled, line end lf: 3 records sampled, most with 7 fields",
        "no header: the first record holds a value (19131243)",
    )


@pytest.mark.parametrize(
    ("data", "delimiter", "quote", "columns"),
    [
        (b"id,name\n1,anna\n2,bob\n", ",", '"', ("id", "name")),
        (b"id;price\n1;3,5\n2;4,5\n", ";", '"', ("id", "price")),
        (b"id;price;tax\n1;3,5;1,5\n2;4,5;2,5\n", ";", '"', ("id", "price", "tax")),
        (b"id\ttext\n1\ta, b\n2\tc, d, e\n", "\t", '"', ("id", "text")),
        (b"id|list\n1|1,2,3\n2|4,5,6\n", "|", '"', ("id", "list")),
        (b"id^name\n1^anna\n2^bob\n", "^", '"', ("id", "name")),
        (b"id~name\n1~anna\n2~bob\n", "~", '"', ("id", "name")),
        (b"id#name\n1#anna\n2#bob\n", "#", '"', ("id", "name")),
        (b"root:uid\nanna:1\nbob:2\n", ":", '"', ("root", "uid")),
        (b"at\n10:00:00\n11:30:00\n", ",", '"', ("at",)),
        (b"site\nhttp://a.b\nhttp://c.d\n", ",", '"', ("site",)),
        (b"name\nanna\nbob\n", ",", '"', ("name",)),
        (b"note\nplain\ntext\nwith, comma\nagain\n", "\x1f", '"', ("note",)),
        (b'note\n"a, b"\nc\n"d"\n', "\x1f", '"', ("note",)),
        (b"id,name\n1,'a, b'\n2,'c, d'\n", ",", "'", ("id", "name")),
        (b"id,name\n1,it's\n2,'tis\n3,x\n", ",", '"', ("id", "name")),
        (b'id\tsize\n1\t"5 inch\n2\t"6 inch\n3\t7\n', "\t", "", ("id", "size")),
        (b'id\tsize\n1\t5" pipe\n2\t6" pipe\n', "\t", '"', ("id", "size")),
        (b"id,ok\n1,a\n2,b,c\n3,d\n4,e\n", ",", '"', ("id", "ok")),
        (b'id,name\n1,"A "Q" B"\n2,"c"\n3,"d"\n', ",", '"', ("id", "name")),
        (b"id,at\n1,2024-01-01 10:00:00\n2,2024-01-01 11:00:00\n", ",", '"', ("id", "at")),
    ],
)
def test_delimiter_and_quote(data, delimiter, quote, columns):
    found = detect(data, NOTHING, True)
    assert (found.dialect.delimiter, found.dialect.quote, found.columns) == (delimiter, quote, columns)


def test_ragged_prose_is_never_taken_for_a_clean_table():
    assert detect(b"one, two\nthree, four, five\nsix\nseven, eight, nine, ten\n", NOTHING, True).confidence < 0.5


def test_escape():
    json = b'id,doc\n1,"{\\"a\\": 1, \\"b\\": 2}"\n2,"{\\"a\\": 3}"\n'
    assert detect(json, NOTHING, True).dialect.escape == "backslash"
    plain_backslash = b'id,dir\n1,"C:\\"\n2,"D:\\"\n'
    assert detect(plain_backslash, NOTHING, True).dialect.escape == "doubled"


@pytest.mark.parametrize(
    ("data", "line_end", "body_start", "header_lines"),
    [
        (b"a,b\n1,2\n", "lf", 4, 1),
        (b"a,b\r\n1,2\r\n", "lf", 5, 1),
        (b"a,b\r1,2\r", "cr", 4, 1),
        (b"a,b\n1,2\r3,4\n5,6\r7,8\n", "any", 4, 1),
        (b"a,b\r1,2\r3,4\n5,6\r7,8\r\n", "any", 4, 1),
        (b"a,b\n1,x\ry\n2,z\n", "lf", 4, 1),
        (b"a,b", "lf", 3, 1),
        (b"\n\r\na,b\n1,2\n\n", "lf", 7, 3),
        (b'a,"b\nc"\r\n1,2\n', "lf", 9, 2),
        (b'a,"b\rc"\r1,2\r', "cr", 8, 2),
    ],
)
def test_line_end_and_body(data, line_end, body_start, header_lines):
    found = detect(data, NOTHING, True)
    assert (found.dialect.line_end, found.header, found.body_start, found.header_lines) == (
        line_end,
        True,
        body_start,
        header_lines,
    )


def test_a_quoted_header_over_two_lines_becomes_one_name():
    assert detect(b'a,"b\n""c"""\n1,2\n', NOTHING, True).columns == ("a", 'b "c"')


@pytest.mark.parametrize("data", [b"", b"\n", b"\r\n\n", codecs.BOM_UTF8, codecs.BOM_UTF16_LE])
def test_a_file_without_records_has_no_columns(data):
    for declared in (NOTHING, DeclaredDialect(header=False, columns=("a", "b"))):
        found = detect(data, declared, True)
        plain_bytes = 0 if found.transcode_from else len(data)
        assert (found.columns, found.body_start, found.header, found.complete) == ((), plain_bytes, False, True)


def test_byte_order_mark_belongs_to_no_column():
    with_header = detect(codecs.BOM_UTF8 + "id,né\n1,2\n".encode(), NOTHING, True)
    assert (with_header.columns, with_header.body_start, with_header.header_lines) == (("id", "né"), 10, 1)
    assert with_header.dialect.encoding == "utf-8"
    without = detect(codecs.BOM_UTF8 + b'"1","2"\n', NOTHING, True)
    assert (without.columns, without.body_start, without.header_lines) == (("column_1", "column_2"), 3, 0)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_described_as_they_will_be_rewritten(encoding):
    found = detect("id;nome\r\n1;João\r\n".encode(encoding), NOTHING, True)
    assert found.transcode_from.startswith(encoding)
    assert (found.dialect.encoding, found.dialect.delimiter, found.body_start) == ("utf-8", ";", 9)
    assert found.columns == ("id", "nome")


def test_names_are_read_in_the_files_encoding():
    assert detect("código,ação\n1,2\n".encode("iso-8859-1"), NOTHING, True).columns == ("código", "ação")
    declared = DeclaredDialect(encoding="cp1251")
    assert detect("имя,год\n1,2\n".encode("cp1251"), declared, True).columns == ("имя", "год")


def test_names_are_cleaned():
    assert detect(b" id ,Full Name,id,\n1,x,2,3\n", NOTHING, True).columns == ("id", "Full Name", "id_2", "column_4")


def test_ten_thousand_columns():
    header = b",".join(b"c%d" % n for n in range(10_000)) + b"\n"
    row = b",".join(b"%d" % n for n in range(10_000)) + b"\n"
    found = detect((header + row * 3)[: 256 << 10], NOTHING, False)
    assert (len(found.columns), found.columns[9_999], found.body_start) == (10_000, "c9999", len(header))


def test_nul_bytes_in_the_head_change_nothing():
    found = detect(b"id,name\n1,a\0\0b\n2,\0\n" + bytes(3) + b",x\n", NOTHING, True)
    assert (found.columns, found.dialect.encoding, found.body_start) == (("id", "name"), "utf-8", 8)


def test_a_head_that_ends_in_its_first_record_is_not_complete():
    assert not detect(b"a,b,c", NOTHING, False).complete
    assert not detect(b'"a\nb', NOTHING, False).complete
    assert not detect(b"\n\n\n", NOTHING, False).complete
    assert detect(b'"a\nb', DeclaredDialect(header=False, columns=("a",)), False).complete
    assert detect(b"a,b,c", NOTHING, True).complete


class TestDeclared:
    def test_everything_declared_wins(self):
        declared = DeclaredDialect("latin1", "|", "'", "backslash", False, ("a", "b"))
        found = detect(b"x,y\n1,2\n", declared, True)
        assert found.dialect == Dialect("iso-8859-1", "|", "'", "backslash", "lf")
        assert (found.header, found.body_start) == (False, 0)

    def test_header(self):
        assert detect(b"1,2\n3,4\n", DeclaredDialect(header=True), True).columns == ("1", "2")
        assert detect(b"a,b\n3,4\n", DeclaredDialect(header=False), True).columns == ("column_1", "column_2")

    def test_a_header_of_declared_names_is_found_in_any_order_and_case(self):
        declared = DeclaredDialect(columns=("id", "name"))
        found = detect(b"NAME,Id,new\nx,1,2\n", declared, True)
        assert (found.header, found.columns) == (True, ("name", "id", "new"))

    def test_without_header_names_go_by_position(self):
        declared = DeclaredDialect(columns=("id", "name"))
        assert detect(b"x,y\nz,w\n", declared, True).columns == ("id", "name")
        assert detect(b"x,y,u\nz,w,v\n", declared, True).columns == ("id", "name", "column_3")
        assert detect(b"x;\nz;\n", DeclaredDialect(columns=("a", "b", "c")), True).columns == ("a", "b")

    def test_a_ragged_first_record_does_not_decide_the_columns(self):
        assert detect(b"x,y,9\n1,2\n3,4\n5,6\n", DeclaredDialect(columns=("a", "b")), True).columns == ("a", "b")

    def test_columns_stand_where_no_record_tells(self):
        declared = DeclaredDialect(header=False, columns=("a", "b"))
        assert detect(b'"x" y\n', declared, True).columns == ("a", "b")

    def test_a_quote_that_is_also_a_usual_delimiter(self):
        found = detect(b"|a|;|b|\n|1|;|2|\n", DeclaredDialect(quote="|"), True)
        assert (found.dialect.delimiter, found.columns) == (";", ("a", "b"))
        assert detect(b"a,b\n", DeclaredDialect(delimiter=",", quote=""), True).dialect.quote == ""
        assert detect(b'a"b\n1"2\n', DeclaredDialect(delimiter='"'), True).dialect.quote == ""

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"encoding": "utf-9"}, "unknown encoding 'utf-9'"),
            ({"delimiter": ";" * 17}, "has 17 bytes; 16 are the most"),
            ({"delimiter": ""}, "delimiter '': must be one character or several"),
            ({"delimiter": "|\n"}, "hold no line end"),
            ({"delimiter": "漢", "encoding": "latin1"}, "cannot be written in iso-8859-1"),
            ({"delimiter": "|'|", "quote": "'"}, "delimiter and quote are both"),
            ({"delimiter": "\\\\", "escape": "backslash"}, "holds a backslash"),
            ({"delimiter": "\n"}, "delimiter"),
            ({"quote": "é"}, "quote 'é': must be one ASCII character"),
            ({"delimiter": '"', "quote": '"'}, "delimiter and quote are both"),
        ],
    )
    def test_what_cannot_be_is_refused(self, values, message):
        with pytest.raises(ValueError, match=message):
            DeclaredDialect(**values)


_DECLARED = st.builds(
    DeclaredDialect,
    encoding=st.sampled_from([None, "utf-8", "cp1252", "utf-16", "shift_jis"]),
    delimiter=st.sampled_from([None, ",", "|"]),
    quote=st.sampled_from([None, "", '"', "'"]),
    escape=st.sampled_from([None, "doubled", "backslash", "none"]),
    header=st.sampled_from([None, True, False]),
    columns=st.sampled_from([(), ("a", "b")]),
)


@settings(max_examples=400)
@given(
    st.binary(max_size=120) | st.text(alphabet="ab1,;\t|:'\"\\\r\n\0é", max_size=80).map(str.encode),
    _DECLARED,
    st.booleans(),
)
def test_detection_never_raises(head, declared, is_whole):
    found = detect(head, declared, is_whole, [head[1:9]])
    assert len(set(found.columns)) == len(found.columns)
    assert 0 <= found.confidence <= 1
    if not found.transcode_from:
        assert 0 <= found.body_start <= len(head)


_WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyzáéç", min_size=1, max_size=8)
_CELL = st.one_of(
    _WORD,
    st.builds("{} {}".format, _WORD, _WORD),
    st.builds('{}"{}, {}; {}'.format, _WORD, _WORD, _WORD, _WORD),
    st.decimals(0, 9999, places=2).map(str),
)


@settings(max_examples=300)
@given(
    rows=st.integers(2, 5).flatmap(lambda n: st.lists(st.lists(_CELL, min_size=n, max_size=n), min_size=3, max_size=8)),
    delimiter=st.sampled_from([",", ";", "\t", "|"]),
    quote=st.sampled_from(['"', "'"]),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    header=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
def test_files_of_the_csv_module_are_detected(rows, delimiter, quote, line_end, header, quoting, encoding):
    rows = [[str(number), *row] for number, row in enumerate(rows, start=1)]
    names = ["id", *(f"field {chr(97 + n)}" for n in range(len(rows[0]) - 1))]
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, quotechar=quote, lineterminator=line_end, quoting=quoting)
    writer.writerows([names, *rows] if header else rows)
    found = detect(text.getvalue().encode(encoding), NOTHING, True)
    assert found.dialect.delimiter == delimiter
    assert found.dialect.line_end == ("cr" if line_end == "\r" else "lf")
    assert found.header == header
    assert len(found.columns) == len(names)
    if header:
        assert found.columns == tuple(names)
    if quote in text.getvalue():
        assert found.dialect.quote == quote


class TestDelimitersOfSeveralCharacters:
    @pytest.mark.parametrize("delimiter", ["||", "|~|", "~|~", "::", ";;", "\t\t", ", ", " | ", "<|>", "§", "¦"])
    def test_are_found_by_the_pattern_of_the_rows(self, delimiter):
        rows = [("id", "name", "price"), *((str(n), f"x{n % 3}", f"{n}.50") for n in range(8))]
        found = detect("".join(delimiter.join(row) + "\n" for row in rows).encode(), DeclaredDialect(), True)
        assert (found.dialect.delimiter, found.columns, found.header) == (delimiter, rows[0], True)

    @pytest.mark.parametrize(
        "data",
        [
            b"x;;b\ny;;c\nz;;d\n",  # a middle column without values, perhaps
            b"a,b\nx,y\nz,w\n",
            b",a,,b,\n1,2,,3,\n3,4,,4,\n3,4,,4,\n",
        ],
    )
    def test_in_doubt_the_usual_one_stays(self, data):
        found = detect(data, DeclaredDialect(), True)
        assert len(found.dialect.delimiter) == 1

    def test_blanks_behind_delimiters_stay_text_where_they_may_belong_to_it(self):
        found = detect(b"a, b\nx, y\nz, w\nu, v\n", DeclaredDialect(), True)
        assert found.dialect.delimiter == ","

    def test_one_that_the_file_s_encoding_cannot_write_is_looked_for_in_utf_8(self):
        found = detect("é;è\nà;û\n".encode("latin1"), DeclaredDialect(delimiter="漢"), True)
        assert (found.dialect.encoding, found.dialect.delimiter) == ("utf-8", "漢")
