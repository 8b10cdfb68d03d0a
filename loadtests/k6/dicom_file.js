// Makes DICOM files (PS3.10) of one small image each, and the multipart body that stores them (PS3.18 section 8.6.1.2).

const EXPLICIT_LITTLE_ENDIAN = '1.2.840.10008.1.2.1';
const SECONDARY_CAPTURE = '1.2.840.10008.5.1.4.1.1.7';
const IMPLEMENTATION = '2.25.80302813137786398554742050926734630921';
const LONG_VALUES = ['OB', 'OW'];

/// A unique identifier from a random number (PS3.5 annex B.2).
export function uid() {
  let digits = `${1 + Math.floor(Math.random() * 9)}`;
  while (digits.length < 36) {
    digits += `${Math.floor(Math.random() * 10)}`;
  }
  return `2.25.${digits}`;
}

function ascii(text) {
  return Uint8Array.from(text.split(''), (character) => character.charCodeAt(0));
}

function joined(pieces) {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return bytes;
}

function little(value, bytes) {
  return Uint8Array.from({ length: bytes }, (_, at) => (value >>> (8 * at)) & 0xff);
}

function valueOf(kind, value) {
  if (kind === 'US') return little(value, 2);
  if (kind === 'UL') return little(value, 4);
  return typeof value === 'string' ? ascii(value) : value;
}

/// One data element. Values have an even length: UIDs end in a NUL, other texts in a space (PS3.5 section 6.2).
function element(group, number, kind, value) {
  let bytes = valueOf(kind, value);
  if (bytes.length % 2 === 1) {
    bytes = joined([bytes, [kind === 'UI' || kind === 'OB' ? 0 : 32]]);
  }
  const length = LONG_VALUES.includes(kind) ? joined([[0, 0], little(bytes.length, 4)]) : little(bytes.length, 2);
  return joined([little(group, 2), little(number, 2), ascii(kind), length, bytes]);
}

/// The bytes of a square image with 16 bits a pixel.
export function file({ study, series, instance, patient }, side) {
  const pixels = new Uint8Array(side * side * 2).map((_, at) => at % 251);
  const meta = joined([
    element(0x0002, 0x0001, 'OB', Uint8Array.of(0, 1)),
    element(0x0002, 0x0002, 'UI', SECONDARY_CAPTURE),
    element(0x0002, 0x0003, 'UI', instance),
    element(0x0002, 0x0010, 'UI', EXPLICIT_LITTLE_ENDIAN),
    element(0x0002, 0x0012, 'UI', IMPLEMENTATION),
  ]);
  return joined([
    new Uint8Array(128),
    ascii('DICM'),
    element(0x0002, 0x0000, 'UL', meta.length),
    meta,
    element(0x0008, 0x0016, 'UI', SECONDARY_CAPTURE),
    element(0x0008, 0x0018, 'UI', instance),
    element(0x0008, 0x0060, 'CS', 'OT'),
    element(0x0010, 0x0010, 'PN', 'Load^Test'),
    element(0x0010, 0x0020, 'LO', patient),
    element(0x0020, 0x000d, 'UI', study),
    element(0x0020, 0x000e, 'UI', series),
    element(0x0020, 0x0013, 'IS', '1'),
    element(0x0028, 0x0002, 'US', 1),
    element(0x0028, 0x0004, 'CS', 'MONOCHROME2'),
    element(0x0028, 0x0010, 'US', side),
    element(0x0028, 0x0011, 'US', side),
    element(0x0028, 0x0100, 'US', 16),
    element(0x0028, 0x0101, 'US', 16),
    element(0x0028, 0x0102, 'US', 15),
    element(0x0028, 0x0103, 'US', 0),
    element(0x7fe0, 0x0010, 'OW', pixels),
  ]);
}

/// Body and Content-Type of a request that stores `file`.
export function storeRequest(file) {
  const boundary = 'postern-load';
  const head = `--${boundary}\r\nContent-Type: application/dicom\r\n\r\n`;
  return {
    body: joined([ascii(head), file, ascii(`\r\n--${boundary}--\r\n`)]).buffer,
    contentType: `multipart/related; type="application/dicom"; boundary=${boundary}`,
  };
}
