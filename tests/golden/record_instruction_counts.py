"""Records how many instructions per element every function executes with every instruction set of this machine, into
instruction_counts.json, for test_compiled_code.py. Sets that this CPU lacks keep the counts of what has not changed.

    python tests/golden/record_instruction_counts.py
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "support"), str(HERE.parent / "tools")]

import instruction_counts  # noqa: E402
import object_code  # noqa: E402

import fastopt as fo  # noqa: E402


def main() -> None:
    if reason := object_code.why_not() or instruction_counts.why_not():
        sys.exit(f"nothing recorded: {reason}")
    path = HERE / "instruction_counts.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    same = before.get("compiler") == object_code.compiler()
    counts = before["instructions per element"] if same else {}
    changed = set()
    for isa in fo.instruction_sets():
        old = counts.get(isa, {})
        counts[isa] = {
            str(case): round(instruction_counts.profile(case, isa).instructions, 2)
            for case in instruction_counts.cases()
        }
        for case, new in counts[isa].items():
            if old.get(case) != new:
                print(f"{isa:8} {case:60} {old.get(case, '-'):>8} -> {new}")
                changed.add(case)
    for isa in counts.keys() - set(fo.instruction_sets()):
        counts[isa] = {case: count for case, count in counts[isa].items() if case not in changed}
    path.write_text(
        json.dumps({"compiler": object_code.compiler(), "instructions per element": counts}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
