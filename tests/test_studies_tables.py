"""Markdown tables by hand."""

import pytest

from minidream.studies.tables import markdown_table


def test_a_table_by_hand():
    found = markdown_table(["a", "b"], [["1", "2"], ["", None]], ["left", "right"])
    assert found == "| a | b |\n|---|--:|\n| 1 | 2 |\n|  | |"
    assert markdown_table(["a", "b"], []) == "| a | b |\n|---|---|"


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="3 cells in a table of 2 columns"):
        markdown_table(["a", "b"], [["1", "2", "3"]])
    with pytest.raises(ValueError, match="1 cells in a table of 2 columns"):
        markdown_table(["a", "b"], [["1", "2"]], ["left"])
