"""Runs one of the parsers' targets under atheris, which sees which lines its inputs reach.

    python -m tests.fuzz.atheris_parsers TARGET SECONDS CORPUS

The corpus is a directory, made of the target's seeds where it is empty; what reaches new lines is added to it.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

LONGEST = 4096
"""Bytes of an input."""
SLOW = 10
"""Seconds after which one input is a finding."""
MEMORY = 2048
"""Megabytes above which a run is a finding."""


def main() -> None:
    """Does not return: atheris ends the process, with 0 if nothing was found."""
    name, seconds, corpus = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    atheris: Any = import_module("atheris")
    with atheris.instrument_imports(include=["events", "ingest", "multipart", "executor.workflow", "yaml"]):
        parsers: Any = import_module("tests.fuzz.parsers")
    target, seeds = parsers.TARGETS[name]
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (corpus / sha256(seed).hexdigest()[:20]).write_bytes(seed)
    flags = [f"-max_total_time={seconds}", f"-max_len={LONGEST}", f"-timeout={SLOW}", f"-rss_limit_mb={MEMORY}"]
    atheris.Setup(
        [sys.argv[0], *flags, "-print_final_stats=1", f"-artifact_prefix={corpus}/finding-", str(corpus)], target
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
