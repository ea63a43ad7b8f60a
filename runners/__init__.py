"""Places where the graph runs: default flags and checks, one file a place, one table of them."""

from runners.place import Place
from runners.table import PLACES, place_for

__all__ = ["PLACES", "Place", "place_for"]
