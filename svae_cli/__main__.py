"""``python -m svae_cli`` and the console script ``svae``."""

import sys


def main() -> None:
    """Run the command line; the only place that hands control to ``svae_cli.cli``."""
    try:
        from svae_cli.cli.app import run

        run()
    except KeyboardInterrupt:  # before the command line has its own answer to it
        sys.exit(130)


if __name__ == "__main__":
    main()
