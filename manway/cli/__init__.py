"""The `manway` command; every subcommand imports its shells only when it runs."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def manway() -> None:
    """Confined spaces stay locked until their permit is approved; air and clock are watched while people are inside."""


@app.command()
def demo(
    *,
    check: Annotated[bool, typer.Option(help="Play the story without a person; exit 0, or 1 with the reason.")] = False,
    seed: Annotated[int, typer.Option(help="Seed of the simulated yard.")] = 7,
    speed: Annotated[float, typer.Option(min=0.1, max=20.0, help="Seconds that pass in one, in every process alike.")] = 1.0,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the pages, on loopback.")] = 8080,
    data: Annotated[Path | None, typer.Option(help="An empty folder for everything the demo stores.")] = None,
    kill: Annotated[str, typer.Option(help="Kill this process once in mid-story: gateway, api or broker.")] = "",
) -> None:
    """Run a whole training yard on this machine: broker, gateway, api, simulator, on loopback, with seeded data."""
    from manway.cli.demo import run  # noqa: PLC0415  heavy

    raise typer.Exit(run(check=check, seed=seed, speed=speed, port=port, data=data, kill=kill))


if __name__ == "__main__":
    app()
