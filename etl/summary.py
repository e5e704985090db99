"""What an ingest of SDSS files did."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Summary:
    """What an ingest did; the keys of its JSON."""

    files: int = 0
    loaded: int = 0
    unchanged: int = 0
    rejected: int = 0
    rows: int = 0
    spectra: int = 0
    rejects_fatal: int = 0
    rejects_repaired: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    regrouped: int = 0
    seconds: float = 0.0
    files_per_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return {**self.__dict__, "reasons": dict(sorted(self.reasons.items()))}

    @property
    def nothing_new(self) -> bool:
        """Whether every file was as the database has it."""
        return self.unchanged == self.files
