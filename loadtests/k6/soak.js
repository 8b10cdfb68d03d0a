// Soak: a moderate mix of small requests, uploads and downloads for as long as asked (LOAD_DURATION=8h).
//
// Watch what grows meanwhile: memory, open connections, file descriptors, latency. Credentials may rotate and routes change under it without one failed request.
import { download, iteration, nonce, number, pattern, settings, text, upload, users } from './common.js';

const rate = number('LOAD_RATE', 50);
const body = pattern(16 * 1024);

export const options = settings(
  {
    executor: 'constant-arrival-rate',
    rate,
    duration: text('LOAD_DURATION', '60s'),
    ...users(rate),
  },
  1000,
  { dropped_iterations: ['count==0'] },
);

export default iteration(() => {
  const kind = Math.random();
  if (kind < 0.8) {
    nonce();
  } else if (kind < 0.9) {
    upload(body);
  } else {
    download(65536);
  }
});
