"""The files that benchmarks read; made once for each scale, and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def lineitem(data: Path, scale_factor: float, parts: int) -> list[Path]:
    """TPC-H lineitem as CSV with a header, in one file or in parts; 766 MB at scale factor 1."""
    directory = data / f"lineitem-{scale_factor:g}-{parts}"
    if not directory.exists():
        command = [str(Path(sys.executable).with_name("tpchgen-cli")), "csv", "--tables=lineitem"]
        making = directory.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        split = [f"--parts={parts}"] if parts > 1 else []
        subprocess.run([*command, f"--scale-factor={scale_factor:g}", f"--output-dir={making}", *split], check=True)
        making.rename(directory)
    return sorted(directory.rglob("*.csv"))


def registry(data: Path, scale: float) -> Path:
    """The faulty dump of examples/generate_dump.py: zips of quoted text, and CSV of every sort."""
    directory = data / f"registry-{scale:g}"
    if not directory.exists():
        making = directory.with_suffix(".making")
        shutil.rmtree(making, ignore_errors=True)
        script = ROOT / "examples/generate_dump.py"
        subprocess.run([sys.executable, str(script), f"--output={making}", f"--scale={scale:g}"], check=True)
        making.rename(directory)
    return directory / "input"
