"""Train the detector anew: `python -m scripts.detector.train --data DIR`.

Writes weights.json into the package, the same for the same data: what is random has a seed.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from mcp_federation.governance.detector.model import dump
from scripts.detector.data import Row, load
from scripts.detector.training import EACH, PRIOR, SEED, generated_examples, real_examples, train

TARGET = (
    Path(__file__).parents[2] / "services" / "mcp_federation" / "governance" / "detector" / "weights.json"
)


def provenance(rows: list[Row]) -> dict[str, Any]:
    """What the weights were learned from."""
    used = Counter(
        (row.source, row.licence, "attacks" if row.attack else "honest") for row in rows if row.may_train
    )
    unused = Counter(row.source for row in rows if not row.may_train)
    return {
        "made_by": "python -m scripts.detector.train",
        "generator": {"seed": SEED, "texts_of_a_family": EACH},
        "prior": PRIOR,
        "learned_from": [
            {"source": source, "license": licence, "label": label, "tools": count}
            for (source, licence, label), count in sorted(used.items())
        ],
        "not_learned_from": dict(sorted(unused.items())),
    }


def main() -> None:
    """Train on the folder that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of labelled tools")
    parser.add_argument("--to", type=Path, default=TARGET)
    arguments = parser.parse_args()
    rows = load(arguments.data)
    heads = train([*real_examples(rows), *generated_examples(rows)])
    arguments.to.write_bytes(dump(heads, provenance(rows)))


if __name__ == "__main__":
    main()
