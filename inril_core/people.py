"""Names of people and what they say, as it comes from shells, sockets and pages."""

LONGEST_NAME, LONGEST_REASON = 100, 500


def sayable(name: object, longest: int = LONGEST_NAME) -> str:
    """A name that every log, message and file can hold: UTF-8 without control characters, at most so many letters.

    A shell whose locale is not UTF-8 gives names with lone surrogates, which no encoder takes.
    """
    text = str(name).encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:longest]
