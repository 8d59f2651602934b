"""What is wrong with a configuration."""

from __future__ import annotations

from collections.abc import Sequence

from nora.api import NoraError


class ConfigurationError(NoraError):
    """The configuration cannot be used; raised before anything is started.

    Unlike other errors its text is for the operator and never for a client: it has one line per problem, and names files.

    Attributes:
        problems: Every problem found, each a single line that begins with the source and path of the key. Never empty.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        # A value or key out of a file may hold line breaks; a problem stays one line.
        self.problems: Sequence[str] = tuple(" ".join(problem.splitlines()) for problem in problems)
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(self.problems)
