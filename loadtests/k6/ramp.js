// Ramp: from a tenth of the rate to all of it in steps, and down again.
import { iteration, nonce, number, settings, text, users } from './common.js';

const rate = number('LOAD_RATE', 400);
const step = text('LOAD_STEP', '5s');

export const options = settings(
  {
    executor: 'ramping-arrival-rate',
    startRate: Math.ceil(rate / 10),
    stages: [0.25, 0.5, 0.75, 1, 1, 0.1].map((part) => ({ target: Math.ceil(rate * part), duration: step })),
    ...users(rate),
  },
  1000,
);

export default iteration(nonce);
