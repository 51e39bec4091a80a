"""The only I/O of the core package: clock, bus, stores, signing, settings, logs, tasks."""
