"""The weighted mean of several sets of weights (Wortsman et al., arXiv 2203.05482, 2022).

    python mean.py koala-plus.safetensors a.safetensors:0.3 b.safetensors:0.7

The shares add up to 1.
"""

import sys
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file, save_file


def mean(sets, shares):
    """The mean of dicts of arrays with the same keys, in half precision."""
    if any(one.keys() != sets[0].keys() for one in sets):
        raise SystemExit("the files hold weights of different architectures.")
    if not np.isclose(sum(shares), 1):
        raise SystemExit(f"the shares add up to {sum(shares):g}, and must add up to 1.")
    return {
        key: np.float16(
            sum(share * one[key].astype(float) for share, one in zip(shares, sets, strict=True))
        )
        for key in sets[0]
    }


def main(output, *terms):
    """The metadata are those of the first file, and the terms of the mean."""
    files, shares = zip(*(term.rsplit(":", 1) for term in terms), strict=True)
    weights = mean([load_file(file) for file in files], [float(share) for share in shares])
    with safe_open(files[0], framework="numpy") as first:
        metadata = first.metadata() or {}
    save_file(weights, output, metadata | {"mean_of": " ".join(Path(term).name for term in terms)})


if __name__ == "__main__":
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
