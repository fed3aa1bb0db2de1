"""How long to wait before something that failed is tried again."""


def wait_s(failures: int, initial_s: float, max_s: float, factor: float = 2.0) -> float:
    """min(initial_s * factor**failures, max_s) [s]: exponential back-off with a bound.

    Args:
        failures: in a row, before the one that has just been seen.
    """
    # the exponent is bounded so that a long row cannot overflow
    return min(initial_s * factor ** min(failures, 64), max_s)
