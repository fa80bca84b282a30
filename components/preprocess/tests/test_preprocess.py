from pathlib import Path

import pandas as pd
import preprocess
import pytest


def table(rows: int = 200) -> pd.DataFrame:
    return pd.DataFrame(
        {"size": [n / 7 for n in range(rows)], "malignant": [int(n % 4 == 0) for n in range(rows)]}
    )


def run(folder: Path, *, seed: int = 7, test_fraction: float = 0.25) -> tuple[bytes, bytes]:
    folder.mkdir(exist_ok=True)
    table().to_csv(folder / "data.csv", index=False)
    train, test = folder / "out" / "train", folder / "out" / "test"
    preprocess.main(
        [
            f"--dataset={folder / 'data.csv'}",
            f"--test-fraction={test_fraction}",
            f"--seed={seed}",
            f"--train-data={train}",
            f"--test-data={test}",
        ]
    )
    return train.read_bytes(), test.read_bytes()


def test_every_row_is_in_exactly_one_part() -> None:
    train, test = preprocess.split(table(), test_fraction=0.25, seed=7)
    assert len(test) == 50
    assert sorted([*train["size"], *test["size"]]) == sorted(table()["size"])


def test_both_parts_keep_the_share_of_malignant_rows() -> None:
    train, test = preprocess.split(table(), test_fraction=0.2, seed=1)
    assert train["malignant"].mean() == test["malignant"].mean() == 0.25


def test_the_seed_alone_decides_the_split(tmp_path: Path) -> None:
    assert run(tmp_path / "a") == run(tmp_path / "b")
    assert run(tmp_path / "a") != run(tmp_path / "b", seed=8)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_fraction_that_is_none_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        preprocess.split(table(), test_fraction=fraction, seed=7)


def test_data_without_target_or_with_gaps_are_refused() -> None:
    with pytest.raises(ValueError, match="no column 'malignant'"):
        preprocess.split(table().drop(columns="malignant"), test_fraction=0.5, seed=7)
    holes = table()
    holes.loc[3, "size"] = None
    with pytest.raises(ValueError, match="missing in size"):
        preprocess.split(holes, test_fraction=0.5, seed=7)


def test_a_user_gets_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"^preprocess: test_fraction is 2\.0"):
        run(tmp_path, test_fraction=2.0)
