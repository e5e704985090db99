"""The registry finds models by name and refuses wrong names and weights in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from schema.errors import DataError, UserError
from scoring.models.base import SpectralModel
from scoring.registry import available_models, get_model, model_class, register_model


def test_the_models_of_the_paper_are_there() -> None:
    assert {"resnet28_lae", "snr_lae", "matched_filter_lae"} <= set(available_models())


def test_a_misspelt_name_lists_near_matches() -> None:
    with pytest.raises(UserError, match="did you mean resnet28_lae"):
        get_model("resnet_28_lae")


def test_a_name_like_no_other_lists_all() -> None:
    with pytest.raises(UserError, match=r"matched_filter_lae.*snr_lae"):
        get_model("zzz")


def test_a_name_is_given_once() -> None:
    with pytest.raises(ValueError, match="taken by"):

        @register_model("snr_lae")
        class Other(SpectralModel):
            pass


def test_missing_weights_name_the_file_and_the_command(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.safetensors.*lensmine train snr_lae"):
        get_model("snr_lae", tmp_path / "nowhere.safetensors")


@pytest.mark.parametrize(
    "text", [b"", b"not safetensors at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "]
)
def test_damaged_weights_are_a_data_error(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "broken.safetensors"
    path.write_bytes(text)
    with pytest.raises(DataError, match="does not hold weights of snr_lae"):
        get_model("snr_lae", path)


@pytest.mark.parametrize("name", ["resnet28_lae", "snr_lae"])
def test_shipped_weights_belong_to_the_code(name: str) -> None:
    model = get_model(name)
    assert model.card["weights_hash"] == model.weights_hash
    assert model.card["preprocessing_hash"] == model.preprocessing_hash
    assert model.default_threshold == model.card["threshold"]


def test_preprocessing_hash_follows_the_configuration() -> None:
    cls = model_class("resnet28_lae")
    assert cls().preprocessing_hash == cls().preprocessing_hash
    assert cls(cls.config_class(clip=49.0)).preprocessing_hash != cls().preprocessing_hash
