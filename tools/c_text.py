"""Reading C just far enough for the checkers: comments and strings blanked, places kept."""

from __future__ import annotations

import re
from pathlib import Path

# A comment, a string or a character constant, whichever begins first.
_BLANKED = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def blank(text: str) -> str:
    """The text with everything inside comments, strings and character constants turned into spaces; offsets and line
    breaks stay where they were, and so do the quotes."""

    def spaces(match: re.Match[str]) -> str:
        found = match.group()
        kept = re.sub(r"[^\n]", " ", found)
        return kept if found[0] == "/" else found[0] + kept[1:-1] + found[-1]

    return _BLANKED.sub(spaces, text)


def line_of(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


def includes(text: str) -> list[tuple[int, str, str]]:
    """(line, '<' or '"', name) of every include that is not in a comment."""
    code = blank(text)
    # Names in quotes were blanked: find them in the text, keep those whose # survived.
    return [
        (line_of(text, match.start()), match.group(1), match.group(2))
        for match in _INCLUDE.finditer(text)
        if "#" in code[match.start() : match.start(1)]
    ]


def c_files(root: Path, folders: list[str]) -> list[Path]:
    found = [path for folder in folders for path in sorted((root / folder).rglob("*")) if path.suffix in (".c", ".h")]
    return [path for path in found if path.is_file()]
