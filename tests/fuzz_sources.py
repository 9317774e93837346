"""Damaged streams into every source: ``python tests/fuzz_sources.py --streams 1000 --seed 1``.

Prints what became of them and ends with exit code 1 if one crashed, hung, raised what is no error of ours, or if
memory grew. Streams that did are kept in the folder it names. A tenth as many go through the whole command besides:
files through ``endostream replay``, commands and datagrams through ``endostream live``. Separate from
``tests/pipeline/sources/test_mutated_streams.py``, which runs the same with fewer streams. Needs gcc for the V4L2
emulator.
"""

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.fuzz.campaign import Campaign, run  # noqa: E402
from tests.fuzz.corpus import KINDS, SIZE_HW, samples  # noqa: E402
from tests.fuzz.end_to_end import (  # noqa: E402
    replay_damaged_files,
    watch_damaged_datagrams,
    watch_damaged_pipes,
)
from tests.pipeline.sources.live_rig import Emulator  # noqa: E402

OUTCOMES = ("played", "SourceMissing", "SourceLost", "ConfigError", "unexpected", "crash", "hang")


def table(campaign: Campaign) -> str:
    """What became of the streams, as Markdown."""
    counts = campaign.counts()
    rows = [["stream", *OUTCOMES, "pictures", "files unharmed", "altered, not told"]]
    for kind in (kind for kind in KINDS if counts[kind].total()):
        tally = counts[kind]
        rows.append([kind, *(str(tally[name]) for name in (*OUTCOMES, "pictures", "harmless", "silent"))])
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def end_to_end(folder: Path, number: int, seed: int) -> list[str]:
    """``number`` streams through the whole command; what became of them, a line each way."""
    (folder / "whole").mkdir(exist_ok=True)
    made, files, share = samples(folder / "whole"), number * 6 // 10, number * 2 // 10
    ways = {"files": files, "pipes": share, "datagrams": share}
    for name in ways:
        (folder / name).mkdir(exist_ok=True)
    replayed = replay_damaged_files(folder / "files", made, files, seed)
    piped = watch_damaged_pipes(folder / "pipes", made["y4m"], share, seed)
    sent = watch_damaged_datagrams(folder / "datagrams", made["udp"], share, seed)
    statuses = Counter(source["status"] for source in replayed["sources"])
    faults: Counter[str] = Counter()
    for source in replayed["sources"]:
        faults.update(source["faults"])
    return [
        f"{files} files in one replay: {dict(statuses)}, faults {dict(faults)}, exit code {replayed['exit_code']}",
        f"{share} streams of a command, live: {piped['sources'][0]['faults']}",
        f"{share} streams over UDP, live: {sent['sources'][0]['faults']}",
    ]


def main() -> int:
    """Run it; returns the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--players", type=int, default=2, help="processes that play at once")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--folder", type=Path, help="for streams that failed; default: a new one in /tmp")
    given = parser.parse_args()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="endostream-fuzz-"))
    folder.mkdir(parents=True, exist_ok=True)
    device = Emulator(folder, f"MJPG:{SIZE_HW[1]}x{SIZE_HW[0]}@200")
    campaign = run(folder, device.environment, given.streams, given.seed, given.players, tuple(given.kinds))
    print(table(campaign))
    for count, warm, end in campaign.growth_bytes():
        print(f"a player of {count} streams: {warm / 2**20:.1f} MiB when warm, {end / 2**20:.1f} at its end")
    if given.streams >= 50:
        print("\n".join(end_to_end(folder, given.streams // 10, given.seed)))
    failures = campaign.failures()
    print("\n".join(failures) or "no crash, no hang, no growth; every stream accounted for")
    print(f"kept in {folder}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
