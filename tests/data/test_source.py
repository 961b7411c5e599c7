import pytest

from osteo_models.core.errors import ParamsError
from osteo_models.core.params import Data, Synthetic
from osteo_models.data.data_folder import check_not_imported


def test_an_imported_data_set_is_not_called_synthetic(tmp_path):
    (tmp_path / "data").mkdir()
    made = Data(path="data", synthetic=Synthetic(seed=1, scale="small"))
    check_not_imported(tmp_path, made)
    (tmp_path / "data" / "intake.csv").write_text("input\n")
    check_not_imported(tmp_path, Data(path="data"))
    with pytest.raises(ParamsError, match=r"params.yaml: `data\.synthetic` is set, .* take `data.synthetic` out"):
        check_not_imported(tmp_path, made)
