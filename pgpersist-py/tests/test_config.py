"""``Config``: the keys of the command line."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

import pgpersist
from pgpersist import Config


def test_values_of_a_dictionary_are_checked_like_a_file(tmp_path: Path) -> None:
    config = Config.from_dict(
        {
            "cluster": {"port": 5433, "data_directory": tmp_path / "data", "databases": ["a", "b"], "name": None},
            "health": {"dump_max_age": timedelta(hours=30)},
            "store": [{"url": tmp_path / "backups"}],
        }
    )
    assert (
        config["cluster.port"] == 5433
        and config["cluster.name"] == "main"
        and config["cluster.databases"] == ["a", "b"]
    )
    sources = {value.key: value.source for value in config.values()}
    assert (sources["cluster.port"], sources["cluster.name"]) == ("the program", "default")
    with pytest.raises(pgpersist.InvalidError, match=r"`cluster.prot`: unknown key") as caught:
        Config.from_dict({"cluster": {"prot": 1}})
    assert caught.value.remedy == "did you mean `port`?"
    with pytest.raises(TypeError, match="cluster.port: a object is no value"):
        Config.from_dict({"cluster": {"port": object()}})
    with pytest.raises(TypeError, match="a key is no str"):
        Config.from_dict({"cluster": {1: 2}})


def test_each_source_alone_and_one_over_the_other(tmp_path: Path) -> None:
    file = tmp_path / "p.toml"
    file.write_text('[cluster]\nport = 5001\nname = "shop"\n')
    assert Config.from_file(file)["cluster.port"] == 5001 and Config.from_file(file).file == file
    assert Config.from_environment({"PGPERSIST_CLUSTER_PORT": "5002"})["cluster.port"] == 5002
    assert Config.from_environment({})["cluster.port"] == 5432
    layered = Config(file, environment={"PGPERSIST_CLUSTER_PORT": "5002"}, values={"cluster": {"databases": ["x"]}})
    assert (layered["cluster.port"], layered["cluster.name"], layered["cluster.databases"]) == (5002, "shop", ["x"])
    with pytest.raises(KeyError):
        layered["cluster.prot"]
    with pytest.raises(pgpersist.NotFoundError) as caught:
        Config.from_file(tmp_path / "absent.toml")
    assert isinstance(caught.value.__cause__, OSError) and caught.value.errno == 2


def test_the_example_is_a_whole_configuration_and_the_commands(tmp_path: Path) -> None:
    example = Config.example()
    file = tmp_path / "pgpersist.toml"
    file.write_text(example)
    assert Config.from_file(file)["cluster.data_directory"] is not None
    command = [sys.executable, "-m", "pgpersist", "config", "example"]
    assert subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path).stdout == example


def test_what_has_no_effect_is_told() -> None:
    config = Config.from_dict({"wal": {"ship_interval": "1s"}})
    assert len(config.warnings) == 1 and "wal.ship_interval" in config.warnings[0]


def test_backups_are_configured() -> None:
    config = Config.from_dict({"backup": {"schedule": "30 2 * * *", "full_read_days": 0}})
    assert config.warnings == () and config["backup.full_read_days"] == 0
    with pytest.raises(pgpersist.InvalidError, match="0 to 36500"):
        Config.from_dict({"backup": {"full_read_days": -1}})
