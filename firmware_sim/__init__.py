"""Virtual locks, instruments, people and air; the same bytes over the same broker as real ones."""
