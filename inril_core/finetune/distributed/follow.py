"""A process that shares the work of a learner on another machine; started by torchrun, see docs/finetuning.md.

torchrun ... -m inril_core.finetune.distributed.follow
"""

import sys

from inril_core import distributed
from inril_core.errors import InrilError
from inril_core.finetune.distributed.parallel import follow
from inril_core.networks.compute import use_one_thread


def main() -> int:
    """Entry point. Exit code 1 if the leader or another process was lost."""
    use_one_thread()
    try:
        if not distributed.in_torchrun():
            print("nobody to follow: start it by torchrun, see docs/finetuning.md", file=sys.stderr)
            return 1
        if distributed.start() == 0:
            print("rank 0 leads: start a learner there, and this on the other machines", file=sys.stderr)
            return 1
        follow()
    except InrilError as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        distributed.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
