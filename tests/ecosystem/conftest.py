"""The suites need libraries that are not installed here: `test_libraries.py` runs them where these are."""

collect_ignore = ["suites"]
