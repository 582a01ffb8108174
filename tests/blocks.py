"""Runs the Python code of a document or notebook, one block after the other, as a reader would.

It fails if a block raises, or if a line that a notebook would show is an empty table.
"""

import ast
import json
import re
from pathlib import Path

import pandas as pd

EMPTY_ON_PURPOSE = ("r.robustness",)


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def code_of(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return blocks(text)
    return ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]


def run(document: Path) -> None:
    scope: dict[str, object] = {"__name__": "document"}
    for block in code_of(document):
        for statement in ast.parse(block).body:
            code = ast.unparse(statement)
            if not isinstance(statement, ast.Expr):
                exec(compile(ast.Module([statement], []), f"{document}: {code[:60]}", "exec"), scope)
                continue
            shown = eval(compile(ast.Expression(statement.value), f"{document}: {code}", "eval"), scope)
            if isinstance(shown, pd.DataFrame) and code not in EMPTY_ON_PURPOSE:
                assert len(shown), f"{code}: an empty table"
