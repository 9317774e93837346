"""Fixtures shared by all tests: where the real data lies, and nothing that takes time."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def data_root() -> Path:
    """Folder of the real videos and images: ENDOSTREAM_DATA, by default ../shared/data beside the checkout."""
    return Path(os.environ.get("ENDOSTREAM_DATA") or ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The real data's folder; the test is skipped, naming it, where it is absent."""
    root = data_root()
    if not root.is_dir():
        pytest.skip(f"no real data at {root}; set ENDOSTREAM_DATA")
    return root
