import io

import numpy as np
import pytest
from PIL import Image

from osteo_models.core.errors import ImageError
from osteo_models.data.prepare import crop_box, prepare_bytes, prepare_files, prepare_mask, window_grey
from tests.data.test_image_file import dicom_bytes


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def column_image(centre: int, shape: tuple[int, int] = (320, 256)) -> np.ndarray:
    """A dark image with a striped column, 40 pixels wide: vertebrae and discs."""
    grey = np.full(shape, 40, dtype=np.uint8)
    rows = np.arange(shape[0]) // 18 % 2 == 0
    grey[:, centre - 20 : centre + 20] = np.where(rows[:, None], 200, 60)
    return grey


@pytest.mark.parametrize("centre", [60, 128, 190])
def test_the_crop_is_centred_on_the_column(centre):
    left, top, right, bottom = crop_box(column_image(centre), (1.0, 1.0), (200, 120))
    assert (right - left, bottom - top) == (120, 200)
    assert top == 60
    assert left == min(max(0, centre - 60), 256 - 120)


def test_the_crop_stays_inside_a_small_image():
    assert crop_box(column_image(50, (100, 100)), (1.0, 1.0), (200, 120)) == (0, 0, 100, 100)


def test_windowing_maps_the_ends_and_clips():
    pixels = np.array([[-500, -160, 340, 840, 3000]], dtype=np.float32)
    assert window_grey(pixels, -160, 840).tolist() == [[0, 0, 128, 255, 255]]
    assert window_grey(pixels, 5, 5).tolist() == [[0] * 5]


def test_a_prepared_picture_passes_unchanged(params):
    pixels = np.random.default_rng(1).integers(0, 256, (80, 60), dtype=np.uint8)
    image = prepare_bytes(png(pixels), prepare=params.prepare, modality="mri")
    assert np.array_equal(image.pixels, pixels)
    assert image.modality == "mri"


def test_other_pictures_are_taken_whole(params):
    halves = np.zeros((300, 200), dtype=np.uint8)
    halves[:, 100:] = 255
    pixels = prepare_bytes(png(halves), prepare=params.prepare).pixels
    assert pixels.shape == (80, 60)
    assert pixels[:, :29].max() == 0 and pixels[:, 31:].min() == 255


def test_a_slice_is_windowed_cropped_and_resized(params):
    hounsfield = np.where(column_image(150) > 100, 1000, 0).astype(np.uint16)
    data = dicom_bytes(hounsfield, PixelSpacing=[0.9375, 0.9375], RescaleSlope=1, RescaleIntercept=-160)
    image = prepare_bytes(data, prepare=params.prepare)
    assert image.pixels.shape == (80, 60) and image.modality == "ct" and image.patient_id == "P1"
    middle, side = image.pixels[:, 27:33].mean(), image.pixels[:, :10].mean()
    assert middle > 100 and side == 0


def test_modality_and_spacing_are_checked(params):
    ramp = np.arange(1600, dtype=np.uint16).reshape(40, 40)
    data = dicom_bytes(ramp)
    with pytest.raises(ImageError, match="the file is ct; allowed: mri"):
        prepare_bytes(data, prepare=params.prepare, modality="mri")
    with pytest.raises(ImageError, match="no PixelSpacing"):
        prepare_bytes(dicom_bytes(ramp, PixelSpacing=None), prepare=params.prepare)


def test_a_mask_is_cut_as_its_image_is(params):
    pixels = np.zeros((300, 260), dtype=np.uint16)
    pixels[::18, 150:190] = 1000  # the column lies to the right
    mask = np.zeros(pixels.shape, dtype=bool)
    mask[140:160, 150:190] = True
    image = dicom_bytes(np.where(mask, 2000, pixels).astype(np.uint16), PixelSpacing=[1.0, 1.0])
    shares = prepare_mask(image, mask, prepare=params.prepare)
    grey = prepare_bytes(image, prepare=params.prepare).pixels
    assert (shares.shape, shares.dtype) == ((80, 60), np.uint8)
    assert grey[shares == 255].mean() > 250 and grey[shares == 0].mean() < 60
    rows, columns = np.nonzero(shares > 127)
    assert len(rows) == pytest.approx(20 * 40 * 80 * 60 / (200 * 150), rel=0.1)
    assert 20 < columns.mean() < 40  # centred on the column, as the image is
    with pytest.raises(ImageError, match=r"slice: pixels \(300, 260\); allowed: those of the mask, \(3, 4\)"):
        prepare_mask(image, np.ones((3, 4), dtype=bool), prepare=params.prepare, where="slice")


def test_many_files_keep_their_order_and_all_bad_ones_are_told(params, tmp_path):
    paths = []
    for number in range(5):
        path = tmp_path / f"{number}.png"
        path.write_bytes(png(np.full((80, 60), number, dtype=np.uint8)))
        paths.append((path, "mri"))
    seen: list[tuple[int, int]] = []
    pixels = prepare_files(paths, params.prepare, workers=2, progress=lambda done, total: seen.append((done, total)))
    assert pixels[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert seen[-1] == (5, 5)
    paths[1][0].write_bytes(b"no image")
    (tmp_path / "4.png").unlink()
    with pytest.raises(ImageError, match=r"2 of 5 files cannot be used: .*1\.png.*4\.png"):
        prepare_files(paths, params.prepare, workers=1)
