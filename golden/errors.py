"""The one exception that means "the input was wrong, not the program"."""


class InputError(ValueError):
    """Input that a function or command can't accept.

    The message is one sentence that names what is wrong and what is allowed. Commands print it and exit with code 2.
    """
