"""Charts as SVG that stands inside a page: no script, no address, and the page's own colours."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

import pygal
from pygal.style import Style

_STYLE = Style(
    background="transparent",
    plot_background="transparent",
    foreground="var(--quiet)",
    foreground_strong="var(--text)",
    foreground_subtle="var(--line)",
    colors=("var(--accent)", "var(--bad)"),
    font_family="inherit",
    label_font_size=13,
    major_label_font_size=13,
    legend_font_size=13,
    title_font_size=14,
    opacity=".85",
)
_SVG = "{http://www.w3.org/2000/svg}"


def bar_chart(title: str, labels: Sequence[str], series: dict[str, Sequence[float]], unit: str = "") -> str:
    """One group of bars a label.

    Args:
      title: above the chart, and its name for those who cannot see it.
      series: name -> a value for each label; 2 at most, or colours repeat.
      unit: behind each number of the axis.
    """
    chart = pygal.Bar(
        _config(),
        style=_STYLE,
        title=title,
        show_legend=len(series) > 1,
        legend_at_bottom=True,
        value_formatter=lambda value: f"{value:,.6g}{unit}",
    )
    chart.x_labels = list(labels)
    for name, values in series.items():
        chart.add(name, list(values))
    return _inline(chart, title)


def _config() -> pygal.Config:
    return pygal.Config(
        js=[], width=560, height=300, margin=12, max_scale=5, min_scale=3, disable_xml_declaration=True, rounded_bars=2
    )


def _inline(chart: pygal.Bar, title: str) -> str:
    tree = ElementTree.fromstring(chart.render())
    for parent in list(tree.iter()):
        for child in list(parent):
            if child.tag == f"{_SVG}script":
                parent.remove(child)
    tree.set("role", "img")
    tree.set("aria-label", title)
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    return ElementTree.tostring(tree, encoding="unicode")
