"""Commands that make models: train one, measure the noise it is trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schema.options import DbOption, JsonOption, QuietOption


def register(app: typer.Typer) -> None:
    """Add `train` and `noise` to the root command."""
    app.command()(train)
    app.command()(noise)


def train(
    model: Annotated[str, typer.Argument(help="Registered model, as listed by: lensmine models")],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="published or realistic; default: the model's own.")
    ] = None,
    selection: Annotated[
        str | None, typer.Option("--selection", help="Learn galaxies from these spectra; default: templates.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option("--epochs", min=1, help="Passes of 135,000 new spectra.")
    ] = None,
    spectra: Annotated[int, typer.Option("--spectra", min=1, help="Spectra in an epoch.")] = 135_000,
    seed: Annotated[int, typer.Option("--seed", help="Seed of weights and data.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for checkpoint, weights and card; default: train_MODEL."),
    ] = None,
    noise_file: Annotated[
        Path | None, typer.Option("--noise", help="Noise model made by: lensmine noise; default: BOSS.")
    ] = None,
    init: Annotated[
        str | None, typer.Option("--init", help="Weights to start from: a safetensors file, or shipped.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option("--learning-rate", help="Highest learning rate; default 0.003.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or auto.")] = "auto",
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure on a twentieth of the spectra, for trials.")
    ] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model on simulated spectra and write its weights and card.

    Example: lensmine train resnet28_lae --recipe published --epochs 20 --out train_resnet28
    """
    import logging
    import sys

    from schema import console
    from scoring.card import summary
    from scoring.training import TrainRequest, run_training

    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr
    )
    request = TrainRequest(
        model=model,
        recipe=recipe,
        selection=selection,
        epochs=epochs,
        spectra=spectra,
        seed=seed,
        out=out or Path(f"train_{model}"),
        noise=noise_file,
        init=init,
        learning_rate=learning_rate,
        resume=resume,
        device=device,
        quick=quick,
        db=db,
    )
    card = run_training(request)
    if as_json:
        console.print_json(card)
        return
    figures = summary(card)
    console.out.print(f"{model}: {request.out / (model + '.safetensors')}", markup=False)
    for key, value in figures.items():
        console.out.print(f"  {key}: {value}", markup=False)


def noise(
    selection: Annotated[str, typer.Argument(help="Selection of spectra to measure.")],
    out: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("noise.npz"),
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the noise of a survey on its own spectra, for training.

    Example: lensmine noise all_spectra --out boss_noise.npz
    """
    from schema import console
    from scoring.training_spectra import noise_from_selection

    model = noise_from_selection(db, selection)
    model.save(out)
    figures = model.figures()
    if as_json:
        console.print_json(figures | {"file": str(out)})
        return
    console.out.print(f"{out}", markup=False)
    for key, value in figures.items():
        console.out.print(f"  {key}: {value}", markup=False)
