"""Settings of ``lensmine refresh``: a frozen dataclass filled from TOML, then environment, then flags.

An unknown section or key fails, and the message names the nearest one that exists, so that a misspelt setting
is never silently left at its default. Relative paths are relative to the folder of the file, because cron
starts commands elsewhere.
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast, get_type_hints

from schema.errors import UserError

EXAMPLE = """\
# Settings of `lensmine refresh`; every key is optional. Relative paths are relative to this file.
db = "search.duckdb"              # or "postgresql://user@host/lenses"; LENSMINE_DB and --db come first

[ingest]
sdss = ["boss/specObj.fits", "boss/spectra"]   # files, folders, globs, fsspec URLs
lenses = ["lenscat"]              # the packaged catalogue, or files of lenscat or the Master Lens Database

[score]
models = ["snr_lae"]              # names of `lensmine models`
selection = "li2018_lrg"          # a name of `lensmine select list`
backend = "auto"                  # auto, torch or openvino
precision = "fp32"                # of networks: fp32, bf16 (torch) or int8 (openvino)
weights = "shipped"               # or a .safetensors file of your own, where models names one network

[evaluate]
injections = true                 # completeness for the simulated targets, where the database has any

[export]
candidates = ["candidates.fits", "candidates.csv"]   # .fits .vot .parquet .csv
"""


@dataclass(frozen=True)
class IngestSettings:
    """Section [ingest]: what to read. See `EXAMPLE` for the meaning of the keys."""

    sdss: tuple[str, ...] = ()
    lenses: tuple[str, ...] = ()


@dataclass(frozen=True)
class ScoreSettings:
    """Section [score]: which models score which selection."""

    models: tuple[str, ...] = ("snr_lae",)
    selection: str = "li2018_lrg"
    backend: str = "auto"
    precision: str = "fp32"
    weights: str = "shipped"


@dataclass(frozen=True)
class EvaluateSettings:
    """Section [evaluate]: which figures are computed."""

    injections: bool = True


@dataclass(frozen=True)
class ExportSettings:
    """Section [export]: files that are rewritten when the candidates changed."""

    candidates: tuple[str, ...] = ()


@dataclass(frozen=True)
class RefreshConfig:
    """Everything that a refresh needs to know."""

    db: str | None = None
    ingest: IngestSettings = field(default_factory=IngestSettings)
    score: ScoreSettings = field(default_factory=ScoreSettings)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    export: ExportSettings = field(default_factory=ExportSettings)


def load_config(
    path: Path, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> RefreshConfig:
    """Read a configuration file and lay the environment and the flags over it.

    Parameters
    ----------
    path : Path
        TOML file.
    environ : mapping of str, optional
        ``LENSMINE_DB`` sets ``db``, ``LENSMINE_SCORE_BACKEND`` sets ``backend`` of section ``score``, and so
        on; lists are separated by commas. Default: the environment of the process.
    flags : mapping, optional
        Dotted keys (``"score.backend"``) with values; None leaves a key as it is.

    Raises
    ------
    UserError
        If the file is missing or not TOML, a key is unknown or of the wrong type, or weights of one's own
        are given to several models.
    """
    environ = os.environ if environ is None else environ
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"no configuration {path}; write one with: lensmine refresh --example > {path}"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise UserError(f"{path} is not TOML: {exc}") from exc
    except OSError as exc:
        raise UserError(f"{path} cannot be read: {exc.strerror}") from exc
    config = _fill(RefreshConfig(), given, str(path), "")
    config = _resolve(config, path.resolve().parent)
    for key in _keys(RefreshConfig):
        name = "LENSMINE_" + key.replace(".", "_").upper()
        if environ.get(name):
            config = _set(config, key, _from_text(config, key, environ[name], name), f"${name}")
    for key, value in (flags or {}).items():
        if value is not None:
            config = _set(config, key, value, f"--{key.rpartition('.')[2]}")
    if config.score.weights != "shipped" and len(config.score.models) != 1:
        raise UserError(
            f"{path}: weights = {config.score.weights!r} are the weights of one model, and models names "
            f"{len(config.score.models)}; leave one, or give each a settings file of its own"
        )
    return config


def _keys(cls: type, prefix: str = "") -> list[str]:
    """Dotted names of all settings."""
    out: list[str] = []
    hints = get_type_hints(cls)
    for f in fields(cls):
        if hasattr(hints[f.name], "__dataclass_fields__"):
            out += _keys(hints[f.name], f"{prefix}{f.name}.")
        else:
            out.append(prefix + f.name)
    return out


def _fill(settings: Any, given: Mapping[str, Any], where: str, section: str) -> Any:
    """The settings with the values of one table of the file in place."""
    names = [f.name for f in fields(settings)]
    changes: dict[str, Any] = {}
    for key, value in given.items():
        place = f"[{section}] " if section else ""
        if key not in names:
            near = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names)}"
            raise UserError(f"{where}: {place}{key!r} is no setting; {hint}")
        current = getattr(settings, key)
        if hasattr(current, "__dataclass_fields__"):
            if not isinstance(value, Mapping):
                raise UserError(f"{where}: {key!r} is a section; write [{key}] and its settings below it")
            changes[key] = _fill(current, value, where, key)
        else:
            changes[key] = _checked(type(settings), key, value, f"{where}: {place}{key}")
    return replace(settings, **changes)


def _checked(cls: type, key: str, value: Any, where: str) -> Any:
    """The value, if it has the type of the setting; a list of text becomes a tuple."""
    hint = str(get_type_hints(cls)[key])
    if hint.startswith("tuple"):
        value = [value] if isinstance(value, str) else value
        if isinstance(value, (list, tuple)) and all(isinstance(v, str) for v in value):
            return tuple(value)
        raise UserError(f"{where} = {value!r}: give a list of texts")
    if "bool" in hint:
        if isinstance(value, bool):
            return value
        raise UserError(f"{where} = {value!r}: give true or false")
    if isinstance(value, str) and value:
        return value
    raise UserError(f"{where} = {value!r}: give a text in quotes")


def _resolve(config: RefreshConfig, folder: Path) -> RefreshConfig:
    """Paths of the file made absolute; URLs and names stay."""

    def one(text: str) -> str:
        return text if "://" in text or text == "lenscat" else str(folder / Path(text).expanduser())

    ingest = replace(
        config.ingest,
        sdss=tuple(map(one, config.ingest.sdss)),
        lenses=tuple(map(one, config.ingest.lenses)),
    )
    export = replace(config.export, candidates=tuple(map(one, config.export.candidates)))
    weights = config.score.weights
    score = replace(config.score, weights=weights if weights == "shipped" else one(weights))
    db = one(config.db) if config.db else None
    return replace(config, db=db, ingest=ingest, score=score, export=export)


def _from_text(config: RefreshConfig, key: str, text: str, name: str) -> Any:
    """A value of the environment in the type of its setting."""
    section, _, last = key.rpartition(".")
    current = getattr(getattr(config, section) if section else config, last)
    if isinstance(current, bool):
        if text.lower() not in ("true", "false", "1", "0"):
            raise UserError(f"${name} = {text!r}: give true or false")
        return text.lower() in ("true", "1")
    if isinstance(current, tuple):
        return tuple(part.strip() for part in text.split(",") if part.strip())
    return text


def _set(config: RefreshConfig, key: str, value: Any, where: str) -> RefreshConfig:
    section, _, last = key.rpartition(".")
    inner: Any = getattr(config, section) if section else config
    changed = replace(inner, **{last: _checked(type(inner), last, value, where)})
    if not section:
        return cast(RefreshConfig, changed)
    sections: dict[str, Any] = {section: changed}
    return replace(config, **sections)
