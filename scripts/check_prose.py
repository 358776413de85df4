"""Check the texts that people read against the house style (scripts/prose.yaml) and proselint.

    python scripts/check_prose.py

Texts are README and other pages (without code), and the docstrings, comments and strings of the code. Prints one line
per finding; exit code 1 if there are any.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
STYLE = ROOT / "scripts" / "prose.yaml"
CODE = ("hcc_tace_data", "loaders", "validators", "tests", "scripts", "benchmarks", "examples")
#: A file, the line it starts on, and a text.
Text = tuple[Path, int, str]


def texts() -> Iterator[Text]:
    """Yield every text of the project."""
    for path in (*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))):
        yield path, 1, without_code(path.read_text(encoding="utf-8"))
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield from ((path, line, text) for line, text in strings(path.read_text(encoding="utf-8")))


def without_code(text: str) -> str:
    """Return Markdown whose code is blank, line for line."""
    return re.sub(r"^```.*?^```$|`[^`\n]*`", lambda found: re.sub(r"[^\n]", " ", found[0]), text, flags=re.M | re.S)


def strings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the comments and strings of a module, each with its line; neighbouring comments are one text."""
    comment: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            whole = token.line.lstrip().startswith("#")
            if comment and (token.start[0] != last + 1 or not whole):
                yield first, "\n".join(comment)
                comment = []
            first = first if comment else token.start[0]
            last = token.start[0]
            comment.append(token.string.lstrip("# :"))
        elif token.type == tokenize.STRING:
            yield token.start[0], token.string
    if comment:
        yield first, "\n".join(comment)


def house_style(all_texts: list[Text]) -> Iterator[str]:
    """Yield a line for each breach of the house style."""
    rules = yaml.safe_load(STYLE.read_text(encoding="utf-8"))["style"]
    better = {pattern.replace(" ", r"\s+"): advice for pattern, advice in rules.items()}
    every = re.compile("|".join(f"(?:{pattern})" for pattern in better), re.I)
    for path, line, text in all_texts:
        if path == STYLE or path.name == "check_prose.py":
            continue
        for found in every.finditer(text):
            advice = next(what for pattern, what in better.items() if re.search(pattern, found[0], re.I))
            at = line + text.count("\n", 0, found.start())
            yield f"{path.relative_to(ROOT)}:{at}: '{' '.join(found[0].split())}': {advice}"


def proselint_style(all_texts: list[Text]) -> Iterator[str]:
    """Yield a line for each finding of proselint in the pages."""
    program = Path(sys.executable).with_name("proselint")
    wanted = yaml.safe_load(STYLE.read_text(encoding="utf-8"))["proselint"]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.json"
        names = [name.partition(".")[0] for name in wanted]
        every = json.loads(subprocess.run([program, "dump-config"], capture_output=True, text=True, check=True).stdout)
        checks = {**{name: name in names for name in every["checks"]}, **dict.fromkeys(wanted, True)}
        config.write_text(json.dumps({"max_errors": 1000, "checks": checks}))
        for path, _, text in all_texts:
            if path.suffix == ".md":
                copy = Path(folder) / "pages" / path.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(text, encoding="utf-8")
        command = [program, "--config", str(config), "check", str(Path(folder) / "pages")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        for line in done.stdout.splitlines():
            # typography cannot be switched off; a heading and the word after it are no repetition, nor are sizes
            if "/pages/" in line and " typography." not in line and not re.search(r"illusion in '([^']*$|.*\d)", line):
                yield line.partition("/pages/")[2]
        if done.stderr:
            yield done.stderr


def main() -> int:
    """Return the exit code."""
    found = list(texts())
    lines = [*house_style(found), *proselint_style(found)]
    print("\n".join(lines) if lines else f"{len(found)} texts read, no finding")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
