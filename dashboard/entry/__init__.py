"""Entry script, in a folder of its own: Streamlit puts the script's folder on the import path."""
