"""`flex-template`: metadata.json of the Dataflow flex template, as templates/dataflow/ holds it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from beam_etl.exit_codes import PUBLISHED
from beam_etl.flex_template import template_metadata


def main(arguments: Sequence[str]) -> int:
    description = "Prints metadata.json of the Dataflow flex template, made from the configuration."
    argparse.ArgumentParser(prog="python -m beam_etl flex-template", description=description).parse_args(arguments)
    print(json.dumps(template_metadata(), ensure_ascii=False, indent=2))
    return PUBLISHED
