import pytest

from beam_etl.sources.table_names import TableRule, base_name, table_name, table_of


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("lineitem.1.csv", "lineitem"),
        ("lineitem.csv", "lineitem"),
        ("/data/lake/lineitem.12.csv.gz", "lineitem"),
        ("orders-00001-of-00010.csv.gz", "orders"),
        ("rates_02_of_29.csv", "rates"),
        ("Empresas0", "empresas"),
        ("Empresas0.zip", "empresas"),
        ("part_2024-01.csv", "part"),
        ("orders.2024-01-15.csv", "orders"),
        ("K3241.K03200Y0.D60808.EMPRECSV", "emprecsv"),
        ("K3241.K03200Y0.D60808.ESTABELE", "estabele"),
        ("F.K03200$W.SIMPLES.CSV.D60808", "simples"),
        ("F.K03200$Z.D60808.CNAECSV", "cnaecsv"),
        ("Order Lines (2).CSV", "order_lines"),
        ("São João.csv", "são_joão"),
        ("a.csv", "a"),
        ("v2.csv", "v"),
        ("2024.csv", "2024"),
        ("D60808.csv", "d60808"),
        (".csv", "csv"),
        ("...", "data"),
        ("", "data"),
        ("dir\\sub\\people.csv", "people"),
    ],
)
def test_a_table_is_named_after_its_file(name, table):
    assert table_name(name) == table


def test_the_first_matching_rule_decides_then_the_given_table_then_the_name():
    rules = [TableRule("empresa", ("*EMPRECSV*", "Empresas*")), TableRule("socio", ("re:socio(csv|s)",))]
    assert table_of("/d/Empresas0.zip", "K3241.D60808.X", rules, "other") == "empresa"
    assert table_of("/d/x.zip", "dir/K3241.K03200Y0.D60808.EMPRECSV", rules, "other") == "empresa"
    assert table_of("/d/SOCIOS1.zip", "", rules, "other") == "socio"
    assert table_of("/d/paises.csv", "", rules, "other") == "other"
    assert table_of("/d/Paises1.csv", "", rules, None) == "paises"
    assert table_of("/d/x.zip", "Paises1.csv", rules, None) == "paises"


def test_patterns_see_base_names_and_the_whole_uri_without_regard_to_case():
    assert table_of("gs://b/2024/Data.csv", "", [TableRule("t", ("GS://*/2024/*",))], None) == "t"
    assert table_of("/in/data.csv", "", [TableRule("t", ("in*",))], "other") == "other"
    assert table_of("/in/data.csv", "", [TableRule("t", ("DATA.C?V",))], "other") == "t"


def test_a_rule_with_a_bad_expression_is_refused():
    with pytest.raises(ValueError, match=r"pattern 're:\(': not a valid regular expression"):
        TableRule("t", ("*.csv", "re:("))


def test_base_name():
    assert [base_name(n) for n in ("a/b.csv", "a\\b.csv", "b.csv", "gs://x/y/")] == ["b.csv", "b.csv", "b.csv", "y"]
