"""The notebooks of docs/notebooks run, without a network: as a script, and in a kernel of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_stored_without_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert [cell for cell in notebook.cells if cell.get("outputs")] == []
    assert {cell.get("execution_count") for cell in notebook.cells} == {None}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_cells_run_as_a_script(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    names: dict[str, Any] = {}
    for code in code_of(path):
        exec(compile(code, path.name, "exec"), names)
    assert len(plt.get_fignums()) == 2
    plt.close("all")
    assert len(names["run"].scores()) == 4 * 2 * 5  # arms x generations x metrics
    assert set(names["mine"].arms) == {"replace", "mostly real"}


@pytest.mark.slow
def test_the_first_run_in_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}.items():
        monkeypatch.setenv(name, value)
    for folder in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(folder, str(tmp_path / "jupyter"))
    notebook = nbformat.read(ROOT / "docs" / "notebooks" / "first-run.ipynb", as_version=4)
    (tmp_path / "work").mkdir()
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path / "work")}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert {output.output_type for output in outputs} == {"display_data", "execute_result"}  # no warnings, no errors
    texts = [output.data["text/plain"] for output in outputs]
    assert texts[0].splitlines()[-1].startswith("finished after ")
    assert "<progress" in outputs[0].data["text/html"]
    assert texts[1].startswith("Run quickstart (finished) in runs/quickstart-smoke")
    assert "<table>" in outputs[1].data["text/html"]
    assert "(4, 1, 8, 8)" in texts
    assert sum("image/png" in output.data for output in outputs) == 2
    assert len(outputs) == len(code_of(ROOT / "docs" / "notebooks" / "first-run.ipynb")) + 1  # a display and a table
