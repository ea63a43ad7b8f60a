"""docs/rejects.md names every code, and every key of a reject, and no others."""

import re
from pathlib import Path

from beam_etl.loads.rejects import reject_to_json
from beam_etl.model import REJECT_CODES, Reject

PAGE = (Path(__file__).parents[1] / "docs/rejects.md").read_text()


def first_cells(section):
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return [name for cell in rows for name in re.findall(r"`(\w+)`", cell)]


def test_the_page_names_every_code():
    assert sorted(first_cells(PAGE.partition("## Codes")[2])) == sorted(REJECT_CODES)


def test_the_page_names_every_key():
    reject = Reject("f", "", 1, 1, 0, 1, "", "bad_value", "why", b"x")
    assert sorted(first_cells(PAGE.partition("## Codes")[0])) == sorted(reject_to_json(reject))
