"""Alembic migrations: numbered revisions that go up and down on both engines."""
