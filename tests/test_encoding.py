import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_etl.sources.encoding import (
    Encoding,
    canonical_encoding,
    detect_encoding,
    first_high_byte,
    is_transparent,
    transcode,
)

TEXT = "código;descrição\n00501;ÇÃO é ü\n"
ORDINARY = "id,name\n1,anna\n2,bob\n"


@pytest.mark.parametrize(
    ("encoding", "mark"),
    [
        ("utf-8", codecs.BOM_UTF8),
        ("utf-16-le", codecs.BOM_UTF16_LE),
        ("utf-16-be", codecs.BOM_UTF16_BE),
        ("utf-32-le", codecs.BOM_UTF32_LE),
        ("utf-32-be", codecs.BOM_UTF32_BE),
    ],
)
def test_a_byte_order_mark_decides(encoding, mark):
    found = detect_encoding(mark + TEXT.encode(encoding), True, None)
    assert (found.name, found.bom_bytes) == (encoding, len(mark))


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", [TEXT, ORDINARY])
def test_wide_encodings_are_told_by_their_nul_bytes(encoding, text):
    found = detect_encoding(text.encode(encoding), True, None)
    assert (found.name, found.bom_bytes) == (encoding, 0)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "utf-8"),
        (b"a", "utf-8"),
        (b"a,b\n\0\0\0\0\0\0\0\0,x\nab\0c,1\n", "utf-8"),
        (TEXT.encode(), "utf-8"),
        (TEXT.encode("iso-8859-1"), "iso-8859-1"),
        ("preço;“aspas” 5 €\n".encode("cp1252"), "cp1252"),
        (b"a\x80\xe7 \x81b\n", "iso-8859-1"),
        (("ação é ü ñ " * 5).encode() + b" \xe7\n", "utf-8"),
    ],
)
def test_narrow_encodings(data, name):
    assert detect_encoding(data, True, None).name == name


def test_a_character_cut_at_the_end_of_the_head_is_no_fault():
    for text in ("aé", "a€", "a😀"):
        data = text.encode()
        for length in range(2, len(data)):
            assert detect_encoding(data[:length], False, None).name == "utf-8"
    assert detect_encoding("aé".encode()[:2], True, None).name == "iso-8859-1"


def test_windows_tell_the_encoding_of_a_file_with_an_ascii_head():
    assert detect_encoding(b"abc", False, None, [b"abc", "São João".encode("iso-8859-1")]).name == "iso-8859-1"
    euros = "€€€€".encode()
    assert detect_encoding(b"abc", False, None, [euros[1:-1], euros[2:-2]]).name == "utf-8"
    assert detect_encoding(b"abc", False, None, [b"abc"]).name == "utf-8"


@pytest.mark.parametrize(
    ("declared", "data", "name", "bom_bytes"),
    [
        ("latin1", TEXT.encode(), "iso-8859-1", 0),
        ("utf8", codecs.BOM_UTF8 + b"a", "utf-8", 3),
        ("utf-8-sig", b"a", "utf-8", 0),
        ("utf-16", codecs.BOM_UTF16_BE + "ab".encode("utf-16-be"), "utf-16-be", 2),
        ("utf-16", "abc".encode("utf-16-be"), "utf-16-be", 0),
        ("utf-16", "日本".encode("utf-16-le"), "utf-16-le", 0),
        ("utf-16-le", codecs.BOM_UTF16_LE + b"a\0", "utf-16-le", 2),
        ("SJIS", b"a", "shift_jis", 0),
    ],
)
def test_the_declared_encoding_wins(declared, data, name, bom_bytes):
    found = detect_encoding(data, True, declared)
    assert (found.name, found.bom_bytes) == (name, bom_bytes)


@pytest.mark.parametrize("name", ["utf-9", "hex", "rot13", "idna", "undefined"])
def test_an_encoding_that_is_none_is_refused_with_a_remedy(name):
    with pytest.raises(ValueError, match=f"unknown encoding '{name}'; use a name such as utf-8"):
        canonical_encoding(name)


def test_which_encodings_the_kernels_can_read():
    transparent = ["utf-8", "ascii", "iso-8859-1", "iso-8859-15", "cp1252", "cp1250", "koi8-r", "mac-roman", "cp437"]
    assert [name for name in transparent if not is_transparent(name)] == []
    wide = ["utf-16-le", "utf-32-be", "shift_jis", "gb18030", "big5", "euc_jp", "euc_kr", "cp037", "cp500", "utf-7"]
    assert [name for name in wide if is_transparent(name)] == []


def _transcoded(data, name, bom_bytes=0, block=3):
    blocks = [data[i : i + block] for i in range(0, len(data), block)]
    return b"".join(transcode(blocks, Encoding(name, bom_bytes, "")))


@pytest.mark.parametrize("name", ["utf-16-le", "utf-16-be", "utf-32-le", "shift_jis", "gb18030", "cp037"])
@given(text=st.text(alphabet='aZ09,;"\n漢字カ', max_size=30), block=st.integers(1, 7))
def test_transcoding_keeps_text(name, text, block):
    text = text if name != "cp037" else text.encode("ascii", "ignore").decode()
    assert _transcoded(text.encode(name), name, block=block) == text.encode()


def test_transcoding_leaves_the_byte_order_mark_out():
    assert _transcoded(codecs.BOM_UTF16_LE + "aé".encode("utf-16-le"), "utf-16-le", 2, block=1) == "aé".encode()


@given(st.binary(max_size=40), st.sampled_from(["utf-16-le", "utf-32-le", "shift_jis", "utf-16-be"]), st.integers(1, 9))
def test_undecodable_bytes_are_kept_reversibly_and_are_no_utf_8(data, name, block):
    rewritten = _transcoded(data, name, block=block)
    text = rewritten.decode("utf-8", "surrogatepass")
    parts = [bytes([ord(c) - 0xDC00]) if "\udc00" <= c <= "\udcff" else c.encode(name) for c in text]
    if name != "shift_jis":  # some characters have two codes there
        assert b"".join(parts) == data
    try:
        data.decode(name)
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            rewritten.decode("utf-8")
    else:
        rewritten.decode("utf-8")


def test_first_high_byte():
    assert [first_high_byte(data) for data in (b"", b"abc", b"ab\xe7\xff", b"\x80")] == [-1, -1, 2, 0]


@given(st.binary(max_size=200), st.booleans(), st.lists(st.binary(max_size=20), max_size=3))
def test_any_bytes_have_an_encoding_that_python_knows(head, is_whole, windows):
    found = detect_encoding(head, is_whole, None, windows)
    assert canonical_encoding(found.name) == found.name
    assert 0 <= found.bom_bytes <= len(head)


def test_what_may_be_iso_8859_15_is_read_as_iso_8859_1_and_the_doubt_is_told():
    data = "id;preço\n1;10 €\n2;café à 2 €\n".encode("iso-8859-15")
    found = detect_encoding(data, True, None)
    assert found.name == "iso-8859-1"
    assert "2 bytes are other characters in iso-8859-15 (such as € for ¤): declare encoding" in found.evidence
    assert data.decode(found.name) == "id;preço\n1;10 ¤\n2;café à 2 ¤\n"
    declared = detect_encoding(data, True, "iso-8859-15")
    assert data.decode(declared.name).count("€") == 2


def test_accents_that_both_western_encodings_share_leave_no_doubt():
    assert "8859-15" not in detect_encoding("São João; Müller".encode("iso-8859-1"), True, None).evidence
