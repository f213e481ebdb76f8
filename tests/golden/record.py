"""Record what today's version does:  python -m tests.golden.record [--database | --improved] [PART …]

Without a part, all of them. The database is written where there is none, and anew where ``--database`` says so. With
``--improved`` only the cases that ``improved`` names are written, beside what was recorded of them.
"""

import json
import shutil
import sys
import tempfile
from hashlib import sha256
from pathlib import Path

from tests.golden import machine, perform
from tests.golden.cases import MODELS, ROOT
from tests.golden.improved import IMPROVED

RECORDED = Path(__file__).resolve().parent / "recorded"
DATABASE = RECORDED / "qfund.sqlite"  # not .db, which git ignores
MACHINE = RECORDED / "machine.json"
MEASURED = RECORDED / "measured.json"
#: Parts, and whether they find the database.
PARTS = {"commands": False, "loads": False, "stored": True, "pages": True}


def measured() -> dict[str, str]:
    """The digest of every result that ships."""
    files = sorted(MODELS.glob("*/measured/*.json"))
    return {path.relative_to(ROOT).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def perform_part(part: str, folder: Path) -> None:
    perform.start(part, folder, DATABASE if PARTS[part] else None)


def record_improved(parts: list[str]) -> None:
    for part in parts:
        with tempfile.TemporaryDirectory() as folder:
            perform_part(part, Path(folder))
            for name in IMPROVED:
                if (found := Path(folder) / f"{name}.txt").exists():
                    shutil.copy(found, RECORDED / "improved" / found.name)


def main() -> None:
    asked = sys.argv[1:]
    parts = [name for name in asked if name in PARTS] or [*PARTS]
    if "--improved" in asked:
        record_improved(parts)
        return
    RECORDED.mkdir(exist_ok=True)
    if "--database" in asked or not DATABASE.exists():
        with tempfile.TemporaryDirectory() as folder:
            perform.start("database", Path(folder))
            shutil.copy(Path(folder) / DATABASE.name, DATABASE)
    for part in parts:
        shutil.rmtree(RECORDED / part, ignore_errors=True)
        (RECORDED / part).mkdir()
        perform_part(part, RECORDED / part)
    MACHINE.write_text(json.dumps(machine.describe(), indent=1) + "\n", "utf-8")
    MEASURED.write_text(json.dumps(measured(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
