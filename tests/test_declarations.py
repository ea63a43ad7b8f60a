import pytest

from beam_etl.config import ColumnConfig, TableConfig
from beam_etl.declarations import table_declaration
from beam_etl.reading.evidence import SeenColumn, infer_schema
from beam_etl.schema import ColumnEvidence, ColumnSchema, TableSchema, parse_type

TABLE = TableSchema(
    (
        ColumnSchema("day", parse_type("date(YYYYMMDD)"), null_markers=("0",)),
        ColumnSchema("empty", parse_type("string"), unseen=True),
        ColumnSchema("price", parse_type("decimal(18,2)")),
    )
)


def table(on_new_column="add", **columns):
    return TableConfig(name="t", on_new_column=on_new_column, columns=columns)


def test_a_table_without_predecessor_has_what_is_declared():
    declaration = table_declaration(table(a=ColumnConfig(type="bigint"), b=ColumnConfig()))
    assert [(c.name, str(c.type), c.declared) for c in declaration.columns] == [
        ("a", "bigint", True),
        ("b", "string", False),
    ]
    assert (declaration.table_columns, declaration.refused_columns(["a", "x"])) == ((), [])


def test_the_types_of_the_table_hold_as_if_declared():
    declaration = table_declaration(table(), TABLE)
    assert [(c.name, c.type, c.declared, c.unseen, c.null_markers) for c in declaration.columns] == [
        (c.name, c.type, True, False, c.null_markers) for c in TABLE.columns
    ]
    assert declaration.table_columns == ("day", "empty", "price")


def test_how_a_column_is_written_may_be_declared_anew():
    own = ColumnConfig(type="date(DD/MM/YYYY)", null_markers=("-",))
    column = table_declaration(table(day=own), TABLE).column("day")
    assert (column.type.format, column.null_markers) == ("DD/MM/YYYY", ("-",))
    column = table_declaration(table(day=ColumnConfig(null_markers=("-",))), TABLE).column("day")
    assert (column.type.format, column.null_markers, column.declared) == ("YYYYMMDD", ("-",), True)


@pytest.mark.parametrize(("name", "other"), [("day", "timestamp"), ("price", "decimal(18,3)"), ("empty", "bigint")])
def test_another_type_than_the_table_has_is_refused(name, other):
    with pytest.raises(ValueError, match=rf"column '{name}' of 't' is declared as .* but the table holds"):
        table_declaration(table(**{name: ColumnConfig(type=other)}), TABLE)


def test_columns_of_the_table_come_first_and_new_ones_as_the_files_show_them():
    declaration = table_declaration(table(later=ColumnConfig(type="bigint")), TABLE)
    seen = {
        name: SeenColumn((0, place), ColumnEvidence()) for place, name in enumerate(["new", "price", "newer", "day"])
    }
    schema = infer_schema(seen, declaration)
    assert schema.names == ("day", "empty", "price", "new", "newer", "later")
    assert [column.declared for column in schema.columns] == [True, True, True, False, False, True]


def test_new_columns_may_be_refused():
    declaration = table_declaration(table("fail"), TABLE)
    assert declaration.refused_columns(["price", "day"]) == []
    assert declaration.refused_columns(["z", "price", "new", "z"]) == ["new", "z"]
