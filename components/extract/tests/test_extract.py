from pathlib import Path

import extract
import pandas as pd


def test_the_table_is_the_published_data_set(tmp_path: Path) -> None:
    path = tmp_path / "not" / "there" / "data.csv"
    extract.main(["--dataset", str(path)])
    table = pd.read_csv(path)

    # Published counts: 569 tumours, 30 features, 212 malignant, 357 benign.
    assert table.shape == (569, 31)
    assert table["malignant"].value_counts().to_dict() == {0: 357, 1: 212}
    assert table.columns[-1] == "malignant"
    assert not table.isna().any().any()


def test_the_first_record_is_the_first_published_one() -> None:
    # wdbc.data begins "842302,M,17.99,10.38,122.8,1001,...".
    first = extract.extract().iloc[0]
    assert first[["mean_radius", "mean_texture", "mean_area"]].tolist() == [17.99, 10.38, 1001.0]
    assert first["malignant"] == 1


def test_numbers_survive_the_file(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    extract.main(["--dataset", str(path)])
    pd.testing.assert_frame_equal(pd.read_csv(path), extract.extract(), check_exact=True)
