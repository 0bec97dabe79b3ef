"""The one exception for mistakes a user can mend, and a kind of it."""


class AnatomyError(Exception):
    """A mistake in the user's input: one or two lines saying what was expected, what came, where, and what to do.

    The command line prints it without a traceback and exits with status 2.
    """


class UnknownOptionError(AnatomyError, TypeError):
    """An option or keyword that whoever was given it does not have; a ``TypeError``, too, as Python's own is."""
