"""Packaging of beam_etl. Workers receive exactly the three packages listed here."""

from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def read_requirements() -> list[str]:
    lines = (HERE / "requirements.txt").read_text(encoding="utf-8").splitlines()
    stripped = (line.split("#", 1)[0].strip() for line in lines)
    return [line for line in stripped if line]


setup(
    name="beam_etl",
    version="0.1.0",
    description="Lands piles of delimited text as typed Parquet and PostgreSQL, every record exactly once.",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[
        "beam_etl",
        "beam_etl.alerts",
        "beam_etl.chaos",
        "beam_etl.commands",
        "beam_etl.configuration",
        "beam_etl.loads",
        "beam_etl.memory",
        "beam_etl.parquet",
        "beam_etl.postgres",
        "beam_etl.progress",
        "beam_etl.reading",
        "beam_etl.reports",
        "beam_etl.sources",
        "transforms",
        "runners",
    ],
    package_data={"beam_etl": ["py.typed"], "beam_etl.reports": ["templates/*.j2"]},
    install_requires=read_requirements(),
    entry_points={"console_scripts": ["beam-etl = beam_etl.cli:run"]},
)
