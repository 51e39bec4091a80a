"""`python -m manway.cli`, the same as the `manway` command."""

from manway.cli import app

app()
