// Upload: large bodies, each user as fast as the way to the back end allows.
//
// Every byte is compared at the far end.
import { iteration, number, pattern, settings, text, upload } from './common.js';

const body = pattern(number('LOAD_BYTES', 4 * 1024 * 1024));

export const options = settings(
  {
    executor: 'constant-vus',
    vus: number('LOAD_VUS', 4),
    duration: text('LOAD_DURATION', '20s'),
  },
  5000,
);

export default iteration(() => upload(body));
