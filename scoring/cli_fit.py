"""Commands after scoring: ``fit``, ``attrition``, ``candidates``, ``explain`` and ``export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from schema.options import DbOption, JsonOption, QuietOption

if TYPE_CHECKING:
    from rich.table import Table

ModelOption = Annotated[
    str | None, typer.Option("--model", help="Only hits of this model; every model when left out.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to the root command."""
    for command in (fit, attrition, candidates, explain, export):
        app.command()(command)


def fit(
    model: ModelOption = None,
    selection: Annotated[
        str | None, typer.Option("--selection", help="Only hits within this selection.")
    ] = None,
    db: DbOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Fit the line of every hit that has no current fit: skew-normal plus constant, and [OII] instead.

    Example: lensmine fit --model resnet28_lae
    """
    from schema import console
    from scoring.fits.run import fit_hits

    with console.progress(quiet=quiet or as_json) as bar:
        line = bar.add_task("fit", total=None)
        report = fit_hits(
            db,
            model,
            selection=selection,
            progress=lambda done, todo: bar.update(line, completed=done, total=todo),
        )
    if as_json:
        console.print_json(report.as_dict())
    elif not quiet:
        console.out.print(report.line(), markup=False)


def attrition(model: ModelOption = None, db: DbOption = None, as_json: JsonOption = False) -> None:
    """Print how many targets enter and leave each cut.

    Example: lensmine attrition --model resnet28_lae
    """
    from schema import console

    rows = _read(db, "attrition", model, "model, model_id, step_no")
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        console.out.print("nothing scored yet; begin with: lensmine score MODEL SELECTION", markup=False)
    for name in dict.fromkeys((r["model"], r["model_id"]) for r in rows):
        table = _table("step", "in", "out", "dropped", "injected in", "injected out", "what the step asks")
        for r in rows:
            if (r["model"], r["model_id"]) == name:
                counts = (
                    r["n_in"],
                    r["n_out"],
                    r["n_in"] - r["n_out"],
                    r["n_in_injected"],
                    r["n_out_injected"],
                )
                table.add_row(r["step"], *(f"{n:,}" for n in counts), r["description"])
        table.title = name[0]
        _show(table)


def candidates(
    model: ModelOption = None,
    limit: Annotated[int, typer.Option(min=0, help="Most rows of the table; 0 for all.")] = 50,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print the candidates with the columns of Table 1 of Li et al. (2018), the most probable first.

    Example: lensmine candidates --model resnet28_lae
    """
    from schema import console

    rows = _read(db, "candidate", model, "model, probability desc, target_id")
    if as_json:
        console.print_json(rows)
        return
    if not rows:
        console.out.print("no candidates; see where they were lost: lensmine attrition")
        return
    table = _table(
        "name", "plate-mjd-fiber", "z_L", "z_s", "m_i", "Lya flux", "skewness", "probability", "model"
    )
    for r in rows[: limit or None]:
        table.add_row(
            r["name"] + (" (injected)" if r["is_injection"] else ""), r["native_id"], _number(r["z_lens"], 4),
            _number(r["z_source"], 4), _number(r["cmodel_mag_i"], 2),
            f"{_number(r['line_flux'], 1)} ± {_number(r['line_flux_err'], 1)}",
            f"{_number(r['skewness'], 2)} ± {_number(r['skewness_err'], 2)}", _number(r["probability"], 4),
            r["model"],
        )  # fmt: skip
    table.caption = "flux in 1e-17 erg/s/cm2; skewness is the shape parameter of the skew-normal profile"
    _show(table)
    if limit and len(rows) > limit:
        console.err.print(f"{limit} of {len(rows):,} candidates; --limit 0 prints all")


def explain(
    target: Annotated[
        str, typer.Argument(help="PLATE-MJD-FIBER, a target_id, or a name as 'SDSS J111749.50+014036.9'.")
    ],
    model: ModelOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what became of one target: its scores, its fit, and the cut that dropped it, with the numbers.

    Example: lensmine explain 4731-55656-197
    """
    from schema import console
    from scoring.explain import explain as look

    found = look(db, target, model)
    if as_json:
        console.print_json(found)
        return
    for line in _about_target(found):
        console.out.print(line, markup=False)
    for v in found["verdicts"]:
        console.out.print()
        console.out.print(
            f"{v['model']}: {v['verdict']}" + (f" as {v['name']}" if v["name"] else ""), markup=False
        )
        console.out.print(f"  {v['reason']}", markup=False)
        for line in _about_score(v):
            console.out.print(f"  {line}", markup=False)
        if v["steps"]:
            table = _table("", "cut", "found", "asked")
            for s in v["steps"]:
                table.add_row(
                    "ok" if s["passes"] else "FAILS", s["step"], s["found"].replace("[", "\\["), s["asked"]
                )
            _show(table)
    if not found["verdicts"] and not found["images"]["verdicts"]:
        console.out.print("no model has scored anything yet", markup=False)


def export(
    path: Annotated[
        Path, typer.Argument(metavar="OUT", help="File: .fits, .vot, .xml, .parquet, .csv or .ecsv.")
    ],
    view: Annotated[str, typer.Option("--view", help="Table or view to write.")] = "candidate",
    where: Annotated[str | None, typer.Option("--where", help="SQL condition on its columns.")] = None,
    model: ModelOption = None,
    db: DbOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the candidates, or any table or view, to a file with the unit, UCD and meaning of each column.

    Example: lensmine export candidates.fits --where "probability > 0.9 and not is_injection"
    """
    from schema import console
    from scoring.export import export as write

    report = write(db, path, view, where=where, model=model)
    if as_json:
        console.print_json(report.as_dict())
    else:
        console.out.print(report.line(), markup=False)


def _show(table: Table) -> None:
    """Print a table as wide as the terminal, at least 110; when nobody watches, as wide as it needs to be."""
    from schema.console import out

    out.print(table, width=max(out.width, 110) if out.is_terminal else 200)


def _table(*columns: str) -> Table:
    from rich.table import Table

    text = ("what the step asks", "found", "asked")
    left = (*text, "", "name", "plate-mjd-fiber", "model", "step", "cut")
    table = Table(box=None, pad_edge=False, title_justify="left", caption_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name in left else "right", no_wrap=name not in text)
    return table


def _read(db: str | None, view: str, model: str | None, order: str) -> list[dict[str, Any]]:
    """Rows of a view, of one model when it is given."""
    import sqlalchemy as sa

    from schema.engine import connect_engine
    from scoring.fits.run import known_model

    with connect_engine(db, read_only=True).connect() as conn:
        if model is not None:
            known_model(conn, model)
        where = "" if model is None else " where model = :model"
        query = sa.text(f"select * from {view}{where} order by {order}")
        return [dict(r) for r in conn.execute(query, {} if model is None else {"model": model}).mappings()]


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _about_target(found: dict[str, Any]) -> list[str]:
    """Lines on the target, its truth when it is simulated, its pixels and the known lenses around it."""
    from scoring.explain_image import lines_about_images

    t = found["target"]
    lines = [
        f"{t['native_id']} ({t['survey']}, target_id {t['target_id']}) at RA {t['ra_deg']:.6f}, "
        f"Dec {t['dec_deg']:+.6f}",
        f"  {t['class'] or 'no class'} {t['subclass'] or ''}".rstrip()
        + f", z {_number(t['z'], 4)} ± {_number(t['z_err'], 4)}, z_warning {t['z_warning']}, "
        f"i {_number(t['cmodel_mag_i'], 2)}",
    ]
    if t["catalogue_file"]:
        lines.append(f"  catalogue row of {t['catalogue_file']}")
    if t["is_primary"] is False and t["primary_native_id"]:
        lines.append(f"  one of {t['n_epoch']} epochs; the primary is {t['primary_native_id']}")
    truth = found["injection"]
    if truth:
        what = f"a line of flux {_number(truth['line_flux'], 1)} at {_number(truth['wave_angstrom'], 1)} Å"
        lines.append(f"  simulated: {what if truth['is_lens'] else 'no background line'}")
    for s in found["spectra"]:
        lines.append(
            f"  spectrum{' (primary)' if s['is_primary'] else ''}: {s['file']} HDU {s['hdu']} "
            f"row {s['source_row']}, {s['n_good_window']} good pixels in the window; "
            f"shard {s['shard']} row {s['shard_row']}"
        )
    lines += [f"  {line}" for line in lines_about_images(found["images"])]
    if not found["spectra"] and not found["images"]["cutouts"]:
        lines.append("  no spectrum of it is in the database; ingest its spec file")
    lines += [f"  known lens {x['name']} at {x['sep_arcsec']:.2f} arcsec" for x in found["known_lenses"][:5]]
    return lines


def _about_score(v: dict[str, Any]) -> list[str]:
    """Lines on the score and the fit of one model."""
    s, f = v["score"], v["fit"]
    lines = []
    if s:
        lines.append(
            f"score {s['probability']:.4g} (threshold {v['threshold']:g}), strongest line at "
            f"{_number(s['wave_angstrom'], 1)} Å with S/N {_number(s['snr'], 1)}"
        )
        lines.append(
            f"run {s['run_id']}: selection {s['selection']} v{s['selection_version']}, {s['backend']} "
            f"{s['precision']}, "
            f"weights {str(v['weights_hash'])[:16]}, preprocessing {str(v['preprocessing_hash'])[:16]}"
        )
    if f and f["line_flux"] is not None:
        lines.append(
            f"fit: flux {_number(f['line_flux'], 1)} ± {_number(f['line_flux_err'], 1)}, sigma "
            f"{_number(f['sigma_angstrom'], 2)} Å, skewness {_number(f['skewness'], 2)} ± "
            f"{_number(f['skewness_err'], 2)}, chi2/dof {_number(f['chi2'], 1)}/{f['dof']}, "
            f"z_source {_number(f['z_lya'], 4)} (Lya) or {_number(f['z_oii'], 4)} ([OII])"
        )
    return lines
