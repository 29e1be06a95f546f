"""The fault suite: `.venv/bin/python tests/faults/all.py` plays everything; names play only these; `--quick` a small part.

--list            the trials
--seed S          what happened under this seed, as far as the machine allows
--break WAY       Weft broken on purpose: the trial must fail
--keep            leave homes, logs and effects where they are
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import sys
import tempfile
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the tests' directory is no package

from faults.breaking import WAYS  # noqa: E402
from faults.nursery import Nursery  # noqa: E402
from faults.trials import TRIALS, Bench, play  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="TRIAL", help="which to play; left out: all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--break", dest="broken", choices=sorted(WAYS))
    parser.add_argument("--rounds", type=int, help="of the storms of kills")
    parser.add_argument("--keep", action="store_true")
    args = parser.parse_args()
    if unknown := set(args.names) - TRIALS.keys():
        parser.error(f"there is no {', '.join(sorted(unknown))}; there are {', '.join(TRIALS)}")
    if args.list:
        print(*(f"{name:18} {(trial.__doc__ or '').splitlines()[0]}" for name, trial in TRIALS.items()), sep="\n")
        return 0
    failed = []
    for name in args.names or TRIALS:
        directory = Path(tempfile.mkdtemp(prefix=f"weft-faults-{name}-"))
        with Nursery() as nursery:
            ledger = play(name, Bench(nursery, directory, args.quick, args.seed, args.broken, args.rounds))
        if ledger.wrong:
            failed.append(name)
        if ledger.wrong or args.keep:
            print(f"  left in {directory}", flush=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    print(f"FAILED: {', '.join(failed)}" if failed else "nothing is wrong", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
