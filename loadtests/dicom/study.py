"""Makes a DICOM study out of a seed: the same seed gives the same bytes, on every machine.

Two series: small single-frame images, and one multi-frame instance as large as asked. The pixels are the output of a
hash function, so that nothing on the way gains by compressing them and a lost or doubled byte cannot go unseen.
"""

import hashlib
from dataclasses import dataclass
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    SecondaryCaptureImageStorage,
    generate_uid,
)

# Explicit VR Little Endian is what a WADO-RS server answers with by default (PS3.18 section 8.7.3.5.2), so a server
# has no reason to transcode, and what comes back is comparable byte by byte.
TRANSFER_SYNTAX = ExplicitVRLittleEndian
SINGLE_FRAME_SIDE = 128
MULTI_FRAME_ROWS, MULTI_FRAME_COLUMNS = 512, 1024
BYTES_PER_PIXEL = 2
FRAME_BYTES = MULTI_FRAME_ROWS * MULTI_FRAME_COLUMNS * BYTES_PER_PIXEL  # 1 MiB


@dataclass(frozen=True)
class Instance:
    """One DICOM instance, as the data set a client handles and as the bytes it sends."""

    dataset: Dataset
    encoded: bytes

    @property
    def uid(self) -> str:
        return self.dataset.SOPInstanceUID

    @property
    def series(self) -> str:
        return self.dataset.SeriesInstanceUID

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.encoded).hexdigest()

    def frame(self, number: int) -> bytes:
        """The pixels of a frame; the first is 1, as in a WADO-RS URL."""
        size = self.dataset.Rows * self.dataset.Columns * BYTES_PER_PIXEL
        return self.dataset.PixelData[(number - 1) * size : number * size]

    @property
    def frames(self) -> int:
        return int(self.dataset.get("NumberOfFrames", 1))


@dataclass(frozen=True)
class Study:
    """A study of one patient."""

    uid: str
    patient_id: str
    small: list[Instance]
    large: Instance | None

    @property
    def instances(self) -> list[Instance]:
        return self.small + ([self.large] if self.large else [])


def make_study(seed: str, small: int, large_mib: int) -> Study:
    """Makes `small` single-frame instances and, unless `large_mib` is 0, one with that many frames of 1 MiB."""

    def instance(series: int, number: int, rows: int, columns: int, frames: int | None) -> Instance:
        dataset = _describe(seed, series, number)
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        if frames is not None:
            dataset.SOPClassUID = MultiFrameGrayscaleWordSecondaryCaptureImageStorage
            dataset.NumberOfFrames = frames
        dataset.Rows = rows
        dataset.Columns = columns
        size = rows * columns * (frames or 1) * BYTES_PER_PIXEL
        dataset.add_new("PixelData", "OW", hashlib.shake_128(f"{seed}/{series}/{number}".encode()).digest(size))
        encoded = encode(dataset)
        # Read back, so that the data set has all a file has (preamble, file meta) and is written the same way again.
        return Instance(pydicom.dcmread(BytesIO(encoded)), encoded)

    singles = [instance(1, number + 1, SINGLE_FRAME_SIDE, SINGLE_FRAME_SIDE, None) for number in range(small)]
    multi = instance(2, 1, MULTI_FRAME_ROWS, MULTI_FRAME_COLUMNS, large_mib) if large_mib else None
    first = (singles or [multi])[0].dataset
    return Study(first.StudyInstanceUID, first.PatientID, singles, multi)


def _describe(seed: str, series: int, number: int) -> Dataset:
    """Who, what and how, without the image."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = TRANSFER_SYNTAX
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPInstanceUID = generate_uid(entropy_srcs=[seed, "instance", str(series), str(number)])
    dataset.StudyDate = dataset.ContentDate = "20260801"
    dataset.StudyTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = "A1"
    dataset.Modality = "OT"
    dataset.ConversionType = "SYN"
    dataset.PatientName = "Müller^Zoë"
    dataset.PatientID = "P" + hashlib.sha256(seed.encode()).hexdigest()[:12].upper()
    dataset.PatientBirthDate = "19700101"
    dataset.PatientSex = "O"
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[seed, "study"])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[seed, "series", str(series)])
    dataset.StudyID = "1"
    dataset.SeriesNumber = series
    dataset.InstanceNumber = number
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 8 * BYTES_PER_PIXEL
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = 0
    return dataset


def encode(dataset: Dataset) -> bytes:
    """The DICOM file (PS3.10) of a data set."""
    with BytesIO() as file:
        pydicom.dcmwrite(file, dataset, enforce_file_format=True)
        return file.getvalue()
