"""Writes a small dump with every fault that such dumps have in the wild, and the truth about it.

    python examples/generate_dump.py --output DIR [--seed N] [--scale X]

DIR/input holds a company registry (zips of quoted, `;`-separated ISO-8859-1 text without header, declared in
registry.yaml) and TPC-H-like orders and lineitem (plain and gzipped CSV with header, not declared anywhere).
DIR/truth holds what loading DIR/input must end in: `<table>.parquet` with the typed rows in the order of the files,
`rejects.json` with every rejected record and file, `books.json` with the counts of every file and table.
The same seed and scale give the same bytes. The truth is made from the values before they are written; nothing here
reads delimited text, and nothing of beam_etl is used. It is the truth of a load with PostgreSQL as a target, which
cannot hold NUL characters, and with the default policies.
"""

import argparse
import dataclasses
import datetime
import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

Value = str | None
Row = list[Value]
Columns = dict[str, pa.DataType]

REGISTRY_DATE = "D60808"
ARCHIVE_TIME = (2026, 8, 8, 0, 0, 0)
DATE_NULL_MARKERS = ("", "0", "00000000")
# Rejects are few and fixed in number; below these sizes they would exceed one record in a hundred.
SMALLEST_TABLE_ROWS = 3000


def strings(names: str) -> Columns:
    return dict.fromkeys(names.split(), pa.string())


EMPRESA = strings(
    "cnpj_basico razao_social natureza_juridica qualificacao_responsavel capital_social porte"
    " ente_federativo_responsavel"
) | {"capital_social": pa.decimal128(18, 2)}
ESTABELECIMENTO = strings(
    "cnpj_basico cnpj_ordem cnpj_dv identificador_matriz_filial nome_fantasia situacao_cadastral"
    " data_situacao_cadastral motivo_situacao_cadastral nome_cidade_exterior pais data_inicio_atividade"
    " cnae_fiscal_principal cnae_fiscal_secundaria tipo_logradouro logradouro numero complemento bairro cep uf"
    " municipio ddd_1 telefone_1 ddd_2 telefone_2 ddd_fax fax correio_eletronico situacao_especial"
    " data_situacao_especial"
) | dict.fromkeys(("data_situacao_cadastral", "data_inicio_atividade", "data_situacao_especial"), pa.date32())
SOCIO = strings(
    "cnpj_basico identificador_socio nome_socio cnpj_cpf_socio qualificacao_socio data_entrada_sociedade pais"
    " representante_legal nome_representante qualificacao_representante faixa_etaria"
) | {"data_entrada_sociedade": pa.date32()}
SIMPLES = strings(
    "cnpj_basico opcao_simples data_opcao_simples data_exclusao_simples opcao_mei data_opcao_mei data_exclusao_mei"
) | dict.fromkeys(("data_opcao_simples", "data_exclusao_simples", "data_opcao_mei", "data_exclusao_mei"), pa.date32())
LOOKUP = strings("codigo descricao")
# The last part of orders comes from a later layout: without o_clerk, with o_channel. The table has the union of both.
ORDERS: Columns = {
    "o_orderkey": pa.int64(),
    "o_custkey": pa.int64(),
    "o_orderstatus": pa.string(),
    "o_totalprice": pa.decimal128(18, 2),
    "o_orderdate": pa.date32(),
    "o_orderpriority": pa.string(),
    "o_clerk": pa.string(),
    "o_shippriority": pa.int64(),
    "o_comment": pa.string(),
    "o_channel": pa.string(),
}
ORDERS_LAYOUT = [name for name in ORDERS if name != "o_channel"]
ORDERS_LATER_LAYOUT = [
    *(name for name in ORDERS_LAYOUT if name not in ("o_clerk", "o_comment")),
    "o_channel",
    "o_comment",
]
# l_tax has two fraction digits everywhere but in the last record of a part: the sample of any head is too narrow.
LINEITEM: Columns = {
    **dict.fromkeys(("l_orderkey", "l_partkey", "l_suppkey", "l_linenumber", "l_quantity"), pa.int64()),
    **dict.fromkeys(("l_extendedprice", "l_discount"), pa.decimal128(18, 2)),
    "l_tax": pa.decimal128(18, 4),
    **strings("l_returnflag l_linestatus"),
    **dict.fromkeys(("l_shipdate", "l_commitdate", "l_receiptdate"), pa.date32()),
    **strings("l_shipinstruct l_shipmode l_comment"),
}
LATE_TAX = "0.0625"


@dataclasses.dataclass(frozen=True)
class Fault:
    """What stands in one field of one record instead of its value.

    Attributes:
      column: the field.
      written: as written, with its quotes; "" leaves the field and its delimiter out.
      code: how the record is rejected; "" when it is loaded, with what stands between the quotes as value.
      blank_line: a blank line follows the record.
    """

    column: str
    written: str
    code: str = ""
    blank_line: bool = False

    @property
    def rejected_column(self) -> str:
        return self.column if self.code in ("bad_value", "nul_character") else ""


@dataclasses.dataclass(frozen=True)
class RegistryFile:
    """A zip of one member: where it belongs and how it is written; end is what follows its last record."""

    table: str
    archive: str
    member: str
    columns: Columns
    faults: tuple[Fault, ...] = ()
    encoding: str = "iso-8859-1"
    end: str = ""

    def record(self, row: Row, fault: Fault | None) -> str:
        """The row as written, without its line end; a fault also becomes the value of its column in the row."""
        fields = [quoted(value or "") for value in row]
        if fault is not None:
            place = list(self.columns).index(fault.column)
            fields[place : place + 1] = [fault.written] if fault.written else []
            row[place] = fault.written[1:-1].replace('""', '"')
        return ";".join(fields)


def date_faults(column: str) -> tuple[Fault, ...]:
    return (
        *(Fault(column, f'"{text}"') for text in DATE_NULL_MARKERS),
        *(Fault(column, f'"{text}"', "bad_value") for text in ("2021221", "37981131", "SEM DATA")),
    )


LOADED_TEXT_FAULTS = (
    Fault("nome_fantasia", '"PADARIA; CAFÉ\nE CONFEITARIA"'),
    Fault("complemento", '"BLOCO A\\"'),
    Fault("logradouro", '"RUA  DAS   FLORES"'),
    Fault("cep", '"1310100"'),
    Fault("uf", '"EX"'),
    Fault("nome_fantasia", '"BAR ""DO ZÉ"""'),
)
ESTABELECIMENTO_FAULTS = (
    *LOADED_TEXT_FAULTS,
    Fault("nome_fantasia", '"MERCADO\0SÃO JOÃO"', "nul_character"),
    Fault("logradouro", '"RUA "QUEBRADA\nresto da rua"', "malformed_quoting", blank_line=True),
    Fault("nome_fantasia", '"A "Q" B"', "malformed_quoting"),
    *date_faults("data_situacao_cadastral"),
    Fault("data_situacao_especial", '"";"A MAIS"', "ragged_record"),
    Fault("data_situacao_especial", "", "ragged_record"),
)
EMPRESA_FAULTS = (
    Fault("capital_social", '"999999999999,00"'),
    Fault("razao_social", '"COMÉRCIO "Q" LTDA"', "malformed_quoting"),
    Fault("razao_social", '"AÇOUGUE; PEIXARIA\nE MERCEARIA"'),
    Fault("razao_social", '"TRANSPORTES\0LTDA"', "nul_character"),
)
SOCIO_FAULTS = (
    Fault("nome_socio", '"JOÃO "QUEBRADO\nDA SILVA"', "malformed_quoting", blank_line=True),
    *date_faults("data_entrada_sociedade"),
)
# Record numbers and offsets of a file that is transcoded first are not those of its bytes: no reject is planted there.
SOCIO_UTF16_FAULTS = (Fault("nome_socio", '"ÂNGELA; MÃE\nDE INÊS"'), Fault("data_entrada_sociedade", '"0"'))
SIMPLES_FAULTS = date_faults("data_opcao_simples")

LOOKUPS: dict[str, tuple[str, str, dict[str, str]]] = {
    "cnae": (
        "Cnaes.zip",
        "CNAECSV",
        {
            "0111301": "Cultivo de arroz",
            "0155501": "Criação de frangos para corte",
            "4712100": "Comércio varejista de mercadorias em geral; minimercados, mercearias e armazéns",
            "5611201": "Restaurantes e similares",
            "6201501": "Desenvolvimento de programas de computador sob encomenda",
            "8630503": "Atividade médica ambulatorial restrita a consultas",
        },
    ),
    "motivo": (
        "Motivos.zip",
        "MOTICSV",
        {"00": "SEM  MOTIVO", "01": "EXTINÇÃO POR ENCERRAMENTO", "21": "PEDIDO DE BAIXA INDEFERIDO", "63": "OMISSÃO"},
    ),
    "municipio": (
        "Municipios.zip",
        "MUNICCSV",
        {"0001": "GUAJARÁ-MIRIM", "0255": "BRASILÉIA", "7107": "SÃO PAULO", "9701": "BRASÍLIA", "9707": "EXTERIOR"},
    ),
    "natureza": (
        "Naturezas.zip",
        "NATJUCSV",
        {"2011": "Empresa Pública", "2062": "Sociedade Empresária Limitada", "2135": "Empresário (Individual)"},
    ),
    "pais": ("Paises.zip", "PAISCSV", {"000": "COLIS POSTAUX", "013": "AFEGANISTÃO", "105": "BRASIL", "249": "EUA"}),
    "qualificacao": (
        "Qualificacoes.zip",
        "QUALSCSV",
        {"00": "Não informada", "05": "Administrador", "22": "Sócio", "49": "Sócio-Administrador"},
    ),
}
NAMES = ["ANTÔNIO", "JOSÉ", "MARIA", "JOÃO", "CECÍLIA", "LUÍS", "BEATRIZ", "CONCEIÇÃO", "INÊS", "ÁUREA", "PAULO"]
SURNAMES = ["DA SILVA", "DOS SANTOS", "ARAÚJO", "GONÇALVES", "D'ÁVILA", "ASSUNÇÃO", "PEREIRA", "MÜLLER", "SIMÕES"]
TRADES = ["PADARIA", "MÓVEIS", "CONSTRUÇÕES", "TRANSPORTES", "FARMÁCIA", "ELÉTRICA", "AÇOUGUE", "CONFECÇÕES"]
STREETS = ["DAS FLORES", "SÃO JOÃO", "QUINZE DE NOVEMBRO", "GETÚLIO VARGAS", "DA CONCEIÇÃO", "DOIS IRMÃOS", "PARANÁ"]
WORDS = ["furiously", "quickly", "carefully", "final", "ironic", "pending", "bold", "requests", "accounts", "foxes"]


@dataclasses.dataclass(frozen=True)
class ExpectedReject:
    """A record that must be rejected; fields as in beam_etl.model.Reject, but file is a base name."""

    table: str
    file: str
    member: str
    record: int
    line: int
    byte_start: int
    byte_end: int
    code: str
    column: str
    raw: bytes
    encoding: str

    def to_json(self) -> dict[str, object]:
        """As the rejects of a load are written: raw.encode(raw_encoding) gives the bytes back."""
        fields = dataclasses.asdict(self)
        encoding = fields.pop("encoding")
        return {**fields, "raw": self.raw.decode(encoding), "raw_encoding": encoding}


@dataclasses.dataclass(frozen=True)
class RejectedFile:
    """A file that must be rejected as a whole; member is "" where the archive's directory cannot be read."""

    table: str
    file: str
    member: str
    code: str


@dataclasses.dataclass(frozen=True)
class ExpectedFile:
    """The books of one readable file: records = rows + rejects."""

    table: str
    file: str
    member: str
    encoding: str
    records: int
    rows: int
    rejects: int


@dataclasses.dataclass(frozen=True)
class Truth:
    """What loading the dump must end in.

    Attributes:
      tables: the rows of each published table, in the order of its files.
      rejects: in the order of files and records.
      files: every readable file.
      rejected_files: every unreadable one; their tables are not published.
    """

    tables: dict[str, pa.Table]
    rejects: tuple[ExpectedReject, ...]
    files: tuple[ExpectedFile, ...]
    rejected_files: tuple[RejectedFile, ...]

    @property
    def unpublished_tables(self) -> tuple[str, ...]:
        return tuple(sorted({file.table for file in self.rejected_files}))

    @property
    def exit_code(self) -> int:
        """Of a job with the default policies: 3 when a table is left unpublished."""
        return 3 if self.rejected_files else 0

    def books(self) -> dict[str, object]:
        tables = {
            name: {
                "rows": rows.num_rows,
                "rejects": sum(reject.table == name for reject in self.rejects),
                "columns": {field.name: str(field.type) for field in rows.schema},
            }
            for name, rows in self.tables.items()
        }
        return {
            "tables": tables,
            "files": [dataclasses.asdict(file) for file in self.files],
            "unpublished_tables": self.unpublished_tables,
            "exit_code": self.exit_code,
        }

    def write(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        for name, rows in self.tables.items():
            pq.write_table(rows, directory / f"{name}.parquet", compression="zstd")
        rejects = {
            "records": [reject.to_json() for reject in self.rejects],
            "files": [dataclasses.asdict(file) for file in self.rejected_files],
        }
        for name, content in (("rejects", rejects), ("books", self.books())):
            (directory / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def typed(texts: Sequence[Value], column_type: pa.DataType) -> pa.Array:
    """The column that these values are: no value is None, and an empty one is NULL where it cannot be text."""
    column = pa.array(texts, pa.string())
    if pa.types.is_string(column_type):
        return column
    markers = DATE_NULL_MARKERS if pa.types.is_date(column_type) else ("",)
    column = pc.if_else(pc.is_in(column, pa.array(markers)), pa.scalar(None, pa.string()), column)
    if pa.types.is_date(column_type):
        column = pc.replace_substring_regex(column, r"^(\d{4})(\d{2})(\d{2})$", r"\1-\2-\3")
    if pa.types.is_decimal(column_type):
        column = pc.replace_substring(column, ",", ".")
    return column.cast(column_type)


class Dump:
    """Writes files into the input folder and keeps the truth about each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self._rows: dict[str, list[pa.Table]] = {}
        self._rejects: list[ExpectedReject] = []
        self._files: list[ExpectedFile] = []
        self._rejected_files: list[RejectedFile] = []

    def add_registry_file(self, file: RegistryFile, rows: list[Row]) -> None:
        """Writes a zip of one member, with the faults spread evenly over its records."""
        fault_at = {(i + 1) * len(rows) // (len(file.faults) + 1): fault for i, fault in enumerate(file.faults)}
        plain, loaded, rejects = bytearray(), [], []
        for i, row in enumerate(rows):
            fault = fault_at.get(i)
            raw = file.record(row, fault).encode(file.encoding)
            if fault is None or not fault.code:
                loaded.append(row)
            else:
                extent = (len(plain), len(plain) + len(raw))
                where = (file.table, file.archive, file.member, i + 1, plain.count(b"\n") + 1, *extent)
                rejects.append(ExpectedReject(*where, fault.code, fault.rejected_column, raw, file.encoding))
            blank_line = "\n" if fault is not None and fault.blank_line else ""
            plain += raw + f"\n{blank_line}".encode(file.encoding)
        mark = "\ufeff" if file.encoding == "utf-16-le" else ""
        content = mark.encode(file.encoding) + bytes(plain) + file.end.encode(file.encoding)
        write_zip(self.folder / file.archive, file.member, content)
        self._rejects += rejects
        self._land(file.table, file.columns, loaded)
        counts = (len(rows), len(loaded), len(rejects))
        self._files.append(ExpectedFile(file.table, file.archive, file.member, file.encoding, *counts))

    def add_csv_file(self, table: str, file: str, columns: Columns, header: Sequence[str], rows: list[Row]) -> None:
        """Writes a CSV file with header; columns of the table that the header lacks are NULL."""
        lines = [",".join(header), *(",".join(minimally_quoted(value) for value in row) for row in rows)]
        plain = ("\n".join(lines) + "\n").encode()
        (self.folder / file).write_bytes(gzip.compress(plain, mtime=0) if file.endswith(".gz") else plain)
        places = [header.index(name) if name in header else None for name in columns]
        self._land(table, columns, [[None if at is None else row[at] for at in places] for row in rows])
        self._files.append(ExpectedFile(table, file, "", "utf-8", len(rows), len(rows), 0))

    def add_corrupt_zip(
        self, table: str, archive: str, member: str, rows: list[Row], spoil: Callable[[bytes], bytes], *, listed: bool
    ) -> None:
        """Writes a spoilt zip, to be rejected as a file; listed says whether its directory can still be read."""
        plain = "".join(";".join(quoted(value or "") for value in row) + "\n" for row in rows)
        path = self.folder / archive
        write_zip(path, member, plain.encode("iso-8859-1"))
        path.write_bytes(spoil(path.read_bytes()))
        self._rejected_files.append(RejectedFile(table, archive, member if listed else "", "corrupt_file"))

    def truth(self) -> Truth:
        tables = {table: pa.concat_tables(parts).combine_chunks() for table, parts in self._rows.items()}
        return Truth(tables, tuple(self._rejects), tuple(self._files), tuple(self._rejected_files))

    def _land(self, table: str, columns: Columns, rows: list[Row]) -> None:
        arrays = [typed(texts, kind) for texts, kind in zip(zip(*rows, strict=True), columns.values(), strict=True)]
        self._rows.setdefault(table, []).append(pa.table(dict(zip(columns, arrays, strict=True))))


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


def minimally_quoted(value: Value) -> str:
    if value is None:
        return ""
    return quoted(value) if not value or any(mark in value for mark in ',"\n') else value


def write_zip(path: Path, member: str, content: bytes) -> None:
    info = zipfile.ZipInfo(member, ARCHIVE_TIME)
    info.compress_type, info.create_system = zipfile.ZIP_DEFLATED, 3
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, content)


def truncated(archive: bytes) -> bytes:
    return archive[: len(archive) * 2 // 3]


def with_wrong_crc(archive: bytes) -> bytes:
    """The same zip with another checksum in both headers of its only member; its data stays whole."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        crc = opened.infolist()[0].CRC
    return archive.replace(struct.pack("<I", crc), struct.pack("<I", crc ^ 0xFFFFFFFF))


class Values:
    """Columns of plausible values; each call draws the next ones of its generator."""

    def __init__(self, seed: Sequence[int], rows: int) -> None:
        self.rows = rows
        self._generator = np.random.default_rng(seed)

    def numbers(self, low: int, high: int) -> list[int]:
        """From low to high, both included."""
        return [int(number) for number in self._generator.integers(low, high + 1, self.rows)]

    def pick(self, choices: Iterable[Value]) -> list[Value]:
        pool = list(choices)
        return [pool[i] for i in self.numbers(0, len(pool) - 1)]

    def digits(self, width: int) -> list[str]:
        return [f"{n:0{width}d}" for n in self.numbers(0, 10**width - 1)]

    def dates(self, first: str = "1966-08-02", last: str = "2026-08-08") -> list[str]:
        start, end = datetime.date.fromisoformat(first), datetime.date.fromisoformat(last)
        return [datetime.date.fromordinal(day).isoformat() for day in self.numbers(start.toordinal(), end.toordinal())]

    def registry_dates(self) -> list[str]:
        return [date.replace("-", "") for date in self.dates()]

    def people(self) -> list[str]:
        return [f"{name} {surname}" for name, surname in zip(self.pick(NAMES), self.pick(SURNAMES), strict=True)]

    def companies(self) -> list[str]:
        return [f"{trade} {name} LTDA" for trade, name in zip(self.pick(TRADES), self.pick(SURNAMES), strict=True)]

    def sentences(self) -> list[str]:
        words = np.array(WORDS)[self._generator.integers(0, len(WORDS), (self.rows, 6))]
        return [" ".join(sentence) for sentence in words.tolist()]


def company_key(number: int) -> str:
    """The cnpj_basico of the company with this number: unique, one in 50 alphanumeric, many with leading zeros."""
    digits = f"{number * 7919 % 10**8:08d}"  # a bijection below 10**8, because 7919 is coprime to it
    return chr(ord("A") + int(digits[0])) + digits[1:] if number % 50 == 7 else digits


def rows_of(*columns: Sequence[Value]) -> list[Row]:
    return [list(row) for row in zip(*columns, strict=True)]


def constant(value: str, rows: int) -> list[str]:
    return [value] * rows


def empresas(draw: Values, first: int) -> list[Row]:
    n = draw.rows
    capital = [
        f"{whole},{cents:02d}" for whole, cents in zip(draw.numbers(0, 5_000_000), draw.numbers(0, 99), strict=True)
    ]
    return rows_of(
        [company_key(first + i) for i in range(n)],
        draw.companies(),
        draw.pick(LOOKUPS["natureza"][2]),
        draw.pick(LOOKUPS["qualificacao"][2]),
        capital,
        draw.pick(("00", "01", "03", "05")),
        draw.pick(("", "", "", "UNIÃO")),
    )


def estabelecimentos(draw: Values, companies: int) -> list[Row]:
    n = draw.rows
    cnaes = list(LOOKUPS["cnae"][2])
    rows = rows_of(
        [company_key(i) for i in draw.numbers(0, companies - 1)],
        draw.pick(("0001", "0002", "0013")),
        draw.digits(2),
        draw.pick("12"),
        draw.pick(("", *TRADES)),
        draw.pick(("01", "02", "03", "04", "08")),
        draw.registry_dates(),
        draw.pick(LOOKUPS["motivo"][2]),
        constant("", n),
        draw.pick(("", "", "", "105")),
        draw.registry_dates(),
        draw.pick(cnaes),
        draw.pick(("", cnaes[0], ",".join(cnaes[1:4]))),
        draw.pick(("RUA", "AVENIDA", "PRAÇA")),
        draw.pick(STREETS),
        [str(number) for number in draw.numbers(1, 9999)],
        draw.pick(("", "", "SALA 1", "FUNDOS", "1º ANDAR")),
        draw.pick(("CENTRO", "ASA NORTE", "JARDIM AMÉRICA")),
        draw.digits(8),
        draw.pick(("SP", "DF", "AC", "RO")),
        draw.pick(LOOKUPS["municipio"][2]),
        draw.pick(("11", "61", "")),
        draw.digits(8),
        *(constant("", n) for _ in range(4)),
        [f"contato{number}@example.com" for number in draw.numbers(1, 99999)],
        constant("", n),
        draw.pick(("", "", "", "20200101")),
    )
    rows[-1] = list(rows[-2])  # an exact duplicate
    return rows


def socios(draw: Values, companies: int) -> list[Row]:
    n = draw.rows
    rows = rows_of(
        [company_key(i) for i in draw.numbers(0, companies - 1)],
        draw.pick("123"),
        draw.people(),
        [f"***{digits}**" for digits in draw.digits(6)],
        draw.pick(LOOKUPS["qualificacao"][2]),
        draw.registry_dates(),
        constant("", n),
        constant("***000000**", n),
        constant("", n),
        constant("00", n),
        draw.pick("0123456789"),
    )
    rows[-1] = list(rows[-2])  # an exact duplicate
    rows[-3] = [*rows[-4][:4], "22" if rows[-4][4] != "22" else "49", *rows[-4][5:]]  # the same partner once more
    return rows


def simples(draw: Values) -> list[Row]:
    n = draw.rows
    return rows_of(
        [company_key(2 * i) for i in range(n)],
        draw.pick("SN"),
        draw.registry_dates(),
        draw.pick(("00000000", "20181231")),
        draw.pick("SN"),
        constant("00000000", n),
        constant("00000000", n),
    )


def comments(draw: Values) -> list[Value]:
    """Mostly plain; some with commas, quotes or line breaks, some empty, some missing."""
    wholes: tuple[Callable[[str], Value], ...] = (
        lambda text: text.replace(" ", ", ", 2),
        lambda text: f'the "{text}" of it',
        lambda text: text.replace(" ", "\n", 1),
        lambda text: f'"{text}"\n, and "more"',
        lambda text: "",
        lambda text: None,
    )
    kinds = draw.numbers(0, 39)
    return [wholes[k](text) if k < len(wholes) else text for k, text in zip(kinds, draw.sentences(), strict=True)]


def orders(draw: Values, first: int) -> list[Row]:
    """In the order of ORDERS."""
    cents = draw.numbers(90_000, 50_000_000)
    return rows_of(
        [str(first + i) for i in range(draw.rows)],
        [str(number) for number in draw.numbers(1, 150_000)],
        draw.pick("OFP"),
        [f"{c // 100}.{c % 100:02d}" for c in cents],
        draw.dates("1992-01-01", "1998-08-02"),
        draw.pick(("1-URGENT", "2-HIGH", "3-MEDIUM", "4-NOT SPECIFIED", "5-LOW")),
        [f"Clerk#{number:09d}" for number in draw.numbers(1, 1000)],
        constant("0", draw.rows),
        comments(draw),
        draw.pick(("web", "store", "phone")),
    )


def lineitems(draw: Values, first: int) -> list[Row]:
    return rows_of(
        [str(1 + (first + i) // 4) for i in range(draw.rows)],
        [str(number) for number in draw.numbers(1, 200_000)],
        [str(number) for number in draw.numbers(1, 10_000)],
        [str(1 + (first + i) % 4) for i in range(draw.rows)],
        [str(number) for number in draw.numbers(1, 50)],
        [f"{c // 100}.{c % 100:02d}" for c in draw.numbers(90_000, 10_000_000)],
        [f"0.{hundredths:02d}" for hundredths in draw.numbers(0, 10)],
        [f"0.{hundredths:02d}" for hundredths in draw.numbers(0, 8)],
        draw.pick("NRA"),
        draw.pick("OF"),
        draw.dates("1992-01-01", "1998-12-01"),
        [date if number else None for date, number in zip(draw.dates(), draw.numbers(0, 99), strict=True)],
        draw.dates("1992-01-01", "1998-12-31"),
        draw.pick(("DELIVER IN PERSON", "COLLECT COD", "NONE", "TAKE BACK RETURN")),
        draw.pick(("TRUCK", "MAIL", "REG AIR", "SHIP")),
        comments(draw),
    )


def table_rows(rows: int, scale: float) -> int:
    return max(SMALLEST_TABLE_ROWS, int(rows * scale))


def add_registry(dump: Dump, seed: int, scale: float) -> None:
    per_file = table_rows(12_000, scale) // 3
    companies = 3 * per_file
    for part in range(3):
        member = f"K3241.K03200Y{part}.{REGISTRY_DATE}.EMPRECSV"
        file = RegistryFile("empresa", f"Empresas{part}.zip", member, EMPRESA, EMPRESA_FAULTS)
        dump.add_registry_file(file, empresas(Values((seed, 1, part), per_file), part * per_file))
    total = table_rows(15_000, scale)
    # As in the real dump, the first file is the largest, and it ends with a blank line.
    for part, (percent, encoding, end) in enumerate(
        ((60, "iso-8859-1", "\n"), (20, "utf-8", ""), (20, "iso-8859-1", ""))
    ):
        place = (f"Estabelecimentos{part}.zip", f"K3241.K03200Y{part}.{REGISTRY_DATE}.ESTABELE")
        file = RegistryFile("estabelecimento", *place, ESTABELECIMENTO, ESTABELECIMENTO_FAULTS, encoding, end)
        dump.add_registry_file(file, estabelecimentos(Values((seed, 2, part), total * percent // 100), companies))
    per_file = table_rows(10_000, scale) // 2
    for part, (encoding, faults) in enumerate((("iso-8859-1", SOCIO_FAULTS), ("utf-16-le", SOCIO_UTF16_FAULTS))):
        place = (f"Socios{part}.zip", f"K3241.K03200Y{part}.{REGISTRY_DATE}.SOCIOCSV")
        file = RegistryFile("socio", *place, SOCIO, faults, encoding)
        dump.add_registry_file(file, socios(Values((seed, 3, part), per_file), companies))
    place = ("Simples.zip", f"F.K03200$W.SIMPLES.CSV.{REGISTRY_DATE}")
    file = RegistryFile("simples", *place, SIMPLES, SIMPLES_FAULTS)
    dump.add_registry_file(file, simples(Values((seed, 4), table_rows(6_000, scale))))
    for table, (archive, suffix, descriptions) in LOOKUPS.items():
        file = RegistryFile(table, archive, f"F.K03200$Z.{REGISTRY_DATE}.{suffix}", LOOKUP)
        dump.add_registry_file(file, [[code, text] for code, text in descriptions.items()])


def add_corrupt_zips(dump: Dump, seed: int) -> None:
    """Two unreadable archives, of a table of their own: by default a table with a bad file is not published."""
    for part, (spoil, listed) in enumerate(((truncated, False), (with_wrong_crc, True))):
        rows = socios(Values((seed, 5, part), 500), companies=500)
        file, member = f"SociosCorrompidos{part}.zip", f"K3241.K03200Y{part}.{REGISTRY_DATE}.SOCIOCSV"
        dump.add_corrupt_zip("socio_corrompido", file, member, rows, spoil, listed=listed)


def add_tpch(dump: Dump, seed: int, scale: float) -> None:
    per_file = table_rows(15_000, scale) // 3
    for part, layout in enumerate((ORDERS_LAYOUT, ORDERS_LAYOUT, ORDERS_LATER_LAYOUT)):
        rows = orders(Values((seed, 6, part), per_file), 1 + part * per_file)
        places = [list(ORDERS).index(name) for name in layout]
        rows = [[row[place] for place in places] for row in rows]
        dump.add_csv_file("orders", f"orders.{part + 1}.csv", ORDERS, layout, rows)
    per_file = table_rows(60_000, scale) // 4
    for part in range(4):
        rows = lineitems(Values((seed, 7, part), per_file), part * per_file)
        if part == 2:
            rows[-1][list(LINEITEM).index("l_tax")] = LATE_TAX
        file = f"lineitem.{part + 1}.csv" + (".gz" if part == 3 else "")
        dump.add_csv_file("lineitem", file, LINEITEM, list(LINEITEM), rows)


def write_dump(output: Path | str, seed: int = 1, scale: float = 1.0) -> Truth:
    """Writes `<output>/input` and `<output>/truth`.

    Args:
      output: a folder, made when missing; files of an earlier dump in it are replaced.
      seed: the same one gives the same bytes.
      scale: factor on the number of rows; 1 is about 16 MB of plain text. The faults stay the same in number.

    Raises:
      ValueError: a seed below 0, or a scale that is not above 0.
    """
    if seed < 0 or not scale > 0:
        raise ValueError(f"seed={seed}, scale={scale}: give a seed of at least 0 and a scale above 0, such as 1 or 0.5")
    dump = Dump(Path(output) / "input")
    add_registry(dump, seed, scale)
    add_corrupt_zips(dump, seed)
    add_tpch(dump, seed, scale)
    truth = dump.truth()
    truth.write(Path(output) / "truth")
    return truth


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Writes a small dump full of known faults, and the truth about it.")
    parser.add_argument("--output", required=True, type=Path, help="folder that gets input/ and truth/")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same bytes (default: 1)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of rows (default: 1)")
    options = parser.parse_args(arguments)
    truth = write_dump(options.output, options.seed, options.scale)
    rows = sum(table.num_rows for table in truth.tables.values())
    print(
        f"{options.output / 'input'}: {len(truth.files) + len(truth.rejected_files)} files, {rows} rows in "
        f"{len(truth.tables)} tables, {len(truth.rejects)} records and {len(truth.rejected_files)} files to be rejected"
    )


if __name__ == "__main__":
    main()
