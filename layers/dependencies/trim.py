"""Leaves out of the installed packages what the functions never read: `python trim.py FOLDER`.

botocore brings descriptions of every AWS service, 25 of its 31 MB, and a list of all their addresses, which the first
client that is made parses whole. Two services are used.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

SERVICES = frozenset({"dynamodb", "secretsmanager"})


def main(packages: Path) -> None:
    """Trim what `pip install --target` put into `packages`."""
    for data in (packages / "botocore/data", packages / "boto3/data"):
        for folder in data.iterdir():
            if folder.is_dir() and folder.name not in SERVICES:
                shutil.rmtree(folder)
    for example in packages.glob("botocore/data/*/*/examples-1.json"):
        example.unlink()
    shutil.rmtree(packages / "bin", ignore_errors=True)
    _trim_endpoints(packages / "botocore/data/endpoints.json")


def _trim_endpoints(file: Path) -> None:
    endpoints = json.loads(file.read_text())
    for partition in endpoints["partitions"]:
        kept = {name: each for name, each in partition["services"].items() if name in SERVICES}
        partition["services"] = kept
    file.write_text(json.dumps(endpoints, separators=(",", ":")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
