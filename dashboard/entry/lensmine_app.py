"""What Streamlit runs at every interaction; the pages themselves stay imported."""

from dashboard.shell import run

run()
