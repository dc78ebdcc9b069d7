"""Stage: new texts through a stored model or blend."""

from __future__ import annotations

from pathlib import Path

from foldstack.errors import InputError
from foldstack.files import read_table, write_table
from foldstack.progress import say, table
from foldstack.stages.predictor import Prediction, Predictor
from foldstack.workspace import Workspace


def predict(
    ws: Workspace,
    *,
    model: str | None = None,
    name: str | None = None,
    file: str | None = None,
    text: str | None = None,
    out: str | None = None,
    int8: bool = False,
) -> None:
    """Predict a file's rows into a CSV, or one text onto the screen.

    model: one model instead of the blend `name`. out: the CSV (default predictions/<file>.csv in the
    workspace). int8: transformers in int8, whose loss of score is measured and said first.
    """
    if bool(file) == bool(text):
        raise InputError('predict takes either FILE=new.csv or TEXT="…" (--file, --text)')
    if file and not Path(file).is_file():
        raise InputError(f"FILE={file} is no file: give the path of one")
    if model and name:
        raise InputError("predict takes MODEL= or the blend's NAME=, not both")
    if model:
        names = ws.choose_models(model)
        if len(names) != 1:
            raise InputError(f"predict takes one MODEL, not {len(names)}: blend them first")
        predictor = Predictor.of_model(ws, names[0], int8=int8)
    else:
        predictor = Predictor.of_blend(ws, name or "blend", int8=int8)
    if text:
        _show(predictor.predict([text]))
    else:
        _write(ws, predictor, Path(file), Path(out) if out else None)


def _show(prediction: Prediction) -> None:
    row = prediction.probabilities.iloc[0]
    if prediction.labels:
        by = f" (by {prediction.by[0]})" if prediction.by else ""
        say(f"predict: {prediction.labels[0] or 'no label'}{by}")
    say(table(["", "predicted"], [[str(name), f"{value:.4f}"] for name, value in row.items()]))


def _write(ws: Workspace, predictor: Predictor, file: Path, out: Path | None) -> None:
    rows = predictor.rows_of(read_table(file, ws.competition.settings.encoding), str(file))
    prediction = predictor.predict_rows(rows)
    values = prediction.probabilities.map(lambda v: f"{v:.8g}")
    values.insert(0, ws.competition.settings.id, rows.ids)
    if prediction.labels is not None:
        values.insert(1, "predicted", prediction.labels, allow_duplicates=True)
    if prediction.by is not None:
        values.insert(2, "by", prediction.by, allow_duplicates=True)
    out = out or ws.root / "predictions" / f"{file.name.split('.')[0]}.csv"
    write_table(out, values, ws.competition.settings.encoding)
    members = ", ".join(f"{m} ({len(keys)} runs)" for m, keys in predictor.members.items())
    say(f"predict: {out}, {len(rows):,} rows by {predictor.winner} of {members}")
