"""``python -m inril_core.bench``: `inril bench` where there is no ROS."""

import argparse
import sys

from inril_core.bench import command
from inril_core.errors import InrilError


def main() -> int:
    """Entry point; what a user can fix is told without traceback."""
    parser = argparse.ArgumentParser(
        prog="python -m inril_core.bench",
        description=command.SUMMARY,
        epilog="examples:\n" + "\n".join(f"  python -m inril_core.bench {words}" for words in command.EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_arguments(parser)
    try:
        return command.run(parser.parse_args())
    except InrilError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted; what is finished is kept, the same command goes on", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
