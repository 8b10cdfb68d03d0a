// Steady: the same rate of small requests all the time, whether or not the answers keep up.
import { iteration, nonce, number, settings, text, users } from './common.js';

const rate = number('LOAD_RATE', 200);

export const options = settings(
  {
    executor: 'constant-arrival-rate',
    rate,
    duration: text('LOAD_DURATION', '30s'),
    ...users(rate),
  },
  500,
  { dropped_iterations: ['count==0'] },
);

export default iteration(nonce);
