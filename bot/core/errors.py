"""The one base of every error whose text is all that a person needs."""


class PlainError(Exception):
    """Expected trouble with the world: a file, a setting, a venue, a database.

    The command line prints the text as one line, without a traceback, and exits with code 2.
    """
