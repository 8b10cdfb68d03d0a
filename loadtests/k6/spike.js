// Spike: ten times the clients from one second to the next, none of them connected before; then back.
//
// No request may fail at the spike's foot, on its top, or on the way down.
import { sleep } from 'k6';

import { iteration, nonce, number, settings, text } from './common.js';

const base = number('LOAD_VUS', 10);

export const options = settings(
  {
    executor: 'ramping-vus',
    startVUs: base,
    stages: [
      { target: base, duration: '5s' },
      { target: base * 10, duration: '1s' },
      { target: base * 10, duration: text('LOAD_DURATION', '10s') },
      { target: base, duration: '1s' },
      { target: base, duration: '5s' },
    ],
  },
  2000,
);

export default iteration(() => {
  nonce();
  sleep(0.25);
});
