"""``python -m svae_cli`` and the console script ``svae``."""


def main() -> None:
    """Run the command line; the only place that hands control to ``svae_cli.cli``."""
    from svae_cli.cli.app import run

    run()


if __name__ == "__main__":
    main()
