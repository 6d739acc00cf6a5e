"""examples/notebook.ipynb runs from its first cell to its last one, in a kernel of Jupyter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

NOTEBOOK = Path(__file__).parent.parent.parent / "examples" / "notebook.ipynb"


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The cells of code, with their outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(
        notebook,
        timeout=100,
        kernel_name="python3",
        resources={"metadata": {"path": tmp_path_factory.mktemp("nb")}},
    )
    client.execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def results(cell: Any) -> list[str]:
    return [output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"]


@pytest.mark.watchdog(120)
def test_results_are_right(cells: list[Any]) -> None:
    assert results(cells[0]) == ["(True, True)"]
    assert len(results(cells[1])) == 1
    expected = [("lines", False), ("is_class", True), ("batch", True)]
    assert results(cells[2]) == [repr(expected)]
    message, traceback, place, item = cells[3].outputs[0].text.splitlines()
    assert message == "the Zen of Python has no size"
    assert traceback.startswith("Traceback of the goroutine") and place.endswith(", in size")
    assert item.startswith("item ") and "this.py" in item
    assert results(cells[4]) == ["1"]
    assert results(cells[6]) == ["499999500000"]


def test_progress_is_shown_in_the_cells(cells: list[Any]) -> None:
    shown = [output for output in cells[1].outputs if output.output_type == "display_data"]
    assert len(shown) == 1
    assert "files" in str(shown[0].data) or "application/vnd.jupyter.widget-view+json" in shown[0].data
    assert sum(output.output_type == "display_data" for output in cells[2].outputs) == 3


def test_nothing_is_written_to_standard_error(cells: list[Any]) -> None:
    assert [o for cell in cells for o in cell.outputs if o.get("name") == "stderr"] == []
