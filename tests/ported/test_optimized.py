"""Ported scripts that break ties: run as users' programs are, see `test_ported`."""

import pytest

from tests.ported.test_ported import OPTIMIZED, SCRIPTS, compare
from tests.ported.test_ported import fresh_session as fresh_session

pytestmark = pytest.mark.optimized


@pytest.mark.slow
@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in SCRIPTS if path.stem in OPTIMIZED])
def test_a_script_gives_the_same_numbers(path, tmp_path, monkeypatch):
    compare(path, tmp_path, monkeypatch)
