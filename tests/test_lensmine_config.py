"""Settings of refresh: file, then environment, then flags; what is misspelt or of a wrong kind is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from lensmine_config import EXAMPLE, RefreshConfig, load_config
from schema.errors import UserError


@pytest.fixture
def write(tmp_path: Path) -> Path:
    """Path of a settings file in an empty folder."""
    return tmp_path / "search.toml"


def test_example_loads_with_paths_relative_to_its_folder(write: Path) -> None:
    write.write_text(EXAMPLE)
    config = load_config(write, environ={})
    assert config.db == str(write.parent / "search.duckdb")
    assert config.ingest.sdss == tuple(str(write.parent / p) for p in ("boss/specObj.fits", "boss/spectra"))
    assert config.ingest.lenses == ("lenscat",)
    assert config.export.candidates[0] == str(write.parent / "candidates.fits")
    assert config.score.backend == "auto"
    assert config.evaluate.injections is True


def test_empty_file_gives_the_defaults(write: Path) -> None:
    write.write_text("")
    assert load_config(write, environ={}) == RefreshConfig()


def test_precision_and_weights_are_settings(write: Path) -> None:
    write.write_text('[score]\nprecision = "int8"\nweights = "own/snr_lae.safetensors"\n')
    config = load_config(write, environ={})
    assert config.score.precision == "int8"
    assert config.score.weights == str(write.parent / "own" / "snr_lae.safetensors")
    write.write_text("")
    config = load_config(write, environ={"LENSMINE_SCORE_PRECISION": "bf16"})
    assert (config.score.precision, config.score.weights) == ("bf16", "shipped")


def test_urls_stay_as_they_are(write: Path) -> None:
    write.write_text('db = "postgresql://me@host/lenses"\n[ingest]\nsdss = ["s3://bucket/spectra/*.fits"]\n')
    config = load_config(write, environ={})
    assert config.db == "postgresql://me@host/lenses"
    assert config.ingest.sdss == ("s3://bucket/spectra/*.fits",)


def test_environment_comes_before_the_file_and_flags_before_both(write: Path) -> None:
    write.write_text(
        'db = "a.duckdb"\n[score]\nmodels = ["a"]\nbackend = "torch"\n[evaluate]\ninjections = true\n'
    )
    environ = {
        "LENSMINE_DB": "/b.duckdb",
        "LENSMINE_SCORE_MODELS": "b, c",
        "LENSMINE_EVALUATE_INJECTIONS": "false",
    }
    config = load_config(write, environ=environ)
    assert config.db == "/b.duckdb"
    assert config.score.models == ("b", "c")
    assert config.score.backend == "torch"
    assert config.evaluate.injections is False
    flags = {"db": "/c.duckdb", "score.models": ["d"], "score.backend": None}
    config = load_config(write, environ=environ, flags=flags)
    assert config.db == "/c.duckdb"
    assert config.score.models == ("d",)
    assert config.score.backend == "torch"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('[scor]\nbackend = "torch"', "did you mean 'score'"),
        ('[score]\nmodel = ["x"]', "did you mean 'models'"),
        ("[score]\nzzz = 1", "allowed: models, selection, backend, precision, weights"),
        ("[score]\nmodels = [1, 2]", "list of texts"),
        ("[evaluate]\ninjections = 1", "true or false"),
        ("score = 3", r"write \[score\]"),
        ("db = ", "is not TOML"),
        ("[score]\nbackend = 3", "text in quotes"),
        ("[score]\nprecision = 8", "text in quotes"),
        ('[score]\nmodels = ["a", "b"]\nweights = "own.safetensors"', "weights of one model"),
    ],
)
def test_what_is_wrong_is_refused_and_named(write: Path, text: str, says: str) -> None:
    write.write_text(text)
    with pytest.raises(UserError, match=says):
        load_config(write, environ={})


def test_wrong_environment_is_refused(write: Path) -> None:
    write.write_text("")
    with pytest.raises(UserError, match=r"\$LENSMINE_EVALUATE_INJECTIONS"):
        load_config(write, environ={"LENSMINE_EVALUATE_INJECTIONS": "perhaps"})


def test_missing_file_says_how_to_make_one(write: Path) -> None:
    with pytest.raises(UserError, match="lensmine refresh --example"):
        load_config(write, environ={})


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        RefreshConfig().db = "x"  # type: ignore[misc]
