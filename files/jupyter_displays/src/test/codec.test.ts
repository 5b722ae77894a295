import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { test } from 'node:test';

import { Unpacker, type Value, bytes, lz4, pack, rdecode, rencode, text } from '../client/codec';

const ascii = (data: Uint8Array): string => new TextDecoder('latin1').decode(data);
const hex = (data: string): Uint8Array => new Uint8Array(Buffer.from(data, 'hex'));

interface Recorded {
  xpra: string;
  values: { value: Value; wire: string }[];
}

/** What Xpra's own code has written, see tests/record_xpra.py. */
const RECORDED = readdirSync('tests/xpra')
  .filter(name => name.endsWith('.json'))
  .map(name => JSON.parse(readFileSync(`tests/xpra/${name}`, 'utf8')) as Recorded);

/** The value that is meant. */
function plain(value: Value): Value {
  if (Array.isArray(value)) {
    return value.map(plain);
  }
  if (value && typeof value === 'object') {
    const { bytes: data, int } = value as { bytes?: string; int?: string };
    if (data !== undefined) {
      return hex(data);
    }
    return int !== undefined
      ? Number(int)
      : Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  }
  return value;
}

/** Whether a number of this language is the integer that is meant. */
function isExact(value: Value): boolean {
  const { int } = (value ?? {}) as { int?: string };
  return int === undefined || BigInt(Number(int)) === BigInt(int);
}

for (const { xpra, values } of RECORDED) {
  void test(`what Xpra ${xpra} wrote is read`, () => {
    for (const { value, wire } of values) {
      assert.deepEqual(rdecode(hex(wire)), plain(value));
    }
  });

  void test(`what Xpra ${xpra} wrote is written alike`, () => {
    for (const { value, wire } of values.filter(entry => isExact(entry.value))) {
      assert.equal(Buffer.from(rencode(plain(value))).toString('hex'), wire, JSON.stringify(value));
    }
  });
}

void test('what is cut off is an error', () => {
  for (const wire of ['', 'c285', '3e', '35', '353a61', '3c816101']) {
    assert.throws(() => rdecode(hex(wire)), wire);
  }
});

void test('LZ4 blocks, with copies that overlap', () => {
  // "abc", then 20 bytes from 3 back, then "!".
  assert.equal(
    ascii(lz4(hex('18000000' + '3f616263' + '0300' + '01' + '1021'))),
    `${'abc'.repeat(8).slice(0, 23)}!`
  );
  assert.throws(() => lz4(hex('08000000' + '10ff' + '0500')));
});

void test('packets are found in any cut of the stream', () => {
  const image = new Uint8Array(3000).map((_, index) => index);
  const part = new Uint8Array(8 + image.length);
  part.set([0x50, 0, 0, 2]);
  new DataView(part.buffer).setUint32(4, image.length);
  part.set(image, 8);
  const stream = Buffer.concat([pack(['ping', 1]), part, pack(['draw', 1, ''])]);
  for (const size of [1, 7, 8, 9, 100, 3015, 10_000]) {
    const unpacker = new Unpacker();
    const packets: Value[][] = [];
    for (let at = 0; at < stream.length; at += size) {
      packets.push(...unpacker.push(new Uint8Array(stream.subarray(at, at + size))));
    }
    assert.deepEqual(
      packets.map(packet => text(packet[0])),
      ['ping', 'draw'],
      `pieces of ${size}`
    );
    assert.deepEqual(packets[1][2], image);
  }
  assert.throws(() => new Unpacker().push(bytes('HTTP/1.1 400 Bad')));
});
