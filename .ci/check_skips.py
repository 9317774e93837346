"""Fail if a test was skipped that the allow-list does not name. Standard library only: it runs outside .venv.

Usage: python3 check_skips.py RESULTS.xml ALLOWED. A line of ALLOWED is ``PATTERN  # why``, where PATTERN
matches ``module::test`` as in ``tests.pipeline.window.test_window_sink::*``.
"""

import sys
import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatchcase
from pathlib import Path


def skipped(results: Path) -> dict[str, str]:
    """Reason of each skipped test by its name."""
    found = {}
    for case in ElementTree.parse(results).iter("testcase"):
        skip = case.find("skipped")
        if skip is not None and skip.get("type") == "pytest.skip":
            name = "::".join(part for part in (case.get("classname"), case.get("name")) if part)
            found[name] = skip.get("message", "")
    return found


def allowed(file: Path) -> list[str]:
    """The patterns of the allow-list."""
    lines = (line.partition("#")[0].strip() for line in file.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def main() -> int:
    """Print each skip; returns 1 if one is not allowed."""
    patterns = allowed(Path(sys.argv[2]))
    refused = 0
    for name, reason in skipped(Path(sys.argv[1])).items():
        # Brackets of a parametrised test's name would read as a set of characters.
        known = any(fnmatchcase(name.replace("[", "("), pattern.replace("[", "(")) for pattern in patterns)
        refused += not known
        print(f"{'skipped' if known else 'skipped, but not on ' + sys.argv[2]}: {name} ({reason})")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
