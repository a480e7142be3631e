"""The recorded runs, and the pages that show the newest of them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import report

HERE = Path(__file__).parent
RECORDED, CHARTS = HERE / "recorded", HERE / "charts"
BEGIN, END = "<!-- benchmarks: begin, written by python -m benchmarks -->\n", "\n<!-- benchmarks: end -->"
# what stands between BEGIN and END in which page
PAGES: dict[Path, Callable[[dict[str, Any]], str]] = {
    HERE.parent / "README.md": report.readme,
    HERE / "README.md": report.full,
}


def as_json(run: dict[str, Any]) -> str:
    """Every record on a line of its own, so that two runs can be compared."""
    head = json.dumps({key: value for key, value in run.items() if key != "records"}, indent=1, ensure_ascii=False)
    records = ",\n".join(json.dumps(record, ensure_ascii=False) for record in run["records"])
    return f'{head[:-2]},\n "records": [\n{records}\n]}}\n'


def newest() -> dict[str, Any]:
    """The run that the pages show."""
    return json.loads(max(RECORDED.glob("*.json")).read_text(encoding="utf-8"))


def block(page: Path) -> str | None:
    """What a page shows of a run; None where it shows none."""
    found = re.search(f"{re.escape(BEGIN)}(.*?){re.escape(END)}", page.read_text(encoding="utf-8"), re.DOTALL)
    return found[1] if found else None


def record(run: dict[str, Any], already: Path | None = None) -> None:
    """Keep a run, unless it is ``already``, and show it: tables in the pages, and the charts."""
    from . import charts

    if already is None:
        RECORDED.mkdir(exist_ok=True)
        processor = re.sub(r"\W+", "-", run["machine"]["processor"].replace("(R)", "")).strip("-").lower()
        name = f"{run['date'][:16].replace(':', '')}-{processor}.json"
        (RECORDED / name).write_text(as_json(run), encoding="utf-8")
    charts.draw(run, CHARTS)
    for page, text in PAGES.items():
        if block(page) is not None:
            before = page.read_text(encoding="utf-8")
            begin, end = before.index(BEGIN) + len(BEGIN), before.index(END)
            page.write_text(before[:begin] + text(run) + before[end:], encoding="utf-8")
