"""Readers and writers of DICOM files."""
