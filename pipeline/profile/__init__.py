"""The latency laboratory: runs of the pipeline measured, compared, held to budgets and reported (``endostream
profile``). It reads what a run leaves behind (frame log, report) and is no part of a run."""
