#!/bin/sh
# The weekly lane behind `./run check --full`: a second type checker, how hard the core is to read, every process killed KILLS
# times (500) under load, every seeded bug put in and caught, the virtual lock in ten thousand worlds (RUNS) and under a million
# damaged writes (WRITES), and how much of the core could be broken without a test that says so.
# Arguments go to the last: --share 0.05 --seed 1 tries a sample, --only manway.gas a part.
set -eu
bin=.venv/bin
$bin/pyright --pythonpath $bin/python
# Cognitive complexity at most 15; the functions of complexipy-snapshot.json are over it, may not grow, and no other joins them.
$bin/complexipy manway/*.py manway/checks manway/conditions --max-complexity-allowed 15 --failed
# Seeded by the day of the year: another five hundred moments every week, and a failure can be had again.
day=$(date +%-j)
$bin/python -m tests.fault.kill_loop --target all --kills "${KILLS:-500}" --seed "$day"
$bin/python -m tests.fault.kill_loop --target gateway --kills "${KILLS:-500}" --seed "$day"
$bin/python -m tests.bugs
$bin/python -m tests.property.test_lock_machine --runs "${RUNS:-10000}" --steps 40 --seed "$day"
$bin/python -m tests.fault.test_lock_mutated_frames --writes "${WRITES:-1000000}" --seed "$day"
exec $bin/python -m tests.mutation "$@"
