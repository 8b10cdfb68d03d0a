// What all scripts share: where to send requests, how to tell a right answer, and what must hold in the end.
//
// Every option is an environment variable; `deploy/local/load --help` lists them.
import { check } from 'k6';
import http from 'k6/http';

/// An option that is a text.
export function text(name, fallback) {
  return __ENV[name] || fallback;
}

/// An option that is a number above zero.
export function number(name, fallback) {
  const value = Number(text(name, fallback));
  if (!(value > 0)) {
    throw new Error(`${name} is "${__ENV[name]}", not a number above zero`);
  }
  return value;
}

const HOST = text('LOAD_HOST', 'hospital-a.dicom.example');

/// The root of all requests. By default a public name that only the Private Link Service's stand-in leads to.
export const URL = text('LOAD_URL', `https://${HOST}`);

/// The options of a run of one scenario. It fails if one request did, if one answer was not the right one, or if one
/// request in a hundred took `p99` milliseconds or more.
export function settings(scenario, p99, thresholds = {}) {
  return {
    // A private endpoint gives the public name a private address by DNS; here, this line does.
    hosts: { [`${HOST}:443`]: text('LOAD_ADDRESS', '127.0.0.1:8443') },
    noConnectionReuse: text('LOAD_RECONNECT', '') === '1',
    summaryTrendStats: ['avg', 'p(50)', 'p(90)', 'p(99)', 'max'],
    scenarios: { [scenario.executor]: scenario },
    thresholds: {
      http_req_failed: ['rate==0'],
      checks: ['rate==1'],
      http_req_duration: [`p(99)<${number('LOAD_P99_MS', p99)}`],
      ...thresholds,
    },
  };
}

/// `run` as an iteration. What it throws counts as an answer that was not the right one; k6 would only log it.
export function iteration(run) {
  return (data) => {
    try {
      run(data);
    } catch (error) {
      console.error(error);
      check(null, { 'the script went through': () => false });
    }
  };
}

/// Virtual users for `rate` requests a second: all of them may take a second before one request is late.
export function users(rate) {
  return { preAllocatedVUs: rate, maxVUs: 4 * rate };
}

/// One small request whose answer no other request can have.
export function nonce() {
  const own = `${__VU}-${__ITER}-${Math.floor(Math.random() * 1e9)}`;
  const answer = http.get(`${URL}/nonce/${own}`, { tags: { name: '/nonce' } });
  check(answer, { 'the answer belongs to this request': (it) => it.status === 200 && it.body === own });
}

/// Bytes of which no two neighbours are equal, with a period that no buffer size divides: a lost, doubled or swapped
/// piece shows. The back end knows the pattern, too.
export function pattern(length) {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length; at += 1) {
    bytes[at] = at % 251;
  }
  return bytes.buffer;
}

/// Sends `body` (a pattern) to a back end that counts and compares what arrives.
export function upload(body) {
  const answer = http.post(`${URL}/sink`, body, { tags: { name: '/sink' } });
  check(answer, {
    'every byte arrived, in order': (it) =>
      it.status === 200 && it.json('bytes') === body.byteLength && it.json('complete') && it.json('pattern'),
  });
}

/// Retrieves `length` bytes (a pattern) from the ingress.
export function download(length) {
  const answer = http.get(`${URL}/bytes/${length}`, { tags: { name: '/bytes' }, responseType: 'binary' });
  check(answer, { 'the answer is whole': (it) => it.status === 200 && it.body.byteLength === length });
}
