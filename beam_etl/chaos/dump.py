"""A seeded dump for the chaos suite in which every record carries a unique id, and what must become of each."""

from __future__ import annotations

import dataclasses
import os
import random
from decimal import Decimal
from pathlib import Path

import numpy as np
import numpy.typing as npt

TABLE = "events"
SPOILED = "spoiled"
HEADER = "id,text,amount,day\n"
RAGGED_EVERY = 997
BAD_DAY_EVERY = 1499
SPOILED_RECORDS = 500

# A declared column, so that a bad day is a reject; the amount is inferred, so that a third digit widens it.
JOB = """\
tables:
  - name: events
    files: ["events*"]
    columns: {id: bigint, text: string, amount: , day: date}
"""


@dataclasses.dataclass(frozen=True)
class Expected:
    """What the table `events` must hold when a version of the dump is loaded.

    Attributes:
      ids: of the good records, ascending, int64.
      amount: sum of their amounts.
      characters: sum of the lengths of their texts.
      rejects: raw text of the planted bad records, sorted.
    """

    ids: npt.NDArray[np.int64]
    amount: Decimal
    characters: int
    rejects: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _File:
    """One file of the dump: its records have the ids first_id, first_id + 1, ..."""

    first_id: int
    records: int
    widens: bool


class Dump:
    """The input of one round: files of the table `events`, and perhaps one of a table that no policy lets through.

    Args:
      directory: is made; holds input/ and job.yaml.
      records, files: of the table `events`, in all.
      widens: whether the very last amount has a third digit, so that the table is converted twice.
      first_id: of the first file; the others follow in millions.
      spoiled: whether there is a table `spoiled`, half of whose records are ragged, so that it must not be published.
    """

    def __init__(
        self, directory: Path, records: int, files: int, widens: bool, spoiled: bool, first_id: int = 0
    ) -> None:
        self.directory = directory
        self.input = directory / "input"
        self.job = directory / "job.yaml"
        self.spoiled = spoiled
        self.input.mkdir(parents=True)
        self.job.write_text(JOB)
        self._version = 0
        self._files = {
            f"events.{number}.csv": _File(
                first_id + 1_000_000 * number, records // files, widens and number == files - 1
            )
            for number in range(files)
        }
        self._parts: dict[str, Expected] = {}
        for name, file in self._files.items():
            content, self._parts[name] = _content(file)
            (self.input / name).write_text(content)
        if spoiled:
            lines = [f"{i},text\n" if i % 2 else f"{i}\n" for i in range(SPOILED_RECORDS)]
            (self.input / f"{SPOILED}.csv").write_text("id,text\n" + "".join(lines))
        self.versions = [self._expected()]

    @property
    def expected(self) -> Expected:
        """What the dump as it is now must come to."""
        return self.versions[-1]

    def change_a_file(self, rng: random.Random) -> str:
        """Replaces the contents of a file, in place or by a new file; no id occurs in both versions. Returns its name."""
        self._version += 1
        name = rng.choice(sorted(self._files))
        old = self._files[name]
        file = dataclasses.replace(
            old,
            first_id=self._version * 100_000_000 + old.first_id % 100_000_000,
            records=old.records + rng.randint(-500, 500),
        )
        content, self._parts[name] = _content(file)
        self._files[name] = file
        path = self.input / name
        self.versions.append(self._expected())
        if rng.random() < 0.5:
            with path.open("r+b") as stream:
                stream.write(content.encode())
                stream.truncate()
        else:
            aside = self.directory / f"{name}.new"
            aside.write_text(content)
            os.replace(aside, path)  # noqa: PTH105
        return name

    def _expected(self) -> Expected:
        parts = self._parts.values()
        return Expected(
            ids=np.sort(np.concatenate([part.ids for part in parts])),
            amount=sum((part.amount for part in parts), Decimal(0)),
            characters=sum(part.characters for part in parts),
            rejects=tuple(sorted(raw for part in parts for raw in part.rejects)),
        )


def _content(file: _File) -> tuple[str, Expected]:
    """The text of a file, and what it adds to its table."""
    lines, ids, cents, characters, rejects = [HEADER], [], 0, 0, []
    for number in range(file.records):
        record_id = file.first_id + number
        text = f"text, {number % 97}\n{number}"
        record = f'{record_id},"{text}",{number % 1000}.25,2024-01-{number % 28 + 1:02d}'
        if number % RAGGED_EVERY == 7:
            record = f"{record_id},ragged"
            rejects.append(record)
        elif number % BAD_DAY_EVERY == 8:
            record = f'{record_id},"a ""bad"" day",1.25,2024-02-31'
            rejects.append(record)
        else:
            ids.append(record_id)
            cents += number % 1000 * 100 + 25
            characters += len(text)
        lines.append(record + "\n")
    amount = Decimal(cents) / 100
    if file.widens:
        record_id = file.first_id + file.records
        lines.append(f"{record_id},widens,0.125,2024-01-01\n")
        ids.append(record_id)
        amount += Decimal("0.125")
        characters += len("widens")
    return "".join(lines), Expected(np.array(ids, dtype=np.int64), amount, characters, tuple(rejects))
