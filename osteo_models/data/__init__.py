"""From DICOM files and a clinical table to prepared images and splits."""
