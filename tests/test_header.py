import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_etl.model import Dialect
from beam_etl.sources.header import (
    clean_names,
    generated_names,
    is_value,
    looks_like_header,
    names_columns,
    spell_as_declared,
)
from beam_etl.sources.sample_records import split_sample


@pytest.mark.parametrize(
    ("names", "cleaned"),
    [
        ([" id ", "Full  Name\n", "x"], ("id", "Full Name", "x")),
        (["a", "A", "a"], ("a", "A_2", "a_3")),
        (["a", "a", "a_2"], ("a", "a_3", "a_2")),
        (["", "b", " "], ("column_1", "b", "column_3")),
        (["column_2", ""], ("column_2", "column_2_2")),
        (["na\0me"], ("name",)),
        ([], ()),
    ],
)
def test_clean_names(names, cleaned):
    assert clean_names(names) == cleaned


@given(st.lists(st.sampled_from(["a", "A", "a_2", "A_3", "", "column_1", "b"]), max_size=8))
def test_cleaned_names_are_unique_without_regard_to_case_and_stay(names):
    cleaned = clean_names(names)
    assert len({name.casefold() for name in cleaned}) == len(names)
    assert clean_names(cleaned) == cleaned


def test_generated_names():
    assert generated_names(3) == ("column_1", "column_2", "column_3")
    assert generated_names(3, ("id", "name")) == ("id", "name", "column_3")
    assert generated_names(1, ("id", "name")) == ("id",)


def test_names_columns():
    assert names_columns(["ID", " name "], ("id", "name"))
    assert names_columns(["name", "id", "new"], ("id", "name"))
    assert not names_columns(["1", "anna"], ("id", "name"))


def test_declared_spelling_wins():
    assert spell_as_declared([" NAME", "id", "New"], ("Name", "ID")) == ["Name", "ID", "New"]


@pytest.mark.parametrize("cell", [b"1", b"-1.5", b"1.234,56", b"2024-01-31", b"2024-01-31T10:00:00Z", b"1e-5", b"50%"])
def test_values(cell):
    assert is_value(cell)


@pytest.mark.parametrize("cell", [b"", b"id", b"a1", b"-", b"1st", b"x 2024"])
def test_no_values(cell):
    assert not is_value(cell)


@pytest.mark.parametrize(
    ("data", "header"),
    [
        (b"id,name\n1,anna\n2,bob\n", True),
        (b"id,name\n", True),
        (b"name,city\nanna,rome\nbob,oslo\n", True),
        (b"id,x,x\n1,a,b\n", True),
        (b",a\n1,2\n", True),
        (b"Full Name,Born (year)\nanna,\n", True),
        (b'"00";"SEM MOTIVO"\n"01";"EXTINCAO"\n', False),
        (b"1,anna\n2,bob\n", False),
        (b"anna,rome\nanna,oslo\n", False),
        (b"x,x\na,b\n", False),
        (b"a,\nb,c\n", False),
        (b",\n1,2\n", False),
    ],
)
def test_looks_like_header(data, header):
    dialect = Dialect(delimiter=";" if b";" in data else ",")
    assert looks_like_header(list(split_sample(data, dialect, True)))[0] is header
