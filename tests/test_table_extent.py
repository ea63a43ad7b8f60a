import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_etl.model import Dialect
from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.dialect import detect
from beam_etl.sources.sample_records import split_sample
from beam_etl.sources.table_extent import find_footer, footer_of_lines, lines_at_start

ROWS = b"id,name,sum\n1,anna,2.50\n2,bob,3.50\n3,carl,4.50\n"
COMMA = Dialect()


def _skipped(data, declared=DeclaredDialect()):
    found = detect(data, declared, True)
    return [data[part.start : part.end] for part in found.skipped], found.columns


@pytest.mark.parametrize(
    "preamble",
    [
        b"Report of May\n",
        b"Report of May\n\n",
        b"Report of May,,\n",
        b"Author,Anna\nDate,2024-05-01\n\n",
        b"# all rows\n",
        b"# all rows, of all\n",
        b'Report "A"\nby hand\n',
    ],
)
def test_lines_before_a_header_are_skipped(preamble):
    parts, columns = _skipped(preamble + ROWS)
    assert columns == ("id", "name", "sum")
    assert b"".join(parts) == preamble + b"id,name,sum\n"
    assert len(parts) == 2


def test_skipped_ranges_say_why():
    data = b"\xef\xbb\xbfsep=;\nReport\nid;name\n1;anna\n2;bob\n"
    found = detect(data, DeclaredDialect(), True)
    assert [(data[part.start : part.end], part.reason) for part in found.skipped] == [
        (b"\xef\xbb\xbf", "byte order mark"),
        (b"sep=;\n", "sep line"),
        (b"Report\n", "preamble"),
        (b"id;name\n", "header"),
    ]
    assert (found.dialect.delimiter, found.header_lines, found.body_start) == (
        ";",
        3,
        len(data) - len(b"1;anna\n2;bob\n"),
    )


@pytest.mark.parametrize(
    "data",
    [
        b"anna,rome\nanna,oslo,x\ncarl,oslo,y\nanna,oslo,z\n",  # ragged, but none of its records is a header
        b"1,2\n1,2,3\n4,5,6\n7,8,9\n",
        b"first,second\nanna,rome,x\nbob,oslo,y\ncarl,bonn,z\n",  # two filled cells above mere text: no title
    ],
)
def test_what_could_be_a_record_is_not_skipped(data):
    assert all(part.reason == "header" for part in detect(data, DeclaredDialect(), True).skipped)


class TestDeclared:
    def test_skip_lines(self):
        assert _skipped(b"x,y,z\n\n" + ROWS, DeclaredDialect(skip_lines=2)) == (
            [b"x,y,z\n\n", b"id,name,sum\n"],
            ("id", "name", "sum"),
        )
        assert _skipped(b"Report\n" + ROWS, DeclaredDialect(skip_lines=0))[1] == ("Report",)

    def test_comment(self):
        found = detect(b"id,name\n1,anna\n!2,bob\n", DeclaredDialect(comment="!"), True)
        assert found.dialect.comment == "!"
        between = b"id,name\n1,anna\n# checked\n2,bob\n"
        assert detect(between, DeclaredDialect(comment=""), True).dialect.comment == ""

    def test_line_end(self):
        assert detect(b"a,b\n1,x\ry\n", DeclaredDialect(line_end="any"), True).dialect.line_end == "any"

    def test_a_header_below_a_title(self):
        declared = DeclaredDialect(columns=("name", "city"))
        found = detect(b"Report\nname,city\nanna,rome\n", declared, True)
        assert (found.columns, found.body_start) == (("name", "city"), 17)

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"comment": "##"}, "comment '##': must be one ASCII character"),
            ({"comment": "#", "delimiter": "#"}, "delimiter and comment are both '#'"),
            ({"skip_lines": -1}, "skip_lines -1: must be 0 lines or more"),
            ({"footer_lines": -1}, "footer_lines -1: must be 0 lines or more"),
        ],
    )
    def test_what_cannot_be_is_refused(self, values, message):
        with pytest.raises(ValueError, match=message):
            DeclaredDialect(**values)


class TestComments:
    def test_between_records(self):
        data = b"id,name\n1,anna\n# checked\n2,bob\n# checked too\n3,carl\n"
        found = detect(data, DeclaredDialect(), True)
        assert (found.dialect.comment, found.columns, found.confidence) == ("#", ("id", "name"), 1.0)

    def test_above_a_row_of_totals(self):
        data = b"id,name,sum\n1,anna,2.50\n# checked\n2,bob,3.50\nTotal,,6.00\n"
        assert detect(data, DeclaredDialect(), True).dialect.comment == "#"

    @pytest.mark.parametrize(
        "data",
        [
            b"id,name\n1,anna\n#2,bob\n3,carl\n",  # as many fields as the others: a record
            b"tag,name\nx,anna\n#y\nz,bob\n",  # a record of a text column may begin so
            b"id,name\n1,anna\n2,#bob\n",
        ],
    )
    def test_what_could_be_a_record_is_none(self, data):
        assert detect(data, DeclaredDialect(), True).dialect.comment == ""


class TestHeaderRows:
    @pytest.mark.parametrize(
        ("data", "columns"),
        [
            (b"time,mass\ns,kg\n1,2\n3,4\n5,6\n", ("time s", "mass kg")),
            (b"who,who,paid\nid,name,sum\n1,anna,2\n2,bob,3\n3,carl,4\n", ("who id", "who name", "paid sum")),
            (b"a,b\na,b\n1,2\n3,4\n5,6\n", ("a", "b")),
            (b"id,sum\nN/A,N/A\n1,2\n3,4\n5,6\n", ("column_1", "column_2")),
            (b"id,name\nx,anna\n2,bob\n3,carl\n", ("id", "name")),
        ],
    )
    def test_names_over_two_rows(self, data, columns):
        found = detect(data, DeclaredDialect(), True)
        if columns[0] == "column_1":
            assert found.header_lines <= 1
        else:
            assert found.columns == columns

    def test_a_delimiter_at_every_record_s_end(self):
        assert detect(b"a,b\n1,2,\n3,4,\n", DeclaredDialect(), True).columns == ("a", "b", "column_3")
        assert detect(b"a,b,\n1,2\n3,4\n", DeclaredDialect(), True).columns == ("a", "b")


class TestFooter:
    @pytest.mark.parametrize(
        "footer",
        [
            b"\nSource: the registry\n",
            b"\nSource: the registry\nAll rights reserved\n",
            b"End of report\n",
            b"(3 rows)\n",
            b"Total,,10.50\n",
            b"Total:,,10.50\n\nSource: the registry\n",
            b"\nNot final yet",
        ],
    )
    def test_what_is_no_record(self, footer):
        data = ROWS + footer
        found = find_footer(data, COMMA, 3, len(b"id,name,sum\n"))
        assert found is not None
        assert data[found[0] :] == footer.lstrip(b"\n")

    @pytest.mark.parametrize(
        "rest",
        [
            b"",
            b"4,dan,5.50\n",
            b"4,dan\n",
            b"4",
            b"\n4\n",
            b"dan\n",
            b"\nid,town\n1,rome\n2,oslo\n",
            b"\nname\nanna\nbob\n",
            b"4,Total,5.50\n",
            b'"End of report\n',
        ],
    )
    def test_what_could_be_one(self, rest):
        assert find_footer(ROWS + rest, COMMA, 3, 12) is None

    def test_one_record_is_enough(self):
        assert find_footer(b"1,anna,2.50\nTotal,,2.50\n", COMMA, 3, 0) == (12, "footer: row of totals")
        assert find_footer(b"Total,,2.50\n", COMMA, 3, 0) is None

    def test_a_name_that_means_total_stays_where_text_stands(self):
        assert find_footer(b"anna,2\nbob,3\ncarl,4\nTotal,9\n", COMMA, 2, 0) is None

    def test_lines(self):
        assert footer_of_lines(b"a\nb\r\nc", 1) == 5
        assert footer_of_lines(b"a\nb\r\nc\n", 2) == 2
        assert footer_of_lines(b"a\n\n", 1) == 2
        assert footer_of_lines(b"a\nb\n", 0) == 4
        assert footer_of_lines(b"a\nb\n", 9) == 0
        assert lines_at_start(b"xx\na\r\nb\rc", 2, 3) == 8
        assert lines_at_start(b"a\nb", 0, 5) == 3
        assert lines_at_start(b"a\nb", 0, 0) == 0


@given(st.text(alphabet='ab1,"# \nT', max_size=60).map(str.encode), st.integers(1, 4))
def test_any_bytes(data, n_fields):
    found = find_footer(data, COMMA, n_fields, 0)
    if found:
        starts = [record.start for record in split_sample(data, COMMA, True)]
        assert found[0] in starts


@given(st.text(alphabet='ab1,;"# \ns=ep', max_size=80).map(str.encode), st.booleans())
def test_skipped_ranges_tile_what_is_before_the_body(data, is_whole):
    found = detect(data, DeclaredDialect(), is_whole)
    position = 0
    for part in found.skipped:
        assert part.start == position < part.end
        assert part.reason
        position = part.end
    assert position == found.body_start
