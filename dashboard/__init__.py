"""Review and plots in the browser."""
