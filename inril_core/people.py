"""Names of people, as they come from shells, sockets and pages."""

LONGEST_NAME = 100


def sayable(name: object) -> str:
    """A name that every log, message and file can hold: UTF-8 without control characters, at most `LONGEST_NAME` long.

    A shell whose locale is not UTF-8 gives names with lone surrogates, which no encoder takes.
    """
    text = str(name).encode("utf-8", "replace").decode("utf-8")
    return "".join(letter if letter.isprintable() else "?" for letter in text)[:LONGEST_NAME]
