"""The demo dump against readers that share nothing with it: zipfile, csv, and greps of the bytes."""

import collections
import csv
import datetime
import decimal
import fnmatch
import gzip
import hashlib
import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from beam_etl.configuration.layers import load_config
from beam_etl.model import REJECT_CODES

EXAMPLES = Path(__file__).parents[1] / "examples"
DAY = "date(YYYYMMDD)"
REGISTRY_COLUMNS = {
    "empresa": "cnpj_basico, razao_social, natureza_juridica, qualificacao_responsavel, capital_social, porte,"
    " ente_federativo_responsavel",
    "estabelecimento": "cnpj_basico, cnpj_ordem, cnpj_dv, identificador_matriz_filial, nome_fantasia,"
    " situacao_cadastral, data_situacao_cadastral, motivo_situacao_cadastral, nome_cidade_exterior, pais,"
    " data_inicio_atividade, cnae_fiscal_principal, cnae_fiscal_secundaria, tipo_logradouro, logradouro, numero,"
    " complemento, bairro, cep, uf, municipio, ddd_1, telefone_1, ddd_2, telefone_2, ddd_fax, fax, correio_eletronico,"
    " situacao_especial, data_situacao_especial",
    "socio": "cnpj_basico, identificador_socio, nome_socio, cnpj_cpf_socio, qualificacao_socio,"
    " data_entrada_sociedade, pais, representante_legal, nome_representante, qualificacao_representante, faixa_etaria",
    "simples": "cnpj_basico, opcao_simples, data_opcao_simples, data_exclusao_simples, opcao_mei, data_opcao_mei,"
    " data_exclusao_mei",
    **dict.fromkeys(("cnae", "motivo", "municipio", "natureza", "pais", "qualificacao"), "codigo, descricao"),
}
OFFICIAL_NAMES = {
    "empresa": ("Empresas9.zip", "K3241.K03200Y9.D60808.EMPRECSV"),
    "estabelecimento": ("Estabelecimentos9.zip", "K3241.K03200Y9.D60808.ESTABELE"),
    "socio": ("Socios9.zip", "K3241.K03200Y9.D60808.SOCIOCSV"),
    "simples": ("Simples.zip", "F.K03200$W.SIMPLES.CSV.D60808"),
    "cnae": ("Cnaes.zip", "F.K03200$Z.D60808.CNAECSV"),
    "motivo": ("Motivos.zip", "F.K03200$Z.D60808.MOTICSV"),
    "municipio": ("Municipios.zip", "F.K03200$Z.D60808.MUNICCSV"),
    "natureza": ("Naturezas.zip", "F.K03200$Z.D60808.NATJUCSV"),
    "pais": ("Paises.zip", "F.K03200$Z.D60808.PAISCSV"),
    "qualificacao": ("Qualificacoes.zip", "F.K03200$Z.D60808.QUALSCSV"),
}


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_dump", EXAMPLES / "generate_dump.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


generate_dump = load_generator()


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    """A small dump: (folder, truth)."""
    folder = tmp_path_factory.mktemp("dump")
    return folder, generate_dump.write_dump(folder, seed=3, scale=0.05)


@pytest.fixture(scope="module")
def config():
    return load_config(str(EXAMPLES / "registry.yaml"), {"input": "dump", "output": "lake"})


def plain_bytes(folder: Path, file) -> bytes:
    path = folder / "input" / file.file
    if file.member:
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == [file.member]
            return archive.read(file.member)
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def rejects_of(truth, file) -> list:
    return [r for r in truth.rejects if (r.file, r.member) == (file.file, file.member)]


def read_csv(plain: bytes, encoding: str, delimiter: str) -> list[list[str]]:
    """The records by the csv module, strictly; blank lines left out."""
    text = plain.decode("utf-16" if encoding == "utf-16-le" else encoding)
    return [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True) if row]


def without_rejects(plain: bytes, rejects: list) -> bytes:
    kept, at = b"", 0
    for reject in rejects:
        kept += plain[at : reject.byte_start]
        at = reject.byte_end + 1
    return kept + plain[at:]


def value_of(text: str, column_type: pa.DataType) -> object:
    """A value of the csv module as the load must type it; an empty text is None, as csv cannot tell it from NULL."""
    if text == "" or (pa.types.is_date(column_type) and text in ("0", "00000000")):
        return None
    if pa.types.is_date(column_type):
        return datetime.datetime.strptime(text, "%Y-%m-%d" if "-" in text else "%Y%m%d").date()
    if pa.types.is_decimal(column_type):
        return decimal.Decimal(text.replace(",", "."))
    return int(text) if pa.types.is_integer(column_type) else text


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_seed_gives_same_bytes(dump, tmp_path):
    folder, _ = dump
    generate_dump.write_dump(tmp_path, seed=3, scale=0.05)
    assert digests(tmp_path) == digests(folder)


def test_another_seed_changes_every_big_file_but_no_name(dump, tmp_path):
    folder, _ = dump
    generate_dump.write_dump(tmp_path, seed=4, scale=0.05)
    first, second = digests(folder / "input"), digests(tmp_path / "input")
    assert list(first) == list(second)
    lookups = {"Cnaes.zip", "Motivos.zip", "Municipios.zip", "Naturezas.zip", "Paises.zip", "Qualificacoes.zip"}
    assert {name for name in first if first[name] == second[name]} == lookups


def test_files_and_members_have_the_official_names(dump):
    folder, truth = dump
    parts = {"empresa": 3, "estabelecimento": 3, "socio": 2}
    expected = {
        (table, archive.replace("9", str(part)), member.replace("Y9", f"Y{part}"))
        for table, (archive, member) in OFFICIAL_NAMES.items()
        for part in range(parts.get(table, 1))
    }
    expected |= {("orders", f"orders.{part}.csv", "") for part in (1, 2, 3)}
    expected |= {("lineitem", f"lineitem.{part}.csv", "") for part in (1, 2, 3)} | {
        ("lineitem", "lineitem.4.csv.gz", "")
    }
    assert {(file.table, file.file, file.member) for file in truth.files} == expected
    written = {path.name for path in (folder / "input").iterdir()}
    assert written == {file.file for file in (*truth.files, *truth.rejected_files)}


def test_csv_module_reads_the_truth_once_the_rejects_are_cut_out(dump):
    folder, truth = dump
    at = collections.Counter()
    for file in truth.files:
        plain, rejects = plain_bytes(folder, file), rejects_of(truth, file)
        rows = read_csv(without_rejects(plain, rejects), file.encoding, ";" if file.member else ",")
        table = truth.tables[file.table]
        header = table.schema.names if file.member else rows.pop(0)
        assert file.records == file.rows + file.rejects == len(rows) + len(rejects), file
        expected = table.slice(at[file.table], file.rows)
        at[file.table] += file.rows
        for column, texts in zip(header, zip(*rows, strict=True), strict=True):
            kind = table.schema.field(column).type
            got = [value or None if kind == pa.string() else value for value in expected[column].to_pylist()]
            assert got == [value_of(text, kind) for text in texts], (file.file, column)
        for column in set(table.schema.names) - set(header):
            assert expected[column].null_count == file.rows, (file.file, column)
    assert at == {name: table.num_rows for name, table in truth.tables.items()}


def test_extents_lines_and_numbers_of_rejects(dump):
    folder, truth = dump
    for file in truth.files:
        plain, rejects = plain_bytes(folder, file), rejects_of(truth, file)
        for position, reject in enumerate(rejects):
            assert plain[reject.byte_start : reject.byte_end] == reject.raw
            assert plain[reject.byte_start - 1 : reject.byte_start] == b"\n" == plain[reject.byte_end :][:1]
            before = plain[: reject.byte_start]
            assert reject.line == before.count(b"\n") + 1
            good_before = read_csv(without_rejects(before, rejects[:position]), file.encoding, ";")
            assert reject.record == len(good_before) + position + 1
            assert reject.code in REJECT_CODES


def test_rejects_are_those_planted(dump):
    _, truth = dump
    counts = collections.Counter((r.table, r.code, r.column) for r in truth.rejects)
    assert counts == {
        ("empresa", "malformed_quoting", ""): 3,
        ("empresa", "nul_character", "razao_social"): 3,
        ("estabelecimento", "malformed_quoting", ""): 6,
        ("estabelecimento", "nul_character", "nome_fantasia"): 3,
        ("estabelecimento", "bad_value", "data_situacao_cadastral"): 9,
        ("estabelecimento", "ragged_record", ""): 6,
        ("socio", "malformed_quoting", ""): 1,
        ("socio", "bad_value", "data_entrada_sociedade"): 3,
        ("simples", "bad_value", "data_opcao_simples"): 3,
    }
    fields = sorted(r.raw.count(b'";"') + 1 for r in truth.rejects if r.code == "ragged_record")
    assert fields == [29, 29, 29, 31, 31, 31]
    for name, table in truth.tables.items():
        rejects = sum(r.table == name for r in truth.rejects)
        assert rejects < 0.01 * (table.num_rows + rejects), name


@pytest.mark.parametrize(
    "table, text",
    [
        ("estabelecimento", '"MERCADO\0SÃO JOÃO"'),
        ("estabelecimento", ';"RUA "QUEBRADA\nresto da rua";"'),
        ("socio", '"JOÃO "QUEBRADO\nDA SILVA"'),
        ("estabelecimento", '"PADARIA; CAFÉ\nE CONFEITARIA"'),
        ("estabelecimento", ';"A "Q" B";'),
        ("estabelecimento", ';"BLOCO A\\";'),
        *(("estabelecimento", f';"{date}";') for date in ("0", "00000000", "2021221", "37981131", "SEM DATA")),
        ("empresa", ';"999999999999,00";'),
        ("estabelecimento", ';"1310100";'),
        ("estabelecimento", ';"EX";'),
        ("estabelecimento", ';"RUA  DAS   FLORES";'),
        ("estabelecimento", ';"BAR ""DO ZÉ""";'),
        ("estabelecimento", '";"A MAIS"\n'),
    ],
)
def test_every_file_of_the_table_holds_the_fault(dump, table, text):
    folder, truth = dump
    files = [file for file in truth.files if file.table == table and file.encoding != "utf-16-le"]
    assert files
    for file in files:
        assert text.encode(file.encoding) in plain_bytes(folder, file), file


def test_a_blank_line_follows_every_broken_record_and_the_first_big_file(dump):
    folder, truth = dump
    for file in truth.files:
        plain = plain_bytes(folder, file)
        broken = [r for r in rejects_of(truth, file) if b"\n" in r.raw]
        assert all(plain[r.byte_end : r.byte_end + 2] == b"\n\n" for r in broken)
        if file.member and file.encoding != "utf-16-le":
            blank_end = file.file == "Estabelecimentos0.zip"
            assert plain.count(b"\n\n") == len(broken) + blank_end and plain.endswith(b"\n\n") == blank_end


def test_encodings_differ_within_a_table(dump):
    folder, truth = dump
    contents = {file.file: plain_bytes(folder, file) for file in truth.files if file.member}
    assert contents["Socios1.zip"].startswith(b"\xff\xfe")
    high = {name: content for name, content in contents.items() if max(content) > 0x7F and name != "Socios1.zip"}
    utf_8 = set()
    for name, content in high.items():
        try:
            content[: 256 << 10].decode("utf-8", "strict")
            utf_8.add(name)
        except UnicodeDecodeError as error:
            assert not set(content) & set(range(0x80, 0xA0)), (name, error)  # only ISO-8859-1 letters, not cp1252
    assert utf_8 == {"Estabelecimentos1.zip"}
    assert {"Estabelecimentos0.zip", "Estabelecimentos2.zip", "Socios0.zip", "Empresas0.zip", "Cnaes.zip"} <= set(high)


def test_values_of_planted_but_loaded_faults(dump):
    _, truth = dump
    table = truth.tables["estabelecimento"]
    for column, value in (
        ("nome_fantasia", "PADARIA; CAFÉ\nE CONFEITARIA"),
        ("complemento", "BLOCO A\\"),
        ("logradouro", "RUA  DAS   FLORES"),
        ("cep", "1310100"),
        ("uf", "EX"),
        ("nome_fantasia", 'BAR "DO ZÉ"'),
    ):
        assert pc.sum(pc.equal(table[column], value)).as_py() == 3, (column, value)
    assert table["data_situacao_cadastral"].null_count == 9
    assert truth.tables["simples"]["data_opcao_simples"].null_count == 3
    capital = truth.tables["empresa"]["capital_social"].to_pylist()
    assert capital.count(decimal.Decimal("999999999999.00")) == 3
    for name in REGISTRY_COLUMNS:
        for field in truth.tables[name].schema:
            if field.type == pa.string():
                assert truth.tables[name][field.name].null_count == 0, "everything is quoted: no text is NULL"
    keys = truth.tables["empresa"]["cnpj_basico"].to_pylist()
    assert len(set(keys)) == len(keys) and any(key.startswith("0") for key in keys)
    assert any(key[0].isalpha() for key in keys)


def test_duplicates_are_kept(dump):
    _, truth = dump
    for name, files in (("estabelecimento", 3), ("socio", 2)):
        rows = [tuple(row.values()) for row in truth.tables[name].to_pylist()]
        assert len(rows) - len(set(rows)) == files
    partners = collections.defaultdict(set)
    for row in truth.tables["socio"].to_pylist():
        partners[row["cnpj_basico"], row["nome_socio"], row["cnpj_cpf_socio"]].add(row["qualificacao_socio"])
    assert sum(len(qualifications) > 1 for qualifications in partners.values()) == 2


def test_corrupt_archives(dump):
    folder, truth = dump
    assert [(f.table, f.file, f.member, f.code) for f in truth.rejected_files] == [
        ("socio_corrompido", "SociosCorrompidos0.zip", "", "corrupt_file"),
        ("socio_corrompido", "SociosCorrompidos1.zip", "K3241.K03200Y1.D60808.SOCIOCSV", "corrupt_file"),
    ]
    assert truth.unpublished_tables == ("socio_corrompido",) and truth.exit_code == 3
    truncated = folder / "input" / "SociosCorrompidos0.zip"
    assert truncated.read_bytes().startswith(b"PK\x03\x04") and not zipfile.is_zipfile(truncated)
    with zipfile.ZipFile(folder / "input" / "SociosCorrompidos1.zip") as archive:
        (member,) = archive.infolist()
        with pytest.raises(zipfile.BadZipFile, match="Bad CRC-32"):
            archive.read(member)


def test_inferred_tables(dump):
    folder, truth = dump
    integers = dict.fromkeys(("l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_quantity"), "int64")
    assert {field.name: str(field.type) for field in truth.tables["lineitem"].schema} == {
        **integers,
        "l_extendedprice": "decimal128(18, 2)",
        "l_discount": "decimal128(18, 2)",
        "l_tax": "decimal128(18, 4)",
        **dict.fromkeys(("l_returnflag", "l_linestatus"), "string"),
        **dict.fromkeys(("l_shipdate", "l_commitdate", "l_receiptdate"), "date32[day]"),
        **dict.fromkeys(("l_shipinstruct", "l_shipmode", "l_comment"), "string"),
    }
    files = [file for file in truth.files if not file.member]
    contents = {file.file: plain_bytes(folder, file) for file in files}
    late = [name for name, content in contents.items() if b",0.0625," in content]
    assert late == ["lineitem.3.csv"] and contents[late[0]].rindex(b",0.0625,") > len(contents[late[0]]) - 500
    for table in ("orders", "lineitem"):
        comments = truth.tables[table][f"{table[0]}_comment"]
        written = b"".join(content for name, content in contents.items() if name.startswith(table))
        assert comments.null_count == written.count(b",\n") > 0  # unquoted and empty
        assert pc.sum(pc.equal(comments, "")).as_py() == written.count(b',""\n') > 0  # quoted and empty
        for mark in (",", '"', "\n"):
            assert pc.any(pc.match_substring(comments, mark)).as_py(), (table, mark)
    assert truth.tables["lineitem"]["l_commitdate"].null_count > 0


def test_a_part_of_orders_has_another_layout(dump):
    folder, truth = dump
    headers = [(folder / "input" / f"orders.{n}.csv").read_text().split("\n", 1)[0].split(",") for n in (1, 2, 3)]
    assert headers[0] == headers[1]
    assert set(headers[2]) - set(headers[0]) == {"o_channel"} and set(headers[0]) - set(headers[2]) == {"o_clerk"}
    orders = truth.tables["orders"]
    assert orders.schema.names == [*headers[0], "o_channel"]
    per_file = orders.num_rows // 3
    assert orders["o_channel"].null_count == 2 * per_file and orders["o_clerk"].null_count == per_file


def test_truth_on_disk_is_the_truth_returned(dump):
    folder, truth = dump
    for name, table in truth.tables.items():
        assert pq.read_table(folder / "truth" / f"{name}.parquet").equals(table), name
    rejects = json.loads((folder / "truth" / "rejects.json").read_text(encoding="utf-8"))
    names = ("table", "file", "member", "record", "line", "byte_start", "byte_end", "code", "column")
    assert {key for reject in rejects["records"] for key in reject} == {*names, "raw", "raw_encoding"}
    assert [
        (*(r[name] for name in names), r["raw"].encode(r["raw_encoding"]), r["raw_encoding"])
        for r in rejects["records"]
    ] == [(*(getattr(r, name) for name in names), r.raw, r.encoding) for r in truth.rejects]
    assert [tuple(f.values()) for f in rejects["files"]] == [
        (f.table, f.file, f.member, f.code) for f in truth.rejected_files
    ]
    books = json.loads((folder / "truth" / "books.json").read_text(encoding="utf-8"))
    assert {name: (t["rows"], t["rejects"]) for name, t in books["tables"].items()} == {
        name: (table.num_rows, sum(r.table == name for r in truth.rejects)) for name, table in truth.tables.items()
    }
    assert sum(file["rejects"] for file in books["files"]) == len(truth.rejects)
    assert (books["unpublished_tables"], books["exit_code"]) == (["socio_corrompido"], 3)


def test_scale_multiplies_rows_and_keeps_faults(dump, tmp_path):
    _, small = dump
    truth = generate_dump.write_dump(tmp_path, seed=3, scale=0.6)
    assert {name: truth.tables[name].num_rows for name in ("orders", "lineitem")} == {"orders": 9000, "lineitem": 36000}
    assert [(r.file, r.code, r.column) for r in truth.rejects] == [(r.file, r.code, r.column) for r in small.rejects]


@pytest.mark.parametrize("seed, scale", [(-1, 1.0), (1, 0.0), (1, -2.0), (1, float("nan"))])
def test_senseless_arguments_are_refused_before_anything_is_written(tmp_path, seed, scale):
    with pytest.raises(ValueError, match=r"seed of at least 0 and a scale above 0"):
        generate_dump.write_dump(tmp_path / "new", seed, scale)
    assert not (tmp_path / "new").exists()


def test_command_line(tmp_path):
    command = [sys.executable, str(EXAMPLES / "generate_dump.py"), "--output", str(tmp_path), "--scale", "0.05"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "24 files" in done.stdout and "37 records and 2 files to be rejected" in done.stdout
    assert len(list((tmp_path / "input").iterdir())) == 24
    assert (tmp_path / "truth" / "rejects.json").is_file()


def test_job_declares_every_column_of_the_registry(config):
    declared = {table.name: table for table in config.tables}
    assert set(declared) == {*REGISTRY_COLUMNS, "socio_corrompido"}
    for name, columns in REGISTRY_COLUMNS.items():
        assert list(declared[name].columns) == columns.split(", ")
        for column, spec in declared[name].columns.items():
            is_day = column.startswith("data_")
            assert spec.type == (DAY if is_day else "decimal(18,2)" if column == "capital_social" else "string")
            assert spec.null_markers == (("0", "00000000") if is_day else None)
    assert declared["empresa"].columns["capital_social"].decimal_mark == ","
    assert declared["socio_corrompido"].columns == declared["socio"].columns


def test_job_types_are_those_of_the_truth(dump, config):
    _, truth = dump
    for table in config.tables:
        if table.name in truth.tables:
            types = {name: column.column_type().arrow for name, column in table.columns.items()}
            assert pa.schema(types.items()) == truth.tables[table.name].schema, table.name
    assert set(truth.tables) == {*REGISTRY_COLUMNS, "orders", "lineitem"}


def test_job_gives_every_file_and_member_its_table(dump, config):
    _, truth = dump

    def table_of(*names: str) -> str | None:
        matches = (t.name for t in config.tables for g in t.files for n in names if n and fnmatch.fnmatch(n, g))
        return next(matches, None)

    for file in (*truth.files, *truth.rejected_files):
        expected = None if file.table in ("orders", "lineitem") else file.table
        assert table_of(file.file, file.member) == expected, file
    for name, (archive, member) in OFFICIAL_NAMES.items():
        assert table_of(archive) == name, "known by the archive alone, as when its directory is damaged"
        assert table_of(member) == name, "known by the member alone, as when it was unpacked or the archive renamed"
    for name in ("/tmp/test_simples_estabele0/orders.csv", "socios/notes.csv"):
        assert table_of(name) is None
