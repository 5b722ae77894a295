import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  Unpacker,
  type Value,
  bdecode,
  bencode,
  bytes,
  lz4,
  pack,
  rdecode,
  rencode,
  text
} from '../client/codec';

const ascii = (data: Uint8Array): string => new TextDecoder('latin1').decode(data);
const hex = (data: string): Uint8Array => new Uint8Array(Buffer.from(data, 'hex'));

void test('bencode writes what servers before version 6 read', () => {
  assert.equal(ascii(bencode(['ping', -3, true, 'é'])), 'l4:pingi-3ei1e2:Ã©e');
  assert.equal(ascii(bencode({ a: [], 'b.c': new Uint8Array([120]) })), 'd1:ale3:b.c1:xe');
});

void test('bencode reads back, with strings as bytes', () => {
  const packet = bdecode(
    bencode(['draw', 7, { zlib: 1, list: [1, [2]] }, new Uint8Array([0, 255])])
  ) as Value[];
  assert.equal(text(packet[0]), 'draw');
  assert.deepEqual(packet.slice(1), [7, { zlib: 1, list: [1, [2]] }, new Uint8Array([0, 255])]);
  assert.throws(() => bdecode(bytes('l4:pin')));
  assert.throws(() => bdecode(bytes('l')));
});

// As the rencode of Debian 12 writes it, but for bytes, which only rencodeplus has.
void test('rencodeplus writes the same bytes as the server', () => {
  assert.deepEqual(rencode(['hello', 1, -1, 43, 44, -32, -33]), hex('c78568656c6c6f01462b3e2c653edf'));
  assert.deepEqual(rencode([true, false, null]), hex('c3434445'));
  assert.deepEqual(rencode({ x: 70000, y: 300 }), hex('688178400001117081793f012c'));
  assert.deepEqual(rencode(new Uint8Array([1, 2])), hex('322f0102'));
});

void test('rencodeplus reads back everything', () => {
  const values: Value[] = [
    0,
    43,
    44,
    127,
    128,
    -32,
    -33,
    -129,
    32768,
    -32769,
    2147483648,
    -2147483649,
    0.5,
    true,
    false,
    null,
    '',
    'Привет',
    'x'.repeat(63),
    'я'.repeat(200),
    new Uint8Array([47, 58, 127]),
    Array.from({ length: 100 }, (_, index) => index),
    Object.fromEntries(Array.from({ length: 30 }, (_, index) => [`key${index}`, [index]])),
    [[[]]],
    {}
  ];
  assert.deepEqual(rdecode(rencode(values)), values);
  assert.throws(() => rdecode(hex('c285')));
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
  const stream = Buffer.concat([pack(['ping', 1], 'bencode'), part, pack(['draw', 1, ''], 'rencodeplus')]);
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
