"""Commands of LensGenerator: make lenses from few, and measure what they add to EZnet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from schema.options import DbOption, JsonOption, QuietOption

SeedOption = Annotated[int, typer.Option("--seed", help="Seed of weights, batches and simulated stamps.")]
ThreadsOption = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.")]


def register(app: typer.Typer) -> None:
    """Add `gan` and `ablation` to the root command."""
    app.command()(gan)
    app.command()(ablation)


def gan(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for checkpoint, stamps, weights and card.")
    ] = Path("lens_gan"),
    lenses: Annotated[
        str | None,
        typer.Option("--lenses", help="Selection of known lenses with i, r, g cutouts; default: simulated."),
    ] = None,
    ordinary: Annotated[
        str | None,
        typer.Option("--ordinary", help="Selection of ordinary cutouts to pretrain on; default: simulated."),
    ] = None,
    known: Annotated[int, typer.Option("--known", min=2, help="Lenses to learn from.")] = 50,
    cycles: Annotated[int, typer.Option("--cycles", min=1, help="Cycles of 200 stamps.")] = 10,
    pretrain_steps: Annotated[int, typer.Option("--pretrain-steps", min=1, help="Batches before.")] = 1000,
    cycle_steps: Annotated[int, typer.Option("--cycle-steps", min=1, help="Batches in a cycle.")] = 150,
    seed: SeedOption = 1,
    threads: ThreadsOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train LensGenerator on a few lenses and write the lenses that it draws.

    A killed run goes on from its checkpoint. Example: lensmine gan --known 50 --out lens_gan
    """
    from schema import console
    from scoring.gan.run import GanRequest, run_gan
    from scoring.gan.train import GanConfig

    _threads(threads)
    config = GanConfig(cycles=cycles, pretrain_steps=pretrain_steps, cycle_steps=cycle_steps, seed=seed)
    with console.progress(quiet=quiet) as bar:
        tasks: dict[str, int] = {}

        def tell(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done)  # type: ignore[arg-type]

        card = run_gan(GanRequest(out, lenses, ordinary, known, config, db), tell)
    if as_json:
        console.print_json(card)
        return
    console.out.print(f"{card['n_generated']:,} lenses drawn from {card['n_known']} known ones", markup=False)
    for name in ("weights", "stamps", "picture"):
        console.out.print(f"  {name}: {card[name]}", markup=False)


def ablation(
    out: Annotated[Path, typer.Option("--out", help="Folder for stamps and results.")] = Path("ablation"),
    steps: Annotated[int, typer.Option("--steps", min=10, help="Gradient steps of every arm.")] = 250,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Repetitions with other lenses.")] = 3,
    pool: Annotated[int, typer.Option("--pool", min=64, help="Ordinary stamps to draw from.")] = 20_000,
    test_lenses: Annotated[int, typer.Option("--test-lenses", min=10, help="Lenses to judge on.")] = 1000,
    test_ordinary: Annotated[
        int, typer.Option("--test-ordinary", min=100, help="Others to judge on.")
    ] = 5000,
    pretrain_steps: Annotated[int, typer.Option("--pretrain-steps", min=1, help="Of the generator.")] = 1000,
    cycle_steps: Annotated[int, typer.Option("--cycle-steps", min=1, help="Of the generator.")] = 150,
    gan_batch: Annotated[int, typer.Option("--gan-batch", min=2, help="Its batches.")] = 32,
    small: Annotated[bool, typer.Option("--small", help="A network of 8 blocks, not EZnet's 50.")] = False,
    bf16: Annotated[
        bool, typer.Option("--bf16", help="Compute in bfloat16, faster where the processor knows it.")
    ] = False,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Train EZnet on 50 lenses with and without D4, negative learning and generated lenses, and compare.

    A killed run goes on where it stopped. Example: lensmine ablation --steps 250 --seeds 3
    """
    from schema import console
    from scoring.gan.ablation import SMALL, AblationConfig, summary
    from scoring.gan.run import run_ablation
    from scoring.gan.train import GanConfig
    from scoring.models.eznet import EZnetConfig

    _threads(threads)
    network = SMALL if small else EZnetConfig()
    config = AblationConfig(steps=steps, seeds=tuple(range(1, seeds + 1)), network=network, bf16=bf16)
    tell = None if quiet else lambda line: console.err.print(line, markup=False)
    generate = GanConfig(
        pretrain_steps=pretrain_steps,
        cycle_steps=cycle_steps,
        batch_size=gan_batch,
        discriminator=network,
        bf16=bf16,
    )
    rows = summary(run_ablation(out, config, generate, pool, test_lenses, test_ordinary, tell))
    if as_json:
        console.print_json(rows)
        return
    from rich.table import Table

    table = Table("trained with", "ranking performance", "gain", "completeness at 1% false positives", "gain")
    for row in rows:
        cells = [row["arm"]]
        for metric in ("ranking_performance", "completeness_fpr_1e-2"):
            cells.append(_with_interval(row[metric], row[f"{metric}_interval"]))
            cells.append(_with_interval(row[f"{metric}_gain"], row[f"{metric}_gain_interval"], sign="+"))
        table.add_row(*cells)
    console.out.print(table)
    console.out.print(
        f"95% t intervals over {rows[0]['seeds']} seeds; gain over the first row, seed by seed", markup=False
    )


def _with_interval(value: float, interval: tuple[float, float] | None, sign: str = "") -> str:
    shown = format(value, f"{sign}.3f")
    return shown if interval is None else f"{shown} ({interval[0]:{sign}.3f} to {interval[1]:{sign}.3f})"


def _threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
