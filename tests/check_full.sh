#!/bin/sh
# The weekly lane behind `./run check --full`: a second type checker, how hard the core is to read, and how much of it could be
# broken without a test that says so. Arguments go to the last: --share 0.05 --seed 1 tries a sample, --only manway.gas a part.
set -eu
bin=.venv/bin
$bin/pyright --pythonpath $bin/python
# Cognitive complexity at most 15; the functions of complexipy-snapshot.json are over it, may not grow, and no other joins them.
$bin/complexipy manway/*.py manway/checks manway/conditions --max-complexity-allowed 15 --failed
exec $bin/python -m tests.mutation "$@"
