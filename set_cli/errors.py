"""What can go wrong, and the exit code that says so: one class per code, one sentence per error."""

import signal


class SetError(Exception):
    """An error with one sentence for the user: what was expected, what was found, what to do."""

    exit_code = 1
    again = False  # whether a sweep tries the run again by itself: it was no fault of the run's


class ConfigError(SetError):
    """The command or the configuration is wrong; nothing was created."""

    exit_code = 2


class NotApplicable(ConfigError):
    """A data set and a model that do not go together; a sweep over many sets lists such a run as skipped."""


class DataError(SetError):
    """A data file or a run folder is missing, altered or malformed."""

    exit_code = 3


class DivergedError(SetError):
    """The loss or a weight became NaN or infinite."""

    exit_code = 4


class BusyError(SetError):
    """Another process works in this run folder."""

    exit_code = 5


class StorageError(SetError):
    """A file could not be written: full, read-only, or gone."""

    exit_code = 6
    again = True


class OutOfMemory(SetError):
    """The run needs more memory than there is."""

    exit_code = 7
    again = True


class TimeIsUp(SetError):
    """The run took longer than its time_limit; it can be resumed later."""

    again = True


class Interrupted(SetError):
    """SIGINT or SIGTERM asked the run to stop; it can be resumed later."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.signum = signum
        self.exit_code = 128 + signum


# A child of a sweep tells its parent so; never a command's own exit codes.
NOT_APPLICABLE, TIME_IS_UP = 65, 66


def ended_by_signal(exit_code: int) -> bool:
    """Whether an exit code is that of an interrupted command (130 or 143)."""
    return exit_code in (128 + signal.SIGINT, 128 + signal.SIGTERM)
