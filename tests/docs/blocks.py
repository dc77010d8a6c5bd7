"""The fenced blocks of the manuals: which kind, which text, from where."""
import pathlib
import re

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)


def manuals(source):
    root = pathlib.Path(source)
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def blocks(source, kind):
    """(manual:line, text) of each block of that kind."""
    found = []
    for manual in manuals(source):
        text = manual.read_text(encoding="utf-8")
        for m in FENCE.finditer(text):
            if m.group(1) == kind:
                line = text.count("\n", 0, m.start()) + 1
                found.append((f"{manual.name}:{line}", m.group(2)))
    return found
