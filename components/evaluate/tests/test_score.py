from pathlib import Path

import pandas as pd
import pytest
import score


def run(model: tuple[Path, str], rows: pd.DataFrame, folder: Path) -> Path:
    rows.to_csv(folder / "batch.csv", index=False)
    out = folder / "out"
    score.main(
        [
            f"--model={model[0]}",
            f"--model-sha256={model[1]}",
            f"--dataset={folder / 'batch.csv'}",
            f"--predictions={out / 'predictions'}",
            f"--rows={out / 'rows'}",
        ]
    )
    return out


def test_predictions_keep_the_order_of_the_rows(
    model: tuple[Path, str], rows: pd.DataFrame, tmp_path: Path
) -> None:
    batch = rows.iloc[[5, 0, 3, 2]].drop(columns="malignant")
    out = run(model, batch, tmp_path)
    predictions = pd.read_csv(out / "predictions")
    assert predictions["row"].tolist() == [0, 1, 2, 3]
    assert predictions["malignant"].tolist() == [1, 0, 1, 0]
    assert predictions["probability"].between(0, 1).all()
    assert (out / "rows").read_text() == "4"


def test_another_model_is_refused_and_nothing_is_written(
    model: tuple[Path, str], rows: pd.DataFrame, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="score: the model's sha256 is"):
        run((model[0], "0" * 64), rows, tmp_path)
    assert not (tmp_path / "out").exists()
