import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_etl.sources.encoding_guess import guess_encoding

_WESTERN = (
    "SERVIÇO FEDERAL DE PROCESSAMENTO",
    "COMÉRCIO DE CONFECÇÕES LTDA",
    "PADARIA SÃO JOÃO",
    "TRANSPORTES ÁGUIA",
    "BRASÍLIA",
    "AÇOUGUE DO ZÉ",
    "Müller & Söhne",
    "Peña Núñez",
    "Smørrebrød",
    "naïve café",
    "½ 20° §5 £3 ±2",
    "Åsa Öberg",
)


@pytest.mark.parametrize("encoding", ["iso-8859-1", "cp1252"])
@pytest.mark.parametrize("n_lines", [1, 3, 10, 100])
def test_western_text_is_never_taken_for_anything_else(encoding, n_lines):
    rng = random.Random(n_lines)
    for _ in range(60):
        lines = [f'"{rng.randrange(10**8)}";"{rng.choice(_WESTERN)}";"{rng.choice(_WESTERN)}"' for _ in range(n_lines)]
        assert guess_encoding(["\n".join(lines).encode(encoding)]) is None


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("część zapłacona, źródło, późniejszy żąda się ścisłości", "cp1250"),
        ("příští měsíc žádný účet, zůstává dlužen", "iso-8859-2"),
        ("ödeme yapıldı, teşekkürler, değişiklik yok, Eskişehir", "cp1254"),
        ("оплачено полностью, нет данных, уточнить", "cp1251"),
        ("оплачено полностью, нет данных, уточнить", "koi8-r"),
        ("оплачено полностью, нет данных, уточнить", "cp866"),
        ("πληρώθηκε χθες, δεν υπάρχουν στοιχεία", "iso-8859-7"),
        ("東京都新宿区,山田太郎,大阪府大阪市のビル", "shift_jis"),
        ("東京都新宿区,山田太郎,大阪府大阪市のビル", "euc_jp"),
        ("北京市朝阳区建国路,张伟,上海市浦东新区", "gb18030"),
        ("서울특별시 강남구,김철수,부산광역시 해운대구", "euc_kr"),
        ("臺北市信義區,陳小明,高雄市左營區", "big5"),
    ],
)
def test_other_scripts_and_alphabets(text, encoding):
    data = "".join(f"{number},plain text,{text}\n" for number in range(5)).encode(encoding)
    found = guess_encoding([data])
    assert found is not None
    name, confidence = found
    assert data.decode(name) == data.decode(encoding)
    assert 0 < confidence <= 1


def test_a_few_bytes_say_nothing():
    assert guess_encoding([]) is None
    assert guess_encoding([b"a,b\n1,2\n"]) is None
    assert guess_encoding(["Łódź".encode("cp1250")]) is None


@given(st.lists(st.binary(max_size=300), max_size=3))
def test_any_bytes(samples):
    found = guess_encoding(samples)
    assert found is None or b"".join(samples).decode(found[0], "replace") is not None
