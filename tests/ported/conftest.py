"""The scripts are run by `test_ported.py`; collecting them for doctests would run them too."""

collect_ignore = ["scripts"]
