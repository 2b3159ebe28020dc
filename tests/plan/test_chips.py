"""The one table of chips, by the names that JAX gives them."""

import re
from pathlib import Path

import jax
import pytest

from kerax.plan.chips import CHIPS, Chip, chip_of

PACKAGE = Path(__file__).parents[2] / "kerax"


@pytest.mark.parametrize(
    ("kind", "teraflops", "gigabytes"),
    [
        ("NVIDIA H100 80GB HBM3", 989, 80),
        ("NVIDIA H100 PCIe", 756, 80),
        ("NVIDIA H100 NVL", 835, 94),
        ("NVIDIA H200", 989, 141),
        ("NVIDIA H200 NVL", 835, 141),
        ("NVIDIA GH200 480GB", 989, 96),
        ("NVIDIA A100-SXM4-80GB", 312, 80),
        ("NVIDIA A100-SXM4-40GB", 312, 40),
        ("TPU v4", 275, 34),
        ("TPU v5 lite", 197, 17),
        ("TPU v5p", 459, 102),
        ("TPU v6 lite", 918, 34),
    ],
)
def test_the_longest_name_counts(kind, teraflops, gigabytes):
    chip = chip_of(kind)
    assert chip.flops == teraflops * 1e12
    assert round(chip.memory / 1e9) == gigabytes
    assert None not in chip[:4] and (chip.card is None) == kind.startswith("TPU")


def test_of_an_unknown_kind_nothing_is_known():
    assert chip_of("abacus") == chip_of() == Chip()
    assert jax.devices()[0].device_kind not in CHIPS


def test_rates_are_plausible():
    for chip in CHIPS.values():
        assert 1e14 < chip.flops < 1e16 and 1e10 < chip.memory < 1e12
        assert 5e11 < chip.bandwidth < 1e13 and 5e10 < chip.link < 1e12


def test_no_other_file_knows_rates_of_chips():
    files = (path for path in PACKAGE.rglob("*.py") if re.search(r"\de1[2-5]\b", path.read_text()))
    assert [str(path.relative_to(PACKAGE)) for path in files] == ["plan/chips.py"]
