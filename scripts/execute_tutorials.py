"""Runs the tutorials and saves what their cells print and draw. `make tutorials` calls it.

What Ray and RLlib write to stderr is left out: it holds paths and process numbers of the machine.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbclient
import nbformat

TUTORIALS = Path(__file__).parents[1] / "docs" / "tutorials"

# Pictures go into the cells, whatever backend the shell that calls us asks for.
INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}


def executed(path: Path, folder: Path) -> Any:
    """The notebook, run from its first cell to its last with this Python.

    Args:
        path: The notebook.
        folder: Where its cells run.

    Raises:
        CellExecutionError: If a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": folder}}
    )
    client.execute(env={**os.environ, **INLINE})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.metadata = {}  # When it ran.
            cell.outputs = [o for o in cell.outputs if _is_shown(o)]
    return notebook


def _is_shown(output: Any) -> bool:
    return output.get("name") != "stderr" and "text/html" not in output.get("data", {})


def main() -> None:
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, Path(folder)), path)
        print(path.name, file=sys.stderr)


if __name__ == "__main__":
    main()
