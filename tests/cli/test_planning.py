import os
import subprocess
import sys
from pathlib import Path

import pytest

from kerax import cli

CONFIG = str(Path(__file__).parents[2] / "configs" / "digits_mlp.yaml")
RUN = "import sys; from kerax.cli import plan_command; plan_command(sys.argv[1:])"


@pytest.mark.slow
def test_two_distributions_in_a_table():
    words = [CONFIG, "--topology", "cpu:4", "--distribution", "data,fsdp", "--model.layers", "[Dense: {units: 10}]"]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", RUN, *words, "--batch_size", "64"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr[-2000:]
    header, *rows = [line.split() for line in ran.stdout.splitlines()]
    assert header[:3] == ["distribution", "devices", "batch"]
    assert [row[:3] for row in rows] == [["DataParallel", "4", "64"], ["FSDP", "4", "64"]]


def test_mistakes_are_config_errors():
    for words, message in (
        (["--topology", "gpu:1"], "there are 0 such devices"),
        (["--topology", "cpu:1", "--batch_size", "many"], "expected a whole number from 1, or 'largest'"),
        (["--topology", "cpu:1", "--distribution", "all"], "`distribution` must be one of"),
    ):
        with pytest.raises(cli.ConfigError, match=message):
            cli.plan_command([CONFIG, *words])
