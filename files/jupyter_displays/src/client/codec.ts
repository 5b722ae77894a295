/**
 * The wire formats of Xpra's packets: rencodeplus and LZ4.
 */

export type Value = number | boolean | null | string | Uint8Array | Value[] | { [key: string]: Value };
export type Dict = Record<string, Value>;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Text of a string that may have come as bytes. */
export function text(value: Value | undefined): string {
  if (value instanceof Uint8Array) {
    return decoder.decode(value);
  }
  return typeof value === 'object' ? '' : String(value ?? '');
}

/** Bytes of a string that may have come as text. */
export function bytes(value: Value | undefined): Uint8Array<ArrayBuffer> {
  return value instanceof Uint8Array ? (value as Uint8Array<ArrayBuffer>) : encoder.encode(text(value));
}

/** A buffer that grows. */
class Writer {
  private data = new Uint8Array(1024);
  private size = 0;

  private room(more: number): number {
    const start = this.size;
    this.size += more;
    if (this.size > this.data.length) {
      const larger = new Uint8Array(Math.max(this.size, this.data.length * 2));
      larger.set(this.data);
      this.data = larger;
    }
    return start;
  }

  byte(value: number): void {
    const start = this.room(1);
    this.data[start] = value;
  }

  put(value: Uint8Array): void {
    const start = this.room(value.length);
    this.data.set(value, start);
  }

  ascii(value: string): void {
    const start = this.room(value.length);
    for (let i = 0; i < value.length; i++) {
      this.data[start + i] = value.charCodeAt(i);
    }
  }

  view(size: number): DataView {
    const start = this.room(size);
    return new DataView(this.data.buffer, start, size);
  }

  result(): Uint8Array<ArrayBuffer> {
    return this.data.slice(0, this.size);
  }
}

/* rencodeplus: a type byte first; small numbers and short strings, lists and dicts are in the type byte itself. */
const LIST = 59;
const DICT = 60;
const INT = 61;
const INT1 = 62;
const INT2 = 63;
const INT4 = 64;
const INT8 = 65;
const FLOAT4 = 66;
const FLOAT8 = 44;
const TRUE = 67;
const FALSE = 68;
const NONE = 69;
const SLASH = 0x2f;
const END = 127;
/** Xpra reads no longer integers than of 63 characters. */
const LARGEST_INT = 1e62;

export function rencode(value: Value): Uint8Array<ArrayBuffer> {
  const out = new Writer();
  const write = (item: Value): void => {
    if (item === null) {
      out.byte(NONE);
    } else if (typeof item === 'boolean') {
      out.byte(item ? TRUE : FALSE);
    } else if (typeof item === 'number') {
      if (!Number.isInteger(item) || Math.abs(item) >= LARGEST_INT) {
        out.byte(FLOAT8);
        out.view(8).setFloat64(0, item);
      } else if (item >= 0 && item < 44) {
        out.byte(item);
      } else if (item < 0 && item >= -32) {
        out.byte(69 - item);
      } else if (item >= -128 && item < 128) {
        out.byte(INT1);
        out.view(1).setInt8(0, item);
      } else if (item >= -32768 && item < 32768) {
        out.byte(INT2);
        out.view(2).setInt16(0, item);
      } else if (item >= -2147483648 && item < 2147483648) {
        out.byte(INT4);
        out.view(4).setInt32(0, item);
      } else if (item >= -(2 ** 63) && item < 2 ** 63) {
        out.byte(INT8);
        out.view(8).setBigInt64(0, BigInt(item));
      } else {
        out.byte(INT);
        out.ascii(BigInt(item).toString());
        out.byte(END);
      }
    } else if (typeof item === 'string') {
      const data = bytes(item);
      if (data.length < 64) {
        out.byte(128 + data.length);
      } else {
        out.ascii(`${data.length}:`);
      }
      out.put(data);
    } else if (item instanceof Uint8Array) {
      out.ascii(`${item.length}/`);
      out.put(item);
    } else if (Array.isArray(item)) {
      if (item.length < 64) {
        out.byte(192 + item.length);
        item.forEach(write);
      } else {
        out.byte(LIST);
        item.forEach(write);
        out.byte(END);
      }
    } else {
      const entries = Object.entries(item);
      out.byte(entries.length < 25 ? 102 + entries.length : DICT);
      for (const [key, entry] of entries) {
        write(key);
        write(entry);
      }
      if (entries.length >= 25) {
        out.byte(END);
      }
    }
  };
  write(value);
  return out.result();
}

export function rdecode(data: Uint8Array): Value {
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  let at = 0;
  const take = (size: number): Uint8Array => {
    if (at + size > data.length) {
      throw new Error('cut off');
    }
    at += size;
    return data.subarray(at - size, at);
  };
  const list = (size: number): Value[] => {
    const items: Value[] = [];
    while (size < 0 ? data[at] !== END : items.length < size) {
      items.push(read());
    }
    if (size < 0) {
      at++;
    }
    return items;
  };
  const dict = (size: number): Dict => {
    const items: Dict = {};
    for (let n = 0; size < 0 ? data[at] !== END : n < size; n++) {
      const key = text(read());
      items[key] = read();
    }
    if (size < 0) {
      at++;
    }
    return items;
  };
  const read = (): Value => {
    if (at >= data.length) {
      throw new Error('cut off');
    }
    const type = data[at++];
    if (type >= 192) {
      return list(type - 192);
    }
    if (type >= 128) {
      return decoder.decode(take(type - 128));
    }
    if (type >= 102 && type < END) {
      return dict(type - 102);
    }
    if (type >= 0x30 && type <= 0x39) {
      // A long string: its size in digits, then ":" for text or "/" for bytes.
      const start = at - 1;
      while (data[at] >= 0x30 && data[at] <= 0x39) {
        at++;
      }
      const size = Number(decoder.decode(data.subarray(start, at)));
      const kind = data[at++];
      const content = take(size);
      return kind === SLASH ? content : decoder.decode(content);
    }
    if (type < 44) {
      return type;
    }
    if (type >= 70 && type < 102) {
      return 69 - type;
    }
    switch (type) {
      case LIST:
        return list(-1);
      case DICT:
        return dict(-1);
      case INT: {
        const end = data.indexOf(END, at);
        const value = Number(decoder.decode(data.subarray(at, end)));
        at = end + 1;
        return value;
      }
      case INT1:
        at += 1;
        return view.getInt8(at - 1);
      case INT2:
        at += 2;
        return view.getInt16(at - 2);
      case INT4:
        at += 4;
        return view.getInt32(at - 4);
      case INT8:
        at += 8;
        return Number(view.getBigInt64(at - 8));
      case FLOAT4:
        at += 4;
        return view.getFloat32(at - 4);
      case FLOAT8:
        at += 8;
        return view.getFloat64(at - 8);
      case TRUE:
        return true;
      case FALSE:
        return false;
      case NONE:
        return null;
    }
    throw new Error(`unknown type ${type}`);
  };
  return read();
}

/** One LZ4 block with its size before it, as Xpra sends it. */
export function lz4(data: Uint8Array): Uint8Array<ArrayBuffer> {
  const size = new DataView(data.buffer, data.byteOffset).getUint32(0, true);
  if (size > 256 * 1024 * 1024) {
    throw new Error('too large');
  }
  const out = new Uint8Array(size);
  let from = 4;
  let to = 0;
  const length = (start: number): number => {
    let sum = start;
    if (start === 15) {
      let more: number;
      do {
        more = data[from++];
        sum += more;
      } while (more === 255);
    }
    return sum;
  };
  while (from < data.length) {
    const token = data[from++];
    const literals = length(token >> 4);
    out.set(data.subarray(from, from + literals), to);
    from += literals;
    to += literals;
    if (from >= data.length) {
      break;
    }
    const distance = data[from] | (data[from + 1] << 8);
    from += 2;
    const end = to + length(token & 15) + 4;
    if (distance === 0 || distance > to || end > size) {
      throw new Error('not LZ4');
    }
    if (distance >= end - to) {
      out.copyWithin(to, to - distance, end - distance);
      to = end;
    } else {
      // Repeats itself: byte by byte.
      for (; to < end; to++) {
        out[to] = out[to - distance];
      }
    }
  }
  return out;
}

const HEADER = 8;
const RENCODEPLUS = 0x10;
const LZ4 = 0x10;

/** A packet with its header. */
export function pack(packet: Value[]): Uint8Array<ArrayBuffer> {
  const body = rencode(packet);
  const frame = new Uint8Array(HEADER + body.length);
  frame[0] = 0x50;
  frame[1] = RENCODEPLUS;
  new DataView(frame.buffer).setUint32(4, body.length);
  frame.set(body, HEADER);
  return frame;
}

/**
 * Cuts a stream of bytes into packets.
 *
 * Large parts of a packet (pictures) come before it in chunks of their own with their place in the packet.
 */
export class Unpacker {
  private waiting: Uint8Array[] = [];
  private have = 0;
  private need = HEADER;
  private parts = new Map<number, Uint8Array>();

  push(chunk: Uint8Array): Value[][] {
    this.waiting.push(chunk);
    this.have += chunk.length;
    if (this.have < this.need) {
      return [];
    }
    let data = chunk;
    if (this.waiting.length > 1) {
      data = new Uint8Array(this.have);
      let end = 0;
      for (const part of this.waiting) {
        data.set(part, end);
        end += part.length;
      }
    }
    this.need = HEADER;
    const packets: Value[][] = [];
    let at = 0;
    while (data.length - at >= HEADER) {
      if (data[at] !== 0x50) {
        throw new Error('not a packet of Xpra');
      }
      const size = new DataView(data.buffer, data.byteOffset + at).getUint32(4);
      if (data.length - at - HEADER < size) {
        this.need = HEADER + size;
        break;
      }
      const [flags, level, index] = [data[at + 1], data[at + 2], data[at + 3]];
      let body = data.subarray(at + HEADER, at + HEADER + size);
      at += HEADER + size;
      if (level) {
        if (!(level & LZ4)) {
          throw new Error('not LZ4');
        }
        body = lz4(body);
      }
      if (index) {
        this.parts.set(index, body);
        continue;
      }
      if (!(flags & RENCODEPLUS)) {
        throw new Error('not rencodeplus');
      }
      const packet = rdecode(body) as Value[];
      for (const [place, part] of this.parts) {
        packet[place] = part;
      }
      this.parts.clear();
      packets.push(packet);
    }
    this.waiting = at < data.length ? [data.subarray(at)] : [];
    this.have = data.length - at;
    return packets;
  }
}
