"""How the demo's corpus was made: ``python -m demo_corpus`` writes it from the Python that runs."""
