"""The one error of this folder."""

_LONGEST = 500


class ModelError(ValueError):
    """A model that cannot be read or an input that it cannot take.

    The message is one line: what is wrong, where, and how to fix it.
    """

    def __init__(self, message: str):
        # names and tokens come from files: nothing of them may break the line or the terminal
        printable = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in message)
        line = "".join(printable)
        super().__init__(line if len(line) <= _LONGEST else f"{line[:300]} ... {line[-180:]}")
