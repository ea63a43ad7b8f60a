import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_etl.loads.rejects import StagedRejects, read_staged, reject_to_json, render_raw
from beam_etl.model import Reject


def reject(raw=b"x,1", encoding="utf-8", record=2):
    return Reject("f.zip", "m.csv", record, 3, 10, 13, "id", "bad_value", "why", raw, encoding, span_index=4)


@pytest.mark.parametrize(
    ("raw", "encoding", "expected"),
    [
        (b"caf\xe9", "iso-8859-1", {"raw": "café", "raw_encoding": "iso-8859-1"}),
        ("café".encode(), "utf-8", {"raw": "café", "raw_encoding": "utf-8"}),
        (b"caf\xe9", "utf-8", {"raw": "Y2Fm6Q==", "raw_encoding": "base64"}),
        (b"\x81", "cp1252", {"raw": "gQ==", "raw_encoding": "base64"}),
        (b"a\0b\r\n", "utf-8", {"raw": "a\0b\r\n", "raw_encoding": "utf-8"}),
        (b"", "utf-8", {"raw": "", "raw_encoding": "utf-8"}),
    ],
)
def test_raw_is_text_where_the_codec_gives_the_bytes_back(raw, encoding, expected):
    assert render_raw(raw, encoding) == expected


@given(raw=st.binary(max_size=40), encoding=st.sampled_from(["utf-8", "iso-8859-1", "cp1252", "koi8-r"]))
def test_the_bytes_of_a_reject_survive_json(raw, encoding):
    read = json.loads(json.dumps(reject_to_json(reject(raw, encoding)), ensure_ascii=False).encode())
    codec = read["raw_encoding"]
    assert (base64.b64decode(read["raw"]) if codec == "base64" else read["raw"].encode(codec)) == raw


def test_staged_rejects_keep_their_span_until_they_are_numbered(tmp_path):
    staged = StagedRejects(str(tmp_path / "below" / "r.jsonl"))
    for record in (1, 2):
        staged.add(reject(record=record, raw="ä\n\u2028b".encode()))
    assert staged.count == 2
    path = staged.close()
    assert [(line["record"], line["span_index"], line["raw"]) for line in read_staged(path)] == [
        (1, 4, "ä\n\u2028b"),
        (2, 4, "ä\n\u2028b"),
    ]


def test_an_attempt_without_rejects_leaves_no_file(tmp_path):
    assert StagedRejects(str(tmp_path / "r.jsonl")).close() == ""
    assert list(tmp_path.iterdir()) == []


def test_a_discarded_attempt_leaves_no_file(tmp_path):
    staged = StagedRejects(str(tmp_path / "r.jsonl"))
    staged.add(reject())
    staged.discard()
    StagedRejects(str(tmp_path / "none.jsonl")).discard()
    assert list(tmp_path.iterdir()) == []
