"""`./run bench [rules | backtest | journal …]`: ratios of one run; absolute rates belong to the machine that printed them."""

import sys

from tests.bench import backtest, journal, rules

BENCHES = {"rules": rules.run, "backtest": backtest.run, "journal": journal.run}


def main(names: list[str]) -> int:
    """Run the named benches, or all of them."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        sys.stderr.write(f"no bench {', '.join(unknown)}; there are {', '.join(BENCHES)}\n")
        return 2
    for name in names or BENCHES:
        BENCHES[name]()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
