"""Write docs/rules/ from the rules: one page per code, and an index.

``--examples`` first plants each rule's defect in a twin and keeps what the rule then says (rule_examples.json, beside
this script); codes given after it are the only ones done again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

from hcc_tace_data.phantom import make_phantom
from hcc_tace_data.phantom.defects import apply_defect, defect_codes
from hcc_tace_data.system.files import atomic_path, atomic_write_text
from hcc_tace_data.validators import validate
from hcc_tace_data.validators.registry import RULES
from hcc_tace_data.validators.rule import Rule

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "rules"
EXAMPLES = Path(__file__).resolve().with_name("rule_examples.json")


def page(rule: Rule, example: str) -> str:
    """Return the page of one rule."""
    return (
        f"# {rule.code} {rule.name}\n\n{rule.summary}\n\n"
        f"- Severity: {rule.severity}\n- Scope: {rule.scope}\n- Depth: {rule.depth}\n- Source: {rule.source}\n\n"
        f"## Why\n\n{rule.why}\n\n## Repair\n\n{rule.fix}\n"
        + (f"\n## Example\n\nA twin with this defect (`hcc-tace phantom OUT --defect {rule.code}`):\n\n{example}\n"
           if example else "")
    )  # fmt: skip


def pages() -> dict[str, str]:
    """Return file name -> text."""
    rows = "".join(f"| [{r.code}]({r.code}.md) | {r.severity} | {r.depth} | {r.summary} |\n" for r in RULES)
    index = f"# Rules\n\n| code | severity | depth | checks |\n|---|---|---|---|\n{rows}"
    examples = json.loads(EXAMPLES.read_text(encoding="utf-8"))
    return {"README.md": index, **{f"{r.code}.md": page(r, examples.get(r.code, "")) for r in RULES}}


def example(clean: Path, rule: Rule) -> str:
    """Plant the defect of a rule in a copy of a twin and return what the rule says, as the text report does."""
    with tempfile.TemporaryDirectory() as folder:
        # defects replace files and never write into them, so links will do for a copy
        copy = Path(shutil.copytree(clean, Path(folder) / "twin", copy_function=os.link))
        apply_defect(copy, rule.code)
        report = validate(copy, select=[rule.code], depth=rule.depth, workers=1)
    found = next((one for one in report.findings if one.code == rule.code and not one.known), None)
    if found is None:
        print(f"{rule.code}: no finding ({report.rules[0].reason})")
        return ""
    head = " ".join(part for part in (found.code, found.severity, found.patient_id, found.tag) if part)
    lines = [f"{head}: {found.message}", *([f"Hint: {found.hint}"] if found.hint else [])]
    return "\n".join(textwrap.indent(textwrap.fill(line, 110, subsequent_indent="  "), "    ") for line in lines)


def make_examples(codes: list[str]) -> None:
    """Plant the defects of `codes` and keep what was said."""
    kept = json.loads(EXAMPLES.read_text(encoding="utf-8")) if EXAMPLES.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        clean = make_phantom(Path(folder) / "clean", workers=1)
        for rule in RULES:
            if rule.code in codes:
                kept[rule.code] = example(clean, rule)
    known = {rule.code for rule in RULES}
    kept = {code: text for code, text in sorted(kept.items()) if code in known}
    atomic_write_text(EXAMPLES, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--examples"]:
        make_examples(sys.argv[2:] or [code for code in defect_codes() if code.startswith("HT")])
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        with atomic_path(FOLDER / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
