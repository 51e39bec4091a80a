"""What each page shows, as plain values in the reader's language; the page and its live updates use the same function."""
