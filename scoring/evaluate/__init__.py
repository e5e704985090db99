"""How good a model is: test sets with known truth, figures with intervals, curves, tables and plots."""
