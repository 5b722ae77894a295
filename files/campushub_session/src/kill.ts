/**
 * What there is to say about a kernel or a program that was killed for want of memory.
 */

import type { OutOfMemory } from './api';
import type { Format } from './format';
import type { Translations } from './translation';

export function headline(trans: Translations, { kernel_id, name }: OutOfMemory): string {
  if (kernel_id) {
    return trans.__('The kernel of %1 was ended because your memory was used up.', name || kernel_id);
  }
  return name
    ? trans.__('The program %1 was ended because your memory was used up.', name)
    : trans.__('A program was ended because your memory was used up.');
}

export function advice(
  trans: Translations,
  format: Format,
  { kernel_id, peak, limit }: OutOfMemory
): string[] {
  return [
    limit !== null && peak !== null
      ? trans.__('All that you run used up to %1 of %2.', format.bytes(peak), format.bytes(limit))
      : '',
    kernel_id ? trans.__('Its variables are lost; the notebook is not.') : '',
    trans.__(
      'Try to load less at a time, or shut down what you do not need: click on the bar at the top of the page.'
    )
  ].filter(Boolean);
}
