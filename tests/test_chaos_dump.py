"""The dump is what the oracle takes it for, in every version."""

import csv
import random
from decimal import Decimal

import numpy as np
import pytest

from beam_etl.chaos.dump import Dump, Expected


def read_again(dump: Dump) -> Expected:
    """What the files hold, by another reader of CSV."""
    ids, amount, characters, rejects = [], Decimal(0), 0, []
    for path in sorted(dump.input.glob("events*.csv")):
        with path.open(newline="") as file:
            for row in list(csv.reader(file))[1:]:
                if len(row) != 4:
                    rejects.append(",".join(row))
                elif row[3] == "2024-02-31":
                    rejects.append(f'{row[0]},"a ""bad"" day",{row[2]},{row[3]}')
                else:
                    ids.append(int(row[0]))
                    amount += Decimal(row[2])
                    characters += len(row[1])
    return Expected(np.sort(np.array(ids)), amount, characters, tuple(sorted(rejects)))


def assert_same(one: Expected, other: Expected) -> None:
    assert np.array_equal(one.ids, other.ids)
    assert (one.amount, one.characters, one.rejects) == (other.amount, other.characters, other.rejects)


@pytest.mark.parametrize("widens", [False, True])
def test_the_expectation_is_what_the_files_hold(widens, tmp_path):
    dump = Dump(tmp_path / "dump", records=9000, files=3, widens=widens, spoiled=True)
    found = read_again(dump)
    assert_same(found, dump.expected)
    assert len(np.unique(found.ids)) == len(found.ids)
    assert len(found.ids) + len(found.rejects) == 9000 + widens
    assert len(found.rejects) > 10
    assert (found.amount * 100 % 1 != 0) == widens


def test_a_changed_file_is_a_new_version_that_shares_no_id_of_that_file(tmp_path):
    rng = random.Random(3)
    dump = Dump(tmp_path / "dump", records=6000, files=3, widens=True, spoiled=False)
    for count in range(2, 12):
        before = {path.name: path.read_bytes() for path in dump.input.iterdir()}
        changed = dump.change_a_file(rng)
        after = {path.name: path.read_bytes() for path in dump.input.iterdir()}
        assert {name for name in after if after[name] != before[name]} == {changed}
        assert after.keys() == before.keys()
        assert len(dump.versions) == count
        assert_same(read_again(dump), dump.expected)
        kept = np.intersect1d(dump.versions[-1].ids, dump.versions[-2].ids)
        assert len(kept) < len(dump.expected.ids) - 1000
