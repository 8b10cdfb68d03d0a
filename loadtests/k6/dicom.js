// DICOMweb: of ten requests, one stores an instance (STOW-RS), five search (QIDO-RS), four retrieve (WADO-RS).
//
// Against a real DICOM server what was stored must be found and come back byte for byte. The echo back end of
// `deploy/local/up` stores nothing: there it must show exactly what was sent, and retrieving takes as many bytes.
import { check } from 'k6';
import http from 'k6/http';

import { URL, iteration, number, settings, text, users } from './common.js';
import { file, storeRequest, uid } from './dicom_file.js';

const rate = number('LOAD_RATE', 40);
const side = number('LOAD_SIDE', 256);
const studies = `${URL}${text('LOAD_DICOM_ROOT', '/dicom-web')}/studies`;

export const options = settings(
  {
    executor: 'constant-arrival-rate',
    rate,
    duration: text('LOAD_DURATION', '30s'),
    ...users(rate),
  },
  2000,
  // Named so that the summary shows each kind by itself.
  Object.fromEntries(
    ['STOW-RS', 'QIDO-RS', 'WADO-RS'].map((kind) => [`http_req_duration{name:${kind}}`, ['p(99)<10000']]),
  ),
);

/// Which kind of back end answers.
export function setup() {
  const answer = http.get(`${studies}?limit=1`, { tags: { name: 'which back end' } });
  return { echoes: answer.headers['X-Backend'] === 'echo' };
}

// What this virtual user stored last.
let stored = null;

export default iteration(({ echoes }) => {
  const kind = Math.random();
  if (stored === null || kind < 0.1) {
    stored = store(echoes);
  } else if (kind < 0.6) {
    search(echoes);
  } else {
    retrieve(echoes);
  }
});

function store(echoes) {
  const names = { study: uid(), series: uid(), instance: uid(), patient: `LOAD-${__VU}` };
  const bytes = file(names, side);
  const { body, contentType } = storeRequest(bytes);
  const headers = { 'Content-Type': contentType, Accept: 'application/dicom+json' };
  const answer = http.post(studies, body, { headers, tags: { name: 'STOW-RS' } });
  const whole = echoes
    ? () => answer.json('body_bytes') === body.byteLength && answer.json('complete')
    : () => answer.body.includes(names.instance);
  check(answer, { 'stored whole': (it) => it.status === 200 && whole() });
  return { ...names, bytes };
}

function search(echoes) {
  const query = `StudyInstanceUID=${stored.study}&PatientID=${stored.patient}`;
  const answer = http.get(`${studies}?${query}`, {
    headers: { Accept: 'application/dicom+json' },
    tags: { name: 'QIDO-RS' },
  });
  const found = echoes
    ? () => answer.json('uri').endsWith(query)
    : () => answer.json().length === 1 && answer.body.includes(stored.study);
  check(answer, { 'found what was stored': (it) => it.status === 200 && found() });
}

function retrieve(echoes) {
  const instance = `${studies}/${stored.study}/series/${stored.series}/instances/${stored.instance}`;
  const answer = http.get(echoes ? `${URL}/generate/${stored.bytes.length}` : instance, {
    headers: { Accept: 'multipart/related; type="application/dicom"' },
    tags: { name: 'WADO-RS' },
    responseType: 'binary',
  });
  const whole = echoes
    ? () => answer.body.byteLength === stored.bytes.length
    : () => holds(new Uint8Array(answer.body), stored.bytes);
  check(answer, { 'retrieved whole': (it) => it.status === 200 && whole() });
}

/// Whether the multipart body `answer` has `file` as its first part.
function holds(answer, file) {
  let begin = 0;
  while (begin + 4 <= answer.length && String.fromCharCode(...answer.subarray(begin, begin + 4)) !== '\r\n\r\n') {
    begin += 1;
  }
  const part = answer.subarray(begin + 4, begin + 4 + file.length);
  return part.length === file.length && part.every((byte, at) => byte === file[at]);
}
