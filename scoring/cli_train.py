"""Commands that make models: train one, measure the noise it is trained with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from schema.options import DbOption, JsonOption, QuietOption


def register(app: typer.Typer) -> None:
    """Add `train` and `noise` to the root command."""
    app.command()(train)
    app.command()(noise)


def train(
    model: Annotated[str, typer.Argument(help="Registered model, as listed by: lensmine models")],
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe", help="published or realistic; of images space or hsc; default: the model's own."
        ),
    ] = None,
    selection: Annotated[
        str | None, typer.Option("--selection", help="Learn galaxies from these spectra; default: templates.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs", min=0, help="Passes of 135,000 new spectra, or over the positives; 0 measures only."
        ),
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
    positives: Annotated[
        str | None,
        typer.Option("--positives", help="Images: learn from these lenses; default: simulated ones."),
    ] = None,
    negatives: Annotated[
        str | None,
        typer.Option(
            "--negatives", help="Images: learn from these ordinary objects; default: simulated ones."
        ),
    ] = None,
    tracers: Annotated[
        list[str] | None,
        typer.Option(
            "--tracers", help="Images: also measure on these real lenses; LENSES:OTHERS, may be repeated."
        ),
    ] = None,
    lenses: Annotated[
        int, typer.Option("--lenses", min=20, help="Images: simulated lenses, and as many near misses.")
    ] = 20_000,
    ordinary: Annotated[
        int, typer.Option("--ordinary", min=20, help="Images: simulated survey sources.")
    ] = 50_000,
    test_lenses: Annotated[
        int, typer.Option("--test-lenses", min=20, help="Images: lenses to measure on.")
    ] = 1000,
    test_ordinary: Annotated[
        int, typer.Option("--test-ordinary", min=100, help="Images: survey sources to measure on.")
    ] = 20_000,
    per_epoch: Annotated[
        int | None, typer.Option("--per-epoch", min=1, help="Images: positives of an epoch; default: all.")
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", min=2, help="Images: of both classes; default: the model's own."),
    ] = None,
    how: Annotated[
        str | None,
        typer.Option("--how", help="Images: published, or today (AdamW, one cycle); default: the model's."),
    ] = None,
    near_misses: Annotated[
        bool, typer.Option(help="Images: lenses' galaxies without arcs among the negatives too.")
    ] = True,
    min_snr: Annotated[
        float | None,
        typer.Option("--min-snr", min=0.0, help="Images: least S/N of the arcs of lenses to learn from."),
    ] = None,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Images: train in bfloat16, faster where the processor knows it.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Images: folder of the simulated ones; default: OUT/images.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Measure on a twentieth of the spectra, for trials.")
    ] = False,
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train a model on simulated spectra or images and write its weights and card.

    Example: lensmine train resnet28_lae --recipe published --epochs 20 --out train_resnet28
    Example: lensmine train arclet --negatives my_survey --epochs 30 --out train_arclet
    """
    import logging
    import sys

    from scoring.card import summary
    from scoring.registry import model_class
    from scoring.training import TrainRequest, run_training

    logging.basicConfig(
        level=logging.WARNING if quiet else logging.INFO, format="%(asctime)s %(message)s", stream=sys.stderr
    )
    if getattr(model_class(model), "modality", "spectrum") == "image":
        from schema.errors import UserError
        from scoring.imaging.card import summary as image_summary
        from scoring.imaging.run import ImageTrainRequest, run_image_training

        if selection is not None or noise_file is not None:
            raise UserError(
                f"--selection and --noise are for models of spectra; {model} looks at images: "
                "say --positives and --negatives"
            )
        folder = out or Path(f"train_{model}")
        card = run_image_training(
            ImageTrainRequest(
                model=model, out=folder, recipe=recipe, lenses=lenses, ordinary=ordinary,
                test_lenses=test_lenses, test_ordinary=test_ordinary, positives=positives,
                negatives=negatives, tracers=tuple(tracers or ()), epochs=epochs, per_epoch=per_epoch,
                batch_size=batch_size, learning_rate=learning_rate, init=init, seed=seed, data=data,
                resume=resume, device=device, quick=quick, db=db, how=how,
                near_misses=near_misses, min_snr=min_snr, bf16=bf16,
            )
        )  # fmt: skip
        _print_card(model, folder, card, image_summary(card), as_json)
        return
    if epochs == 0 and init is None:
        from schema.errors import UserError

        raise UserError("--epochs 0 only measures: say which weights, --init shipped or a safetensors file")
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
    _print_card(model, request.out, card, summary(card), as_json)


def _print_card(model: str, out: Path, card: dict[str, Any], figures: dict[str, Any], as_json: bool) -> None:
    from schema import console

    if as_json:
        console.print_json(card)
        return
    console.out.print(f"{model}: {out / (model + '.safetensors')}", markup=False)
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
