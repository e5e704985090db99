"""Simulate, train, score, fit and evaluate; imports schema, meets etl through tables."""
