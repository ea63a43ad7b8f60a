import itertools

import pytest

from beam_etl.sources.declared_dialect import DeclaredDialect
from beam_etl.sources.inspection import inspect_file
from beam_etl.sources.table_headers import unite_headers
from tests.awkward_archives import source_file
from tests.polluted.reading import read_inspected

HEADED = b"person,town\nanna,rome\nbob,oslo\nanna,lima\n"


@pytest.fixture
def unite(tmp_path):
    """The files of one table after all were looked at together."""

    def unite_files(*contents, declared=DeclaredDialect()):
        files = []
        for file_id, data in enumerate(contents):
            path = tmp_path / f"{file_id}.csv"
            path.write_bytes(data)
            files.append(inspect_file(source_file(path, file_id=file_id), declared, str(tmp_path)))
        united = unite_headers(files)
        for order in itertools.permutations(files):
            assert unite_headers(order) == united
        assert unite_headers(united) == united
        return united

    return unite_files


def test_a_header_alone_stays(unite):
    (file,) = unite(HEADED)
    assert (file.columns, file.body_start, file.header_lines) == (("person", "town"), 12, 1)
    assert file.doubtful_header_lines == 1


def test_headers_in_the_same_words_stay(unite):
    files = unite(HEADED, b"person,city\ncarl,bonn\n", b"PERSON,town\ndan,quito\neva,rome\n")
    assert [file.columns for file in files] == [("person", "town"), ("person", "city"), ("PERSON", "town")]


def test_first_records_that_no_other_file_repeats_are_records(unite):
    files = unite(b"anna,rome\nbob,oslo\n", b"carl,bonn\ndan,quito\n", b"eva,lima\nfinn,accra\n")
    assert [file.columns for file in files] == [("column_1", "column_2")] * 3
    assert [file.body_start for file in files] == [0, 0, 0]
    assert read_inspected(files[1]).rows == (("carl", "bonn"), ("dan", "quito"))
    assert files[0].skipped == ()
    assert files[0].evidence[-1] == "no header: no other file of the table has a column of such a name"


def test_parts_of_a_split_file_take_the_names_of_the_first(unite):
    files = unite(b"id,person\n1,anna\n2,bob\n", b"3,carl\n4,dan\n", b"5,eva\n")
    assert [file.columns for file in files] == [("id", "person")] * 3
    assert read_inspected(files[2]).rows == (("5", "eva"),)


def test_where_headers_disagree_nothing_is_named(unite):
    files = unite(b"id,person\n1,anna\n", b"id,town\n2,rome\n", b"3,carl\n")
    assert files[2].columns == ("column_1", "column_2")


def test_another_width_says_nothing(unite):
    files = unite(HEADED, b"1,carl,7\n2,dan,8\n")
    assert [file.columns for file in files] == [("person", "town"), ("column_1", "column_2", "column_3")]


def test_a_header_above_values_is_no_matter_of_doubt(unite):
    files = unite(b"id,person\n1,anna\n", b"number,name\n2,bob\n")
    assert [file.columns for file in files] == [("id", "person"), ("number", "name")]


def test_declared_names_and_headers_stay(unite):
    declared = DeclaredDialect(columns=("a", "b"))
    assert [file.columns for file in unite(b"x,y\n", b"z,w\n", declared=declared)] == [("a", "b")] * 2
    declared = DeclaredDialect(header=True)
    assert [file.columns for file in unite(b"x,y\np,q\n", b"z,w\np,q\n", declared=declared)] == [("x", "y"), ("z", "w")]


def test_a_header_below_a_title_is_no_matter_of_doubt(unite):
    first, second = unite(b"Title\nperson,town\nbob,oslo\nbob,lima\n", b"carl,bonn\ndan,quito\n")
    assert (first.columns, first.doubtful_header_lines) == (("person", "town"), 0)
    assert (second.columns, second.body_start, second.header_lines) == (("person", "town"), 0, 0)
    assert read_inspected(second).rows == (("carl", "bonn"), ("dan", "quito"))
