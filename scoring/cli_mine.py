"""The command of mining campaigns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from schema.options import DbOption, JsonOption, QuietOption


def register(app: typer.Typer) -> None:
    """Add `mine` to the root command."""
    app.command()(mine)


def mine(
    campaign: Annotated[str, typer.Argument(help="Name of the campaign; run it again to go on.")],
    model: Annotated[
        str, typer.Option("--model", help="Image model, as listed by: lensmine models")
    ] = "arclet",
    pool: Annotated[str, typer.Option("--pool", help="Selection that is searched.")] = "all_images",
    tracers: Annotated[
        str, typer.Option("--tracers", help="Set of known lenses that judges the rounds.")
    ] = "known",
    positives: Annotated[
        str | None, typer.Option("--positives", help="Selection of lenses to learn from; default: simulated.")
    ] = None,
    phases: Annotated[str, typer.Option("--phases", help="Rounds, in order.")] = "coarse,fine,search",
    keep: Annotated[float, typer.Option("--keep", help="Share of the list the next round works on.")] = 0.06,
    inspect: Annotated[
        int, typer.Option("--inspect", help="Places at the top that hard negatives come from.")
    ] = 300,
    negatives: Annotated[
        int, typer.Option("--negatives", help="Most ordinary cutouts a round draws from its pool.")
    ] = 50_000,
    epochs: Annotated[int, typer.Option("--epochs", help="Epochs of each round.")] = 20,
    simulated: Annotated[
        int, typer.Option("--simulated", help="Lenses to simulate without --positives.")
    ] = 3200,
    simulated_others: Annotated[
        int,
        typer.Option("--simulated-others", help="Simulated survey sources to learn from beside the pool's."),
    ] = 0,
    unseen: Annotated[
        bool,
        typer.Option("--unseen", help="Take what nobody has graded at the top for hard negatives too."),
    ] = False,
    start: Annotated[
        str, typer.Option("--start", help="shipped, fresh, or weights that the first round starts from.")
    ] = "shipped",
    seed: Annotated[int, typer.Option("--seed", help="Seed of draw, weights and batches.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for the weights; default: mine-CAMPAIGN.")
    ] = None,
    show: Annotated[bool, typer.Option("--list", help="List the campaign's rounds and run nothing.")] = False,
    replay: Annotated[
        int | None, typer.Option("--replay", help="Make this round's weights again and compare.")
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Mine a pool of cutouts in rounds: rank them all, learn from the top of the list, look again.

    Each round trains the model, scores its pool and ranks it; the next works on the top 6% of that list, with
    what people graded C or X as hard negatives. What nobody has graded among the first 300 may be a lens and
    teaches nothing: stop after a round (--phases coarse), grade, and run again; or say --unseen. A round is
    a row of mining_round; in the search round the tracers teach, so they no longer judge.

    Example: lensmine mine cosmos --model arclet --pool all_images --tracers known
    """
    from schema import console
    from scoring.mining.campaign import list_rounds
    from scoring.mining.campaign import mine as run
    from scoring.mining.campaign import replay as make_again
    from scoring.mining.plan import MineConfig

    folder = out or Path(f"mine-{campaign}")
    if replay is not None:
        result = make_again(db, campaign, replay, folder / f"replay-{replay}")
        if as_json:
            console.print_json(result)
        else:
            word = "the same weights" if result["same"] else "other weights"
            console.out.print(f"round {replay} of {campaign} replayed: {word}", markup=False)
        return
    if show:
        rounds = list_rounds(db, campaign)
    else:
        config = MineConfig(
            model=model,
            pool=pool,
            tracers=tracers,
            positives=positives,
            phases=tuple(p.strip() for p in phases.split(",") if p.strip()),
            keep=keep,
            inspect=inspect,
            negatives=negatives,
            epochs=epochs,
            simulated=simulated,
            simulated_others=simulated_others,
            unseen=unseen,
            start=start,
            seed=seed,
        )
        tell = None if quiet or as_json else lambda line: console.err.print(line, markup=False)
        rounds = run(db, campaign, config, folder, tell)
    if as_json:
        console.print_json(rounds)
    elif not quiet:
        _print(rounds)


def _print(rounds: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from schema import console

    table = Table(
        "round",
        "phase",
        "status",
        "pool",
        "hard",
        "lenses",
        "tracers",
        "ranking performance",
        "list for 90%",
        "for all",
    )
    for row in rounds:
        m = row.get("metrics") or {}
        performance = "-"
        seen, named = m.get("n_tracers", "-"), m.get("n_tracers_named")
        if "ranking_performance" in m:
            low, high = m["ranking_performance_interval"]
            performance = f"{m['ranking_performance']:.3f} ({low:.3f} to {high:.3f})"
            performance += ", taught" if m.get("tracers_taught") else ""
        shares = [f"{100 * m[k]:.2f}%" if k in m else "-" for k in ("share_for_90", "share_for_all")]
        counts = [f"{row[k]:,}" for k in ("n_pool", "n_hard", "n_positive")]
        table.add_row(
            str(row["round_no"]),
            row["phase"],
            row["status"],
            *counts,
            f"{seen} of {named}" if named not in (None, seen) else str(seen),
            performance,
            *shares,
        )
    console.out.print(table)
