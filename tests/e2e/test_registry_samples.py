"""The company registry's own layout: zips of one member without extension or header, quoted, ISO-8859-1."""

import datetime
import re
import zipfile
from decimal import Decimal
from pathlib import Path

import pytest

from beam_etl.configuration.layers import load_config
from beam_etl.exit_codes import PUBLISHED
from tests.landed import last_report, parquet_rows, postgres_rows, run

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT.parent / "shared" / "data" / "cnpj"
REGISTRY = ROOT / "examples" / "registry.yaml"

# Written as the registry writes them; used where the samples are not at hand.
WRITTEN = {
    "Cnaes": '"6204000";"Consultoria em tecnologia da informação"\n"0111301";"Cultivo de arroz"\n',
    "Empresas0": '"00000001";"ASSOCIAÇÃO ""EXEMPLO""";"3999";"16";"0,00";"05";""\n',
    "Empresas1": '"33683111";"SERVIÇO; DADOS";"2011";"16";"1061004829,23";"05";"UNIÃO"\n',
    "Estabelecimentos0": (
        '"33683111";"0002";"80";"2";"REGIONAL";"02";"20040522";"00";"";"";"19670630";"6204000";"6201501,6202300";"AVENIDA";'
        '"L2";"601";"MÓDULO G";"ASA NORTE";"70836900";"DF";"9701";"";"";"";"";"";"";"";"";""\n\n'
    ),
    "Motivos": '"00";"SEM  MOTIVO"\n"01";"EXTINÇÃO"\n',
    "Municipios": '"9701";"BRASÍLIA"\n',
    "Naturezas": '"2011";"Empresa Pública"\n',
    "Paises": '"105";"BRASIL"\n',
    "Qualificacoes": '"00";"Não informada"\n"05";"Administrador"\n',
    "Simples": '"33683111";"S";"20140101";"00000000";"N";"0";"00000000"\n',
}
TABLE_OF = {
    "Cnaes": "cnae",
    "Empresas0": "empresa",
    "Empresas1": "empresa",
    "Estabelecimentos0": "estabelecimento",
    "Motivos": "motivo",
    "Municipios": "municipio",
    "Naturezas": "natureza",
    "Paises": "pais",
    "Qualificacoes": "qualificacao",
    "Simples": "simples",
}


def value_of(text, column_type):
    """What a quoted text of the registry means, read by hand."""
    if column_type.startswith("date"):
        return None if text.strip("0") == "" else datetime.datetime.strptime(text, "%Y%m%d").date()
    if column_type.startswith("decimal"):
        return Decimal(text.replace(",", "."))
    return text


@pytest.fixture(scope="module")
def registry(tmp_path_factory, module_database):
    """(lake, DSN, table -> expected rows) of one load."""
    directory = tmp_path_factory.mktemp("registry")
    texts = dict(WRITTEN)
    for path in SAMPLES.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            texts[path.stem] = archive.read(archive.namelist()[0]).decode("iso-8859-1")
    for name, text in texts.items():
        with zipfile.ZipFile(directory / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, text.encode("iso-8859-1"))
    config = load_config(str(REGISTRY), {"input": "x", "output": "y"})
    expected = {}
    for name, text in texts.items():
        types = [column.type for column in config.table_config(TABLE_OF[name]).columns.values()]
        for line in text.splitlines():
            if line:
                fields = [field.replace('""', '"') for field in re.findall(r'"((?:[^"]|"")*)"(?:;|$)', line)]
                row = tuple(value_of(field, type_text) for field, type_text in zip(fields, types, strict=True))
                expected.setdefault(TABLE_OF[name], []).append(row)
    arguments = [f"--input={directory / '*.zip'}", f"--output={directory / 'lake'}", f"--config={REGISTRY}"]
    done = run(*arguments, f"--postgres={module_database}")
    assert (done.code, done.err) == (PUBLISHED, ""), done.out
    return directory / "lake", module_database, expected


def test_every_table_of_the_registry_lands_value_by_value_in_both_sinks(registry):
    lake, dsn, expected = registry
    assert last_report(lake)["tables"].keys() == expected.keys() == set(TABLE_OF.values())
    for table, rows in expected.items():
        assert parquet_rows(lake, table) == postgres_rows(dsn, table) == sorted(rows, key=str), table


def test_nothing_is_rejected_and_the_blank_line_is_no_record(registry):
    lake, _, expected = registry
    entries = last_report(lake)["tables"]
    assert {table: (entry["records_in"], entry["rejects"]) for table, entry in entries.items()} == {
        table: (len(rows), 0) for table, rows in expected.items()
    }
