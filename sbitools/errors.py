"""Typed errors: each says what was expected, what came, and what to do about it."""

from __future__ import annotations

__all__ = [
    "CampaignError",
    "CheckpointError",
    "ConfigError",
    "ConvergenceWarning",
    "ExtrapolationWarning",
    "FailedSimulationsWarning",
    "ImportanceWarning",
    "MisspecificationWarning",
    "ObservationError",
    "ParameterError",
    "PosteriorError",
    "PriorMismatchWarning",
    "RunDirError",
    "SbitoolsError",
    "ShapeError",
    "StaleSimulationsWarning",
    "StoreError",
    "TimeLimitError",
    "TrainingError",
]


class SbitoolsError(Exception):
    """Base of every error a user can cause and mend.

    Args:
        subject: the field, file or argument that is wrong.
        expected: what it should have been.
        got: what it was.
        fix: what the user can do.
    """

    def __init__(self, subject: str, *, expected: str, got: str, fix: str) -> None:
        self.subject, self.expected, self.got, self.fix = subject, expected, got, fix
        super().__init__(f"{subject}: expected {expected}; got {got}; fix: {fix}")

    def __reduce__(self) -> tuple:
        """Rebuild from keywords, so that an error crosses a process boundary whole."""
        return _rebuild, (type(self), self.subject, self.expected, self.got, self.fix)


def _rebuild(kind: type, subject: str, expected: str, got: str, fix: str) -> SbitoolsError:
    return kind(subject, expected=expected, got=got, fix=fix)


class ConfigError(SbitoolsError):
    """A configuration file or option is unknown, missing or out of range."""


class ParameterError(SbitoolsError):
    """A prior, a parameter or a table of theta is not what it should be."""


class ShapeError(SbitoolsError):
    """An array has the wrong shape, dtype or unit."""


class StoreError(SbitoolsError):
    """A simulation store is damaged, foreign or used against its specification."""


class CampaignError(SbitoolsError):
    """A campaign could not go on; what was finished is kept."""


class CheckpointError(SbitoolsError):
    """A checkpoint is damaged, foreign or of another kind."""


class TrainingError(SbitoolsError):
    """Training diverged or cannot be resumed."""


class RunDirError(TrainingError):
    """A training's folder holds another run, is in use, or cannot be read or written."""


class ObservationError(SbitoolsError):
    """An observation does not fit the posterior it meets."""


class PosteriorError(SbitoolsError):
    """A posterior cannot answer what it was asked."""


class TimeLimitError(SbitoolsError):
    """Work did not finish within the time it was given."""


class MisspecificationWarning(UserWarning):
    """An observation is unlike every simulation the posterior was trained on."""


class ExtrapolationWarning(MisspecificationWarning):
    """Draws lie where nothing was simulated: what a network says there is a guess."""


class PriorMismatchWarning(UserWarning):
    """The theta of a store do not follow the prior that it states."""


class ConvergenceWarning(UserWarning):
    """Chains have not converged: draws may miss part of the posterior."""


class ImportanceWarning(UserWarning):
    """A few draws carry all the weight: what they are weighted to cannot be trusted."""


class FailedSimulationsWarning(UserWarning):
    """Simulations failed, and the method's posterior does not know it."""


class StaleSimulationsWarning(UserWarning):
    """A simulator reads a global value that has changed since its store was begun."""
