"""The same models written for each library that `scripts/benchmark.py` compares."""
