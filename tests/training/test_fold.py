from dataclasses import replace

import numpy as np
import pytest
from small_fits import make_fold

from osteo_models.core.errors import SplitError


def test_empty_rows_are_refused() -> None:
    with pytest.raises(SplitError, match="fold data: `test` is empty"):
        replace(make_fold(), test=np.array([], int))


def test_an_image_on_both_sides_is_refused() -> None:
    with pytest.raises(SplitError) as caught:
        replace(make_fold(), train=np.array([3, 5, 4]), test=np.array([5, 3]))
    assert str(caught.value) == ("fold data: 2 images are in both train and test, the first is row 3; allowed: none")


@pytest.mark.parametrize("pair", [[24, 24], [0, 1], [0, 25]], ids=["no MRI", "no CT", "two classes"])
def test_a_pair_is_an_mri_and_a_ct_image_of_one_class(pair: list[int]) -> None:
    fold = make_fold("pairs")
    with pytest.raises(SplitError) as caught:
        replace(fold, train=np.array([[10, 34], pair]), test=np.array([[20, 44]]))
    assert str(caught.value) == (
        "fold data: pair 1 of `train` is not one image of each modality, all of one class; "
        "allowed: a row of each modality, in one order, with equal targets"
    )


def test_the_digest_is_moved_by_everything_and_by_nothing_else() -> None:
    fold = make_fold()
    changed = {
        "images": fold.images ^ 1,
        "target": 1 - fold.target,
        "modality": 1 - fold.modality,
        "train": fold.train[::-1],
        "test": fold.test[1:],
    }
    digests = {fold.digest(), *(replace(fold, **{name: value}).digest() for name, value in changed.items())}
    assert len(digests) == 6
    assert replace(fold, train=fold.train.astype(np.int32)).digest() == fold.digest()


def test_an_image_that_is_neither_trained_nor_tested_on_does_not_move_the_digest() -> None:
    fold = make_fold()
    part = replace(fold, train=fold.train[1:])
    images = fold.images.copy()
    images[fold.train[0]] ^= 1
    assert replace(part, images=images).digest() == part.digest()
    assert replace(fold, images=images).digest() != fold.digest()
