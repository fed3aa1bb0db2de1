"""Writes the files of docs/examples/peg_lab into the code blocks of docs/extending.md that stand below their names."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "extending.md"
EXAMPLE = Path(__file__).resolve().parent / "peg_lab"
_BLOCK = re.compile(r"(?P<head>^\*\*`(?P<path>[^`]+)`\*\*\n\n```\w+\n).*?(?P<tail>^```$)", re.DOTALL | re.MULTILINE)


def shown(page: str) -> list[str]:
    """Paths of the files that the page shows."""
    return [match["path"] for match in _BLOCK.finditer(page)]


def filled(page: str) -> str:
    """The page with the files as they are."""
    return _BLOCK.sub(lambda match: match["head"] + (EXAMPLE / match["path"]).read_text() + match["tail"], page)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
