/**
 * Amounts as people read them.
 */

import type { Amount } from './api';
import type { Translations } from './translation';

export type Level = '' | 'warning' | 'critical';

const GIGABYTE = 2 ** 30;
const MEGABYTE = 2 ** 20;
const WARNING = 0.8;
const CRITICAL = 0.95;
/** Seconds before the end of the server. */
const ENDS_SOON = 30 * 60;
const ENDS_AT_ONCE = 10 * 60;

export class Format {
  constructor(
    private readonly trans: Translations,
    private readonly language: string
  ) {}

  number(value: number, digits = 1): string {
    return new Intl.NumberFormat(this.language, { maximumFractionDigits: digits }).format(value);
  }

  bytes(bytes: number): string {
    return bytes < GIGABYTE
      ? this.trans.__('%1 MB', this.number(bytes / MEGABYTE, 0))
      : this.trans.__('%1 GB', this.number(bytes / GIGABYTE));
  }

  memory({ used, limit }: Amount): string {
    return limit === null ? this.bytes(used) : this.trans.__('%1 of %2', this.bytes(used), this.bytes(limit));
  }

  cpu({ used, limit }: Amount): string {
    return limit === null
      ? this.number(used)
      : this.trans.__('%1 of %2', this.number(used), this.number(limit));
  }

  count({ used, limit }: Amount): string {
    return this.trans.__('%1 of %2', this.number(used, 0), this.number(limit ?? used, 0));
  }

  percent({ used, limit }: Amount): string {
    return new Intl.NumberFormat(this.language, { style: 'percent' }).format(limit ? used / limit : 1);
  }

  duration(seconds: number): string {
    const minutes = Math.max(0, Math.round(seconds / 60));
    const [hours, rest] = [Math.floor(minutes / 60), minutes % 60];
    return hours ? this.trans.__('%1 h %2 min', hours, rest) : this.trans.__('%1 min', rest);
  }
}

export function level(amount: Amount): Level {
  const share = amount.limit === null ? 0 : amount.limit ? amount.used / amount.limit : 1;
  return share >= CRITICAL ? 'critical' : share >= WARNING ? 'warning' : '';
}

export function levelOfTime(seconds: number): Level {
  return seconds <= ENDS_AT_ONCE ? 'critical' : seconds <= ENDS_SOON ? 'warning' : '';
}
