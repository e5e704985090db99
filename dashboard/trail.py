"""What one reviewer saw and graded, oldest first: what back and undo go through."""

from __future__ import annotations

from dataclasses import dataclass, field

from dashboard.store import TakenBack

KEEP_STEPS = 200


@dataclass
class Step:
    """One object that was on screen before, and the grade that was given to it there."""

    target_id: int
    grade_id: int | None = None
    grade: str | None = None


@dataclass
class Trail:
    """The steps, and the place among them that back has come to: their number while nobody went back."""

    steps: list[Step] = field(default_factory=list)
    at: int = 0

    def passed(self, step: Step) -> None:
        """Remember what was done last; grades of an object stay for undo, one look at it is enough."""
        kept = [s for s in self.steps if s.grade_id is not None or s.target_id != step.target_id]
        self.steps = [*kept, step][-KEEP_STEPS:]
        self.to_end()

    def to_end(self) -> None:
        """Nobody is going back any more."""
        self.at = len(self.steps)

    def holds(self, target_id: int) -> bool:
        """Whether an object is among the steps."""
        return any(s.target_id == target_id for s in self.steps)

    def forget(self, target_id: int) -> None:
        """Leave out every step of an object."""
        self.steps = [s for s in self.steps if s.target_id != target_id]
        self.to_end()

    def last_grade(self, target_id: int | None) -> Step | None:
        """The last grade of an object; of any where it has none, or none is asked for."""
        graded = [s for s in self.steps if s.grade_id is not None]
        graded.sort(key=lambda s: s.target_id == target_id)  # stable: otherwise as they came
        return graded[-1] if graded else None

    def taken_back(self, step: Step, taken: TakenBack | None) -> None:
        """Leave a step out, and go on from there; an earlier grade that counts again takes its place."""
        place = self.steps.index(step)
        self.steps.remove(step)
        self.at = place
        if taken is None or taken.grade is None or any(s.grade_id == taken.grade_id for s in self.steps):
            return
        self.steps.insert(place, Step(taken.target_id, taken.grade_id, taken.grade))

    def before(self, target_id: int | None) -> int | None:
        """Place of the object before the one on screen; each object stands where it was last."""
        seen = {s.target_id for s in self.steps[self.at :]} | {target_id}
        return next((k for k in reversed(range(self.at)) if self.steps[k].target_id not in seen), None)

    def go_to(self, place: int) -> int:
        """Go back to a place; the object there."""
        self.at = place
        return self.steps[place].target_id
