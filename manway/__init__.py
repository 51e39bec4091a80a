"""The rules of Manway: pure functions and tables; time is an argument, `manway.runtime` is the only I/O."""
