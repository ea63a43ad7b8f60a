"""The Python API: what it returns, what it refuses, and that the entry points of former services keep their words."""

import zipfile

import pytest

import beam_etl
from beam_etl import ConversionResult, convert_csvs_to_parquet, load, load_multiple_tables, load_table
from tests.landed import parquet_rows, parquet_table, postgres_rows


@pytest.fixture
def unzipped(tmp_path):
    """Unzipped files as the conversion service found them: flat, in a folder named like the zip, and with its suffix."""
    directory = tmp_path / "unzipped"
    for place, text in {
        "EMPRECSV": "0001;1234,56;SÃO PAULO\n0002;7,00;\n",
        "Empresas1/EMPRECSV.1": "0003;0,10;X\n",
        "Empresas2.zip/[x]*.csv": "0004;1,00;Y\n",
        "Empresas2.zip/xx.csv": "9999;9,99;not asked for\n",
        "CNAECSV": "01;a\n02\n",
    }.items():
        path = directory / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("iso-8859-1"))
    return directory


AUDIT_MAP = {
    "empresa": {"Empresas0.zip": ["EMPRECSV"], "Empresas1.zip": ["EMPRECSV.1"], "Empresas2.zip": ["[x]*.csv"]},
    "cnae": {"Cnaes.zip": ["CNAECSV"]},
}
COLUMNS = {
    "cnpj_basico": "string",
    "capital_social": {"type": "decimal(18,2)", "decimal_mark": ","},
    "ente": "string",
}


def test_convert_csvs_to_parquet_keeps_its_words(unzipped, tmp_path):
    lake = tmp_path / "lake"
    config = {"tables": [{"name": "empresa", "columns": COLUMNS, "dialect": {"header": False}}]}
    results = convert_csvs_to_parquet(AUDIT_MAP, str(unzipped), str(lake), config)
    assert results == {
        "empresa": ConversionResult(
            success=True,
            rows_processed=4,
            rejects=0,
            bytes_processed=sum(
                (unzipped / place).stat().st_size
                for place in ("EMPRECSV", "Empresas1/EMPRECSV.1", "Empresas2.zip/[x]*.csv")
            ),
            error_message=None,
            output_path=str(lake / "empresa"),
        ),
        "cnae": ConversionResult(
            success=False,
            rows_processed=1,
            rejects=1,
            bytes_processed=8,
            error_message=results["cnae"].error_message,
            output_path="",
        ),
    }
    assert "1 of 2 records were rejected (50.00%)" in results["cnae"].error_message
    landed = parquet_table(lake, "empresa")
    assert [tuple(map(str, row.values())) for row in landed.to_pylist()] == [
        ("0001", "1234.56", "SÃO PAULO"),
        ("0002", "7.00", "None"),
        ("0003", "0.10", "X"),
        ("0004", "1.00", "Y"),
    ]


def test_a_file_of_the_audit_map_that_is_missing_stops_everything(unzipped, tmp_path):
    audit_map = {"empresa": {"Empresas0.zip": ["EMPRECSV", "EMPRECSV.9"]}}
    with pytest.raises(
        ValueError, match=r"audit_map: EMPRECSV\.9 of Empresas0\.zip is not in .*; unzip it there first"
    ):
        convert_csvs_to_parquet(audit_map, str(unzipped), str(tmp_path / "lake"))
    assert not (tmp_path / "lake").exists()


def test_several_tables_in_one_run_and_one_failure_leaves_the_others_alone(tmp_path, database):
    (tmp_path / "a.csv").write_text("id,text\n1,x\n2,\n")
    (tmp_path / "b.csv").write_text("id,text\n1\n")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("part1.txt", "id|text\n7|seven\n")
        archive.writestr("part2.txt", "id|text\n8|eight\n")
    result = load_multiple_tables(
        database,
        {"a": [str(tmp_path / "a.csv")], "b": [str(tmp_path / "b.csv")], "c": [str(tmp_path / "c.zip")]},
        str(tmp_path / "lake"),
    )
    assert result["a"] == (True, None, 2)
    assert result["c"] == (True, None, 2)
    published, why, rows = result["b"]
    assert (published, rows) == (False, 0)
    assert "1 of 1 records were rejected" in why
    assert postgres_rows(database, "a") == parquet_rows(tmp_path / "lake", "a") == [(1, "x"), (2, None)]
    assert postgres_rows(database, "c") == [(7, "seven"), (8, "eight")]


def test_load_table_answers_as_the_former_loader_did(tmp_path, database):
    (tmp_path / "a.csv").write_text("id;price\n1;2,50\n")
    tables = [{"name": "prices", "columns": {"price": {"type": "decimal(5,2)", "decimal_mark": ","}}}]
    files = [str(tmp_path / "a.csv")]
    assert load_table(database, "prices", files, str(tmp_path / "lake"), tables=tables) == (True, None, 1)
    assert [tuple(map(str, row)) for row in postgres_rows(database, "prices")] == [("1", "2.50")]
    assert load_table(database, "prices", files, str(tmp_path / "lake"), tables=tables) == (True, None, 1), (
        "already loaded"
    )


def test_settings_win_over_the_job_file_and_flags_of_beam_pass(tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n1,a\n2\n")
    (tmp_path / "job.yaml").write_text(f"output: {tmp_path / 'not_here'}\nmax_reject_ratio: 0\n")
    report = load(
        config=str(tmp_path / "job.yaml"),
        input=[str(tmp_path / "a.csv")],
        output=str(tmp_path / "lake"),
        max_reject_ratio=1,
        beam_args=["--direct_num_workers=1", "--direct_running_mode=in_memory"],
    )
    assert (report["published"], report["tables"]["a"]["rows"], report["tables"]["a"]["rejects"]) == (True, 1, 1)
    assert not (tmp_path / "not_here").exists()


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"ouput": "x"}, "ouput: unknown key; did you mean 'output'?"),
        ({"output": 5}, "output: "),
        ({"max_reject_ratio": 2}, "max_reject_ratio: Input should be less than or equal to 1"),
        (
            {"runner": "DirectRunner", "beam_args": ["--direct_num_workers=-1"]},
            "--direct_num_workers=-1 is not a whole number",
        ),
    ],
)
def test_wrong_settings_are_value_errors_with_a_remedy(tmp_path, settings, complaint):
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(ValueError) as error:
        load(**{"input": [str(tmp_path / "a.csv")], "output": str(tmp_path / "lake"), **settings})
    assert complaint in str(error.value)


def test_the_package_says_what_it_offers():
    assert set(beam_etl.__all__) == {
        *("ConversionResult", "EtlConfig", "convert_csvs_to_parquet", "load", "load_multiple_tables", "load_table"),
    }
    assert all(callable(getattr(beam_etl, name)) for name in beam_etl.__all__)
