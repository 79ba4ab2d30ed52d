"""The one kind of error that a person reads: a line, not a trace."""


class Refused(Exception):
    """What stops the command and can be put right by whoever typed it. Names the thing, the value and the limit."""
