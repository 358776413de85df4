"""Write docs/rules/ from the rules: one page a code, and an index."""

from __future__ import annotations

from pathlib import Path

from hcc_tace_data.system.files import atomic_path
from hcc_tace_data.validators.registry import RULES
from hcc_tace_data.validators.rule import Rule

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "rules"


def page(rule: Rule) -> str:
    """Return the page of one rule."""
    return (
        f"# {rule.code} {rule.name}\n\n{rule.summary}\n\n"
        f"- Severity: {rule.severity}\n- Scope: {rule.scope}\n- Depth: {rule.depth}\n- Source: {rule.source}\n\n"
        f"## Why\n\n{rule.why}\n\n## Repair\n\n{rule.fix}\n"
    )


def pages() -> dict[str, str]:
    """Return file name -> text."""
    rows = "".join(f"| [{r.code}]({r.code}.md) | {r.severity} | {r.depth} | {r.summary} |\n" for r in RULES)
    index = f"# Rules\n\n| code | severity | depth | checks |\n|---|---|---|---|\n{rows}"
    return {"README.md": index, **{f"{rule.code}.md": page(rule) for rule in RULES}}


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        with atomic_path(FOLDER / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
