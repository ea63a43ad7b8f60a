"""Everything that is wrong with files, in one load: each table ends as it must, and no fault touches another table."""

import gzip
import io
import json
import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from beam_etl import launcher
from beam_etl.exit_codes import FAILED, NOT_PUBLISHED, PUBLISHED, USAGE
from beam_etl.parquet.staging import safe_name
from tests.landed import (
    commit_records,
    last_report,
    parquet_rows,
    parquet_table,
    postgres_rows,
    postgres_tables,
    reject_lines,
    run,
)
from tests.processes import free_port
from transforms import convert_chunks

PLAIN = b"id,text\n1,a\n2,b\n"
ROWS = [(1, "a"), (2, "b")]
UNICODE_NAME = """São Paulo: 'x' "y" 100%"""
SLASHED_NAME = "a/b/../c"
LONG_NAME = "n" * 300

UNREAD = "1 of 1 files could not be read; mend them, or publish without them by --on_bad_file=publish_without"
NO_COLUMN_READ = "no column is known, because no file could be read; declare the columns in job.yaml"
MALFORMED = "a quoted field is followed by text before its delimiter, or is never closed"
NO_CONTENT = "no column is known, because no file has any content; declare the columns in job.yaml"


def too_many(rejects, records, percent):
    return (
        f"{rejects} of {records} records were rejected ({percent}%), more than --max_reject_ratio=0.01 allows; look "
        "into the rejects, or allow more"
    )


def zip_of(name, data, compression=zipfile.ZIP_STORED):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", compression) as archive:
        archive.writestr(name, data)
    return target.getvalue()


def damaged(data, at):
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


FILES = {
    "good.csv": PLAIN,
    "empty.csv": b"",
    "bom_only.csv": b"\xef\xbb\xbf",
    "header_only.csv": b"id,text\n",
    "header_unended.csv": b"id,text",
    "bad_crc.zip": damaged(zip_of("bad_crc.csv", b"id,text\n" + b"1,a\n" * 1000), 500),
    "cut.zip": zip_of("cut.csv", PLAIN * 100)[:300],
    "page.zip": b"<html>404 not found</html>",
    "no_members.zip": zip_of("folder/", b""),
    "packed_twice.zip": zip_of("packed_twice.csv.gz", gzip.compress(PLAIN)),
    "cut_gz.csv.gz": gzip.compress(b"id,text\n" + b"1,a\n" * 100_000)[:-5],
    "garbled_gz.csv.gz": damaged(gzip.compress(bytes(range(256)) * 400, compresslevel=0), 5000),
    "empty_gz.csv.gz": b"",
    "ragged.csv": b"id,text\n1,a\n2\n3,c,d\n4,d\n",
    "quoting.csv": b'id,text\n1,"a"\n2,"b"x\n3,"c\nd"\n4,"open\n5,"e"\n',
    "declared.csv": b"id,amount,day\n1,1.50,2020-02-29\nx,1.50,2020-02-29\n3,1.505,2020-02-29\n4,1.50,2021-02-29\n5,,\n",
    "nul.csv": b"id,text\n1,a\n2,b\0b\n3,c\n",
    "undecodable.csv": "id,text\n1,é\n".encode() + b"2,b\xffb\n" + "3,çã\n".encode(),
    "part.1.csv": PLAIN,
    "part.2.csv.gz": gzip.compress(PLAIN)[:-5],
    "foreign.csv": PLAIN,
    "gone.csv": PLAIN,
    "grown.csv": PLAIN,
    "touched.csv": PLAIN,
    "unicode.csv": PLAIN,
    "slashed.csv": PLAIN,
    "long.csv": PLAIN,
}

# What a table's reasons are, where it is not published.
REASONS = {
    "empty": [NO_CONTENT],
    "bom_only": [NO_CONTENT],
    **{
        name: [NO_COLUMN_READ, UNREAD]
        for name in (
            *("bad_crc", "cut", "page", "no_members", "packed_twice", "cut_gz", "garbled_gz", "empty_gz"),
            *("gone", "grown", "touched"),
        )
    },
    "ragged": [too_many(2, 4, "50.00")],
    "quoting": [too_many(2, 5, "40.00")],
    "declared": [too_many(3, 5, "60.00")],
    "nul": [too_many(1, 3, "33.33")],
    "undecodable": [too_many(1, 3, "33.33")],
    "part": [UNREAD.replace("1 of 1", "1 of 2")],
}

# table -> (member, code, reason) of its rejected file.
FILE_REJECTS = {
    "bad_crc": ("bad_crc.csv", "corrupt_file", "cannot be unpacked: Bad CRC-32 for file 'bad_crc.csv'"),
    "cut": ("", "corrupt_file", "cannot be unpacked: File is not a zip file"),
    "page": ("", "corrupt_file", "cannot be unpacked: File is not a zip file"),
    "no_members": ("", "corrupt_file", "the archive holds no files"),
    "packed_twice": (
        "packed_twice.csv.gz",
        "corrupt_file",
        "holds a gzip file, which is not unpacked here; unpack it first",
    ),
    "cut_gz": ("", "corrupt_file", "ends too early: truncated, or an incomplete download"),
    "garbled_gz": ("", "corrupt_file", "cannot be unpacked: CRC check failed"),
    "empty_gz": ("", "corrupt_file", "is empty, which no compressed file is: an incomplete download"),
    "gone": ("", "unreadable_file", "cannot be read: the file is gone"),
    "grown": ("", "changed_file", "when the load was planned, is 20-"),
    "touched": ("", "changed_file", "was version 16-"),
    "part": ("", "corrupt_file", "ends too early: truncated, or an incomplete download"),
}

# table -> (record, line, byte_start, byte_end, column, code, reason, raw, raw_encoding) of its rejected records.
RECORD_REJECTS = {
    "ragged": [
        (2, 3, 12, 13, "", "ragged_record", "1 fields where 2 are expected", "2", "utf-8"),
        (3, 4, 14, 19, "", "ragged_record", "3 fields where 2 are expected", "3,c,d", "utf-8"),
    ],
    "quoting": [
        (2, 3, 14, 20, "", "malformed_quoting", MALFORMED, '2,"b"x', "utf-8"),
        (4, 6, 29, 36, "", "malformed_quoting", MALFORMED, '4,"open', "utf-8"),
    ],
    "declared": [
        (2, 3, 32, 49, "id", "bad_value", "the value is not a bigint", "x,1.50,2020-02-29", "utf-8"),
        (3, 4, 50, 68, "amount", "bad_value", "the value is not a decimal(5,2)", "3,1.505,2020-02-29", "utf-8"),
        (
            *(4, 5, 69, 86, "day", "bad_value", "the value is not a date, written YYYY-MM-DD"),
            *("4,1.50,2021-02-29", "utf-8"),
        ),
    ],
    "nul": [
        (2, 3, 12, 17, "text", "nul_character", "a NUL character, which PostgreSQL cannot hold", "2,b\0b", "utf-8")
    ],
    "undecodable": [
        (2, 3, 13, 18, "text", "undecodable", "bytes that the file's encoding does not allow", "Mixi/2I=", "base64"),
    ],
}


class Dump:
    """The bad files, and one load of them."""

    def __init__(self, directory: Path, dsn: str) -> None:
        self.directory, self.lake, self.dsn = directory / "dump", directory / "lake", dsn
        self.directory.mkdir()
        for name, data in FILES.items():
            (self.directory / name).write_bytes(data)
        (self.directory / "folder.csv").mkdir()
        (self.directory / "folder.csv" / ".hidden.csv").write_bytes(PLAIN)
        self.foreign = self.lake / "foreign" / "other.parquet"
        self.foreign.parent.mkdir(parents=True)
        self.foreign.write_bytes(b"somebody else's")
        (directory / "job.yaml").write_text(
            json.dumps(
                {
                    "tables": [
                        {
                            "name": "declared",
                            "files": ["declared.csv"],
                            "columns": {"id": "bigint", "amount": "decimal(5,2)", "day": "date"},
                        },
                        {"name": "quoting", "files": ["quoting.csv"], "dialect": {"quote": '"'}},
                        {"name": UNICODE_NAME, "files": ["unicode.csv"]},
                        {"name": SLASHED_NAME, "files": ["slashed.csv"]},
                        {"name": LONG_NAME, "files": ["long.csv"]},
                    ]
                }
            )
        )
        self.command = [
            *(f"--input={self.directory}", f"--output={self.lake}", f"--postgres={dsn}"),
            f"--config={directory / 'job.yaml'}",
        ]

    def change_after_planning(self) -> None:
        self.planned_ns = {name: (self.directory / name).stat().st_mtime_ns for name in FILES}
        (self.directory / "gone.csv").unlink()
        with (self.directory / "grown.csv").open("ab") as file:
            file.write(b"3,c\n")
        (self.directory / "touched.csv").write_bytes(PLAIN.replace(b"a", b"A"))

    def restore_planned_files(self) -> None:
        for name, data in FILES.items():
            (self.directory / name).write_bytes(data)
            os.utime(self.directory / name, ns=(self.planned_ns[name],) * 2)


@pytest.fixture(scope="module")
def dump(tmp_path_factory, module_database):
    bad = Dump(tmp_path_factory.mktemp("bad"), module_database)
    original = launcher._run_graph

    def run_graph(*arguments):
        bad.change_after_planning()
        return original(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launcher, "_run_graph", run_graph)
        bad.run = run(*bad.command)
    bad.tables = last_report(bad.lake)["tables"]
    return bad


def test_the_run_ends_in_order_without_a_word_on_stderr(dump):
    assert (dump.run.code, dump.run.err) == (NOT_PUBLISHED, "")
    for table, reasons in REASONS.items():
        for reason in reasons:
            assert f"{table} is not published: {reason}\n" in dump.run.out


def test_each_table_has_its_own_reasons_and_the_others_are_published(dump):
    foreign = (
        f"{dump.foreign} was not written by beam_etl, and replacing table 'foreign' would mix with it; move it away, or "
        "choose another output or table name"
    )
    assert {name: entry["reasons"] for name, entry in dump.tables.items() if not entry["published"]} == {
        **REASONS,
        "foreign": [foreign],
    }
    assert all(entry["balanced"] for entry in dump.tables.values())
    published = {name for name, entry in dump.tables.items() if entry["published"]}
    assert published == {"good", "header_only", "header_unended", UNICODE_NAME, SLASHED_NAME, LONG_NAME}


def test_what_is_not_published_is_in_neither_sink(dump):
    unpublished = {name for name, entry in dump.tables.items() if not entry["published"]}
    assert not postgres_tables(dump.dsn) & unpublished
    assert [name for name in unpublished if (dump.lake / name).exists()] == ["foreign"]
    assert [path.name for path in (dump.lake / "foreign").iterdir()] == ["other.parquet"]
    assert dump.foreign.read_bytes() == b"somebody else's"


@pytest.mark.parametrize("table", ["good", UNICODE_NAME, SLASHED_NAME])
def test_good_tables_hold_their_rows_whatever_they_are_called(dump, table):
    assert parquet_rows(dump.lake, table) == postgres_rows(dump.dsn, table) == ROWS


def test_a_name_that_no_sink_can_hold_is_cut_the_same_way_each_time(dump):
    assert parquet_rows(dump.lake, LONG_NAME) == ROWS
    [name] = [name for name in postgres_tables(dump.dsn) if name.startswith("nnn")]
    assert len(name) == 63
    assert postgres_rows(dump.dsn, name) == ROWS


def test_no_table_leaves_the_output_whatever_its_name(dump):
    assert sorted(path.name for path in dump.lake.parent.iterdir()) == ["dump", "job.yaml", "lake"]
    published = {safe_name(name) for name, entry in dump.tables.items() if entry["published"]}
    assert {path.name for path in dump.lake.iterdir()} == published | {"foreign", "_beam_etl"}


@pytest.mark.parametrize("table", ["header_only", "header_unended"])
def test_a_file_of_a_header_alone_is_an_empty_table_with_its_columns(dump, table):
    assert (parquet_table(dump.lake, table).num_rows, parquet_table(dump.lake, table).column_names) == (
        0,
        ["id", "text"],
    )
    assert postgres_rows(dump.dsn, table) == []


@pytest.mark.parametrize("table", FILE_REJECTS)
def test_a_file_that_cannot_be_read_is_one_reject(dump, table):
    [reject] = reject_lines(dump.lake, table)
    member, code, reason = FILE_REJECTS[table]
    assert (reject["member"], reject["code"], reject["record"], reject["line"]) == (member, code, 0, 0)
    assert reason in reject["reason"]
    assert Path(reject["file"]).name in FILES
    assert dump.tables[table]["rejected_files"] == 1


@pytest.mark.parametrize("table", RECORD_REJECTS)
def test_bad_records_are_rejected_with_their_place_and_text(dump, table):
    keys = ("record", "line", "byte_start", "byte_end", "column", "code", "reason", "raw", "raw_encoding")
    assert [tuple(reject[key] for key in keys) for reject in reject_lines(dump.lake, table)] == RECORD_REJECTS[table]
    entry = dump.tables[table]
    assert entry["records_in"] == entry["rows"] + entry["rejects"]
    assert entry["rejects_directory"] == str(next(dump.lake.glob(f"_beam_etl/rejects/*/{table}")))


def test_nobody_is_rejected_without_a_reason_to(dump):
    assert {
        path.name for path in dump.lake.glob("_beam_etl/rejects/*/*")
    } == FILE_REJECTS.keys() | RECORD_REJECTS.keys()


def test_wider_policies_publish_what_is_staged_without_converting_it_again(dump):
    before = commit_records(dump.lake)
    dump.restore_planned_files()
    assert run(*dump.command, "--max_reject_ratio=1", "--on_bad_file=publish_without").code == NOT_PUBLISHED
    assert len(list(dump.lake.glob("_beam_etl/loads/*"))) == 1, "the same files and settings are the same load"
    tables = last_report(dump.lake)["tables"]
    assert {name: entry["reasons"] for name, entry in tables.items() if not entry["published"]} == {
        "empty": [NO_CONTENT],
        "bom_only": [NO_CONTENT],
        "foreign": tables["foreign"]["reasons"],
        **{name: [NO_COLUMN_READ] for name in FILE_REJECTS.keys() - {"part", "gone", "grown", "touched"}},
    }
    after = commit_records(dump.lake)
    assert {path: after[path] for path in before} == before
    assert {Path(path).parents[1].name for path in after.keys() - before.keys()} == {"gone", "grown", "touched"}
    for table in ("part", "gone", "grown", "touched"):
        assert parquet_rows(dump.lake, table) == postgres_rows(dump.dsn, table) == ROWS
    assert parquet_rows(dump.lake, "ragged") == postgres_rows(dump.dsn, "ragged") == [(1, "a"), (4, "d")]
    assert parquet_rows(dump.lake, "undecodable") == postgres_rows(dump.dsn, "undecodable") == [(1, "é"), (3, "çã")]


def test_every_hint_of_the_report_works_whatever_the_table_is_called(tmp_path):
    (tmp_path / "t.csv").write_bytes(PLAIN)
    table = 'o\'dd "näme"'
    done = run(f"--input={tmp_path / 't.csv'}", f"--output={tmp_path / 'la ke'}", f"--table={table}")
    assert done.code == PUBLISHED
    [hint] = [line.removeprefix("Look into:  ") for line in done.out.splitlines() if line.startswith("Look into:")]
    shown = subprocess.run([sys.executable, *shlex.split(hint)[1:]], capture_output=True, text=True, timeout=60)
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "text: string" in shown.stdout


class TestOneGoodFile:
    """What stops a run before or while it moves data; nothing may be left behind then."""

    @pytest.fixture
    def good(self, tmp_path):
        path = tmp_path / "good.csv"
        path.write_bytes(PLAIN)
        return path

    @pytest.mark.parametrize(
        ("place", "complaint"),
        [
            (
                "nowhere/*.csv",
                "no file matches it; check the path up to the first * and the pattern, and quote it in the shell",
            ),
            (
                "nowhere.csv",
                "there is no such file, and no directory with files in it; check the path, and whether it is mounted",
            ),
            (
                "empty",
                "there is no such file, and no directory with files in it; check the path, and whether it is mounted",
            ),
            (
                "hidden",
                "the directory holds no files but hidden ones and beam_etl's own; is it the right one?",
            ),
        ],
    )
    def test_an_input_without_files(self, tmp_path, good, place, complaint):
        (tmp_path / "empty").mkdir()
        (tmp_path / "hidden").mkdir()
        (tmp_path / "hidden" / ".part.csv").write_bytes(PLAIN)
        done = run(f"--input={good}", f"--input={tmp_path / place}", f"--output={tmp_path / 'lake'}")
        assert (done.code, done.err) == (USAGE, f"beam_etl: input {str(tmp_path / place)!r}: {complaint}\n")
        assert not (tmp_path / "lake" / "good").exists()

    @pytest.mark.parametrize("below", ["", "/below/it"])
    @pytest.mark.parametrize("flag", ["output", "report"])
    def test_a_place_that_cannot_be_written(self, tmp_path, good, flag, below):
        (tmp_path / "file").write_text("in the way")
        target = f"{tmp_path / 'file'}{below}"
        if flag == "report" and not below:
            target += "/report.json"
        lake = {"output": target, "report": tmp_path / "lake"}[flag]
        done = run(f"--input={good}", f"--output={lake}", f"--{flag}={target}")
        assert (done.code, done.out) == (USAGE, "")
        assert done.err == (
            f"beam_etl: --{flag} {target}: cannot be written (File exists); give a place in a directory that exists or "
            "can be made, and that this user may write\n"
        )
        assert (tmp_path / "file").read_text() == "in the way"

    @pytest.mark.parametrize("dsn", ["postgresql://loader:hunter2@db/d", "host=db password=hunter2 dbname=d"])
    def test_a_password_in_the_open(self, tmp_path, good, dsn):
        done = run(f"--input={good}", f"--output={tmp_path / 'lake'}", f"--postgres={dsn}")
        assert (done.code, done.out) == (USAGE, "")
        assert done.err.startswith("beam_etl: postgres: holds a password in the open")
        assert done.err.endswith("and give env:NAME or file:PATH instead\n")
        assert "hunter2" not in done.err
        assert not (tmp_path / "lake").exists()

    @pytest.mark.parametrize(
        ("reference", "complaint"),
        [
            ("env:NOT_SET_ANYWHERE", "the environment variable 'NOT_SET_ANYWHERE' of"),
            ("file:/nowhere/dsn", "cannot read the file of 'file:/nowhere/dsn' (No such file or directory)"),
            ("gcp-secret:one/two/three/four", "'gcp-secret:one/two/three/four' names no secret; write gcp-secret:"),
        ],
    )
    def test_a_secret_that_is_nowhere(self, tmp_path, good, reference, complaint):
        done = run(f"--input={good}", f"--output={tmp_path / 'lake'}", f"--postgres={reference}")
        assert (done.code, done.out) == (USAGE, "")
        assert done.err.startswith(f"beam_etl: --postgres: {complaint}")
        assert not (tmp_path / "lake" / "good").exists()

    def test_a_database_that_does_not_answer(self, tmp_path, good, monkeypatch):
        dsn = f"postgresql://loader:hunter2@127.0.0.1:{free_port()}/registry"
        monkeypatch.setenv("PG_DSN", dsn)
        done = run(f"--input={good}", f"--output={tmp_path / 'lake'}", "--postgres=env:PG_DSN")
        assert done.code == USAGE
        assert done.err.startswith(
            f"beam_etl: --postgres: PostgreSQL at {dsn.split('@')[1]} is unreachable or overloaded"
        )
        assert "Connection refused" in done.err
        assert "hunter2" not in done.err
        assert not (tmp_path / "lake" / "good").exists()

    def test_a_role_that_may_not_connect(self, tmp_path, good, database, monkeypatch):
        monkeypatch.setenv("PG_DSN", make_conninfo(database, user="nobody_here", password="hunter2"))
        done = run(f"--input={good}", f"--output={tmp_path / 'lake'}", "--postgres=env:PG_DSN")
        assert done.code == USAGE
        assert done.err.startswith("beam_etl: --postgres: PostgreSQL at ")
        assert "refused: connection failed: " in done.err
        assert 'role "nobody_here" does not exist' in done.err
        assert "hunter2" not in done.err

    def test_an_embedded_database_in_a_file(self, tmp_path, good):
        done = run(f"--input={good}", f"--output={tmp_path / 'lake'}", f"--postgres=embedded:{good}")
        assert (done.code, done.err) == (
            USAGE,
            f"beam_etl: --postgres: embedded PostgreSQL cannot run in {str(good)!r}: that is a file; name a directory\n",
        )

    def test_a_schema_that_does_not_exist(self, tmp_path, good, database):
        done = run(
            *(f"--input={good}", f"--output={tmp_path / 'lake'}"),
            *(f"--postgres={database}", "--postgres_schema=nowhere"),
        )
        assert done.code == USAGE
        assert done.err.endswith("has no schema 'nowhere'; run CREATE SCHEMA \"nowhere\"\n")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("tabels: []", "tabels: unknown key; did you mean 'tables'?"),
            ("tables: [{name: t, columns: {a: integr}}]", "unknown type 'integr'"),
            ("tables: [{name: good, files: ['re:(']}]", "pattern 're:(': not a valid regular expression"),
            ("dialect: {delimiter: ';;;;;;;;;;;;;;;;;'}", "delimiter"),
            ("dialect: {delimiter: ';', quote: ';'}", "quote"),
        ],
    )
    def test_a_wrong_job_file(self, tmp_path, good, text, complaint):
        (tmp_path / "job.yaml").write_text(text)
        done = run(f"--input={good}", f"--output={tmp_path / 'lake'}", f"--config={tmp_path / 'job.yaml'}")
        assert (done.code, done.out) == (USAGE, "")
        assert complaint in done.err
        assert "Traceback" not in done.err

    def test_a_file_that_changes_while_it_is_converted_stops_the_run_and_the_next_one_loads_it(
        self, tmp_path, good, monkeypatch
    ):
        original = convert_chunks.convert_chunk

        def convert_chunk(chunk, *arguments):
            with good.open("ab") as file:
                file.write(b"3,c\n")
            return original(chunk, *arguments)

        monkeypatch.setattr(convert_chunks, "convert_chunk", convert_chunk)
        arguments = [f"--input={good}", f"--output={tmp_path / 'lake'}"]
        done = run(*arguments)
        assert done.code == FAILED
        assert f"{good}: changed during the load (was version 16-" in done.err
        assert "run the same command again when the file is complete" in done.err
        assert "Traceback" not in done.err
        assert not (tmp_path / "lake" / "good").exists()
        monkeypatch.undo()
        assert run(*arguments).code == PUBLISHED
        assert parquet_rows(tmp_path / "lake", "good") == [*ROWS, (3, "c")]
