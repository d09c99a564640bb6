#!/usr/bin/env python3
"""Compares two folders of make-families.py: goldens to 1e-12 of the largest logit, all other files to the byte. Exits with 1 where they differ."""

import pathlib
import sys

import numpy as np


def golden(path):
    data = path.read_bytes()
    count = int(np.frombuffer(data, "<i4", 1)[0])
    return data[: 8 + 4 * count], np.frombuffer(data, "<f8", offset=8 + 4 * count)


def differs(one, other):
    if one.suffix != ".golden":
        return one.read_bytes() != other.read_bytes()
    (head, found), (other_head, other_found) = golden(one), golden(other)
    return head != other_head or found.shape != other_found.shape or np.abs(found - other_found).max() > 1e-12 * np.abs(found).max()


def main():
    made, kept = map(pathlib.Path, sys.argv[1:3])
    names = [{str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} for folder in (made, kept)]
    wrong = sorted(names[0] ^ names[1]) + sorted(name for name in names[0] & names[1] if differs(made / name, kept / name))
    for name in wrong:
        print(f"differs: {name}", file=sys.stderr)
    print(f"{len(names[0])} files made, {len(wrong)} differ from those kept")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
