/**
 * A client for a desktop that Xpra serves: the desktop is one window of it, which fills the screen.
 */

import type { Channel } from './channel';
import { type Dict, Unpacker, type Value, bytes, lz4, pack, text } from './codec';
import type {
  ClientEvents,
  ClientFactory,
  ClientOptions,
  ClipboardContent,
  DisplayClient,
  KeyStroke,
  Modifier
} from './types';

const MODIFIERS: Record<Modifier, string> = {
  shift: 'shift',
  control: 'control',
  alt: 'mod1',
  meta: 'mod4',
  altgr: 'mod5'
};
const TEXT = 'UTF8_STRING';
const TEXT_TARGETS = [TEXT, 'TEXT', 'STRING', 'text/plain', 'text/plain;charset=utf-8'];
const PNG = 'image/png';
const ENCODINGS = ['webp', 'jpeg', 'png', 'rgb24', 'rgb32', 'scroll', 'void'];
const SELECTIONS = ['CLIPBOARD', 'PRIMARY'];
/** The display's own keymap stands in the place of the layout `us`, so that the server keeps it. */
const KEYBOARD = { layout: 'us', raw: true, layout_groups: true, sync: true };
const PING_INTERVAL_MS = 5_000;
const PING_TIMEOUT_MS = 12_000;
const WHEEL_STEP = 100;
/** What a viewer does not get. */
const INPUT: Dict = {
  keyboard: true,
  // The server takes a key for released that it heard nothing of for so long. Keys are repeated by the page.
  key_repeat: [60_000, 30],
  pointer: { enabled: true },
  clipboard: {
    enabled: true,
    selections: SELECTIONS,
    // To be told what there is, and not what it says: the server asks for that twice at once.
    greedy: false,
    want_targets: true,
    'preferred-targets': [...TEXT_TARGETS, PNG]
  }
};
/** Of a pointer that is no particular one, events have no sequence. */
const ANY_DEVICE = -1;

class XpraClient implements DisplayClient {
  private channel: Channel | null = null;
  private unpacker = new Unpacker();
  private windowId = 0;
  private hasPainted = false;
  private decoding: Promise<void> = Promise.resolve();
  private waitingToPaint = 0;
  private canvas = document.createElement('canvas');
  private context: CanvasRenderingContext2D;
  private listeners = new AbortController();
  private heartbeat = 0;
  private lastHeard = 0;
  private wheel = { x: 0, y: 0 };
  private clip: ClipboardContent | null = null;
  private requests = new Map<number, () => void>();
  private requestId = 0;
  private motion: { x: number; y: number; event: PointerEvent } | null = null;

  constructor(
    private screen: HTMLElement,
    private events: ClientEvents,
    private options: ClientOptions
  ) {
    this.canvas.width = options.width;
    this.canvas.height = options.height;
    this.context = this.canvas.getContext('2d', { alpha: false, desynchronized: true })!;
    screen.replaceChildren(this.canvas);
    if (!options.viewOnly) {
      this.listen();
    }
  }

  connect(channel: Channel): void {
    this.channel = channel;
    channel.onmessage = event => {
      this.lastHeard = performance.now();
      try {
        this.unpacker.push(new Uint8Array(event.data as ArrayBuffer)).forEach(packet => this.handle(packet));
      } catch (error) {
        this.end(4000, String(error));
      }
    };
    channel.onclose = event => this.end(event.code, event.reason);
    const hello = (): void => this.send('hello', this.hello());
    if (channel.readyState === WebSocket.OPEN) {
      hello();
    } else {
      channel.onopen = hello;
    }
  }

  disconnect(): void {
    this.listeners.abort();
    clearInterval(this.heartbeat);
    const channel = this.channel;
    this.channel = null;
    if (channel) {
      channel.onmessage = channel.onclose = null;
      channel.close();
    }
  }

  resize(): void {
    // The server of the page gives the X screen its size, and Xpra tells of it; here it only has to fit.
    const { canvas, screen } = this;
    const ratio = window.devicePixelRatio || 1;
    const fit = Math.min(
      (screen.clientWidth * ratio) / canvas.width,
      (screen.clientHeight * ratio) / canvas.height
    );
    // Never a pixel larger than a pixel, but for somebody who looks at another one's display.
    const scale = Math.min(this.options.resizes ? 1 : ratio, fit) / ratio;
    canvas.style.width = `${canvas.width * scale}px`;
    canvas.style.height = `${canvas.height * scale}px`;
  }

  key(stroke: KeyStroke): void {
    const send = (pressed: boolean): void =>
      this.send('keyboard-event', this.windowId, stroke.name, pressed, {
        modifiers: [...stroke.modifiers].map(modifier => MODIFIERS[modifier]),
        keyval: stroke.keysym,
        keycode: stroke.keycode,
        group: 0
      });
    if (stroke.repeat) {
      send(false);
    }
    send(stroke.pressed);
  }

  flush(): Promise<void> {
    // A kind of content that no server passes on: refused in the same queue in which keys are worked off.
    return new Promise(resolve => {
      const id = ++this.requestId;
      this.requests.set(id, resolve);
      setTimeout(resolve, 500);
      this.send('clipboard-request', id, 'CLIPBOARD', 'x-special/settled');
    });
  }

  offer(clip: ClipboardContent): void {
    this.clip = clip;
    const token = (targets: string[], data: Uint8Array): void => {
      // The middle button and Shift+Insert of terminals paste the primary selection.
      for (const selection of SELECTIONS) {
        const content = [targets[0], targets[0], 8, 'bytes', data];
        this.send('clipboard-token', selection, targets, ...content, true, false, true);
      }
    };
    if (clip.image) {
      void clip.image.arrayBuffer().then(data => token([PNG], new Uint8Array(data)));
    } else {
      token(TEXT_TARGETS, bytes(clip.text));
    }
  }

  private end(code: number, reason: string): void {
    if (this.channel) {
      this.disconnect();
      this.events.closed(code, reason);
    }
  }

  private send(...packet: Value[]): void {
    if (this.channel?.readyState === WebSocket.OPEN) {
      this.channel.send(pack(packet));
    }
  }

  /** The server gives a connection only those parts that are asked for here. */
  private hello(): Dict {
    return {
      version: '6.5',
      client_type: 'displays',
      uuid: Array.from(crypto.getRandomValues(new Uint8Array(16)), byte =>
        byte.toString(16).padStart(2, '0')
      ).join(''),
      share: true,
      // How packets look.
      rencodeplus: true,
      lz4: true,
      compressors: ['lz4'],
      compression_level: 1,
      // Whether the other side is there.
      ping: true,
      'ping-echo-sourceid': true,
      // Pictures.
      windows: true,
      window: { enabled: true },
      display: { 'resize-events': true, 'refresh-rate': 60 },
      encodings: ENCODINGS,
      encoding: {
        options: ENCODINGS,
        core: ENCODINGS,
        rgb_formats: ['RGBX', 'RGBA', 'RGB'],
        rgb_lz4: true,
        transparency: false,
        scrolling: true,
        'min-quality': 80,
        'min-speed': 50,
        // Up to forty pictures a second. It waits for the page's word on what it has sent before in any case.
        batch: { delay: 10, min_delay: 15, max_delay: 25 }
      },
      auto_refresh_delay: 250,
      vrefresh: 60,
      cursor: { encodings: ['png'], 'backwards-compatible': false },
      bell: true,
      ...(this.options.viewOnly ? {} : INPUT)
    };
  }

  private handle(packet: Value[]): void {
    switch (text(packet[0])) {
      case 'hello':
        this.heartbeat = window.setInterval(() => this.beat(), PING_INTERVAL_MS);
        if (!this.options.viewOnly) {
          this.send('keyboard-config', KEYBOARD);
        }
        if (this.clip && !this.options.viewOnly) {
          this.offer(this.clip);
        }
        break;
      case 'new-window':
        this.windowId = Number(packet[1]);
        this.setSize(Number(packet[4]), Number(packet[5]));
        this.send('window-map', this.windowId, 0, 0, this.canvas.width, this.canvas.height);
        if (!this.options.viewOnly) {
          this.send('window-focus', this.windowId, []);
        }
        break;
      case 'window-resized':
        this.paintInOrder(() => this.setSize(Number(packet[2]), Number(packet[3])));
        break;
      case 'window-move-resize':
        this.paintInOrder(() => this.setSize(Number(packet[4]), Number(packet[5])));
        break;
      case 'draw':
        this.draw(packet);
        break;
      case 'ping':
        this.send('ping_echo', packet[1], 0, 0, 0, 0);
        break;
      case 'cursor-data':
      case 'cursor-default':
        this.setCursor(packet);
        break;
      case 'bell':
        this.events.bell();
        break;
      case 'clipboard-token':
        if (text(packet[1]) === SELECTIONS[0]) {
          const targets = Array.isArray(packet[2]) ? packet[2].map(text) : [];
          if ([...TEXT_TARGETS, PNG].some(target => targets.includes(target))) {
            this.events.copied();
          }
        }
        break;
      case 'clipboard-request':
        void this.answerRequest(packet[1], text(packet[2]), text(packet[3]));
        break;
      case 'clipboard-contents-none':
        this.finish(packet[1]);
        break;
      case 'disconnect':
        this.end(4001, packet.slice(1).map(text).join(', '));
        break;
    }
  }

  private beat(): void {
    if (performance.now() - this.lastHeard > PING_TIMEOUT_MS) {
      this.end(4002, '');
    } else {
      this.send('ping', Math.round(performance.now()));
    }
  }

  // Pictures

  private setSize(width: number, height: number): void {
    if (width > 0 && height > 0 && (this.canvas.width !== width || this.canvas.height !== height)) {
      // What is there stays until the new picture comes.
      const old = this.hasPainted
        ? this.context.getImageData(0, 0, this.canvas.width, this.canvas.height)
        : null;
      this.canvas.width = width;
      this.canvas.height = height;
      if (old) {
        this.context.putImageData(old, 0, 0);
      }
    }
    this.resize();
    this.events.resized(width, height);
  }

  /** Paints happen in the order of the packets, though pictures are decoded side by side. */
  private paintInOrder(paint: () => void, ready?: Promise<void>): void {
    if (!ready && this.waitingToPaint === 0) {
      paint();
      return;
    }
    this.waitingToPaint++;
    this.decoding = this.decoding
      .then(() => ready)
      .then(paint)
      .catch(() => undefined)
      .finally(() => this.waitingToPaint--);
  }

  private draw(packet: Value[]): void {
    const started = performance.now();
    const [, windowId, x, y, width, height] = packet.map(Number);
    const coding = text(packet[6]);
    const sequence = packet[8];
    const options = (packet[10] ?? {}) as Dict;
    const done = (error = ''): void => {
      const time = error ? -1 : Math.max(1, Math.round((performance.now() - started) * 1000));
      this.send('window-draw-ack', sequence, windowId, width, height, time, error);
      if (!error && !this.hasPainted) {
        this.hasPainted = true;
        this.events.painted();
      }
    };
    if (coding === 'png' || coding === 'jpeg' || coding === 'webp' || coding.startsWith('png/')) {
      const type = `image/${coding.split('/')[0]}`;
      let picture: ImageBitmap | undefined;
      const ready = createImageBitmap(new Blob([bytes(packet[7])], { type })).then(
        bitmap => {
          picture = bitmap;
        },
        error => done(String(error))
      );
      this.paintInOrder(() => {
        if (picture) {
          this.context.drawImage(picture, x, y, width, height);
          picture.close();
          done();
        }
      }, ready);
    } else if (coding.startsWith('rgb')) {
      const image = pixels(bytes(packet[7]), width, height, Number(packet[9]), options);
      this.paintInOrder(() => {
        this.context.putImageData(image, x, y);
        done();
      });
    } else if (coding === 'scroll') {
      this.paintInOrder(() => {
        for (const [fromX, fromY, w, h, dx, dy] of packet[7] as number[][]) {
          this.context.drawImage(this.canvas, fromX, fromY, w, h, fromX + dx, fromY + dy, w, h);
        }
        done();
      });
    } else {
      this.paintInOrder(() => done(coding === 'void' ? '' : `${coding} is unknown`));
    }
  }

  private setCursor(packet: Value[]): void {
    const [, encoding, , , x, y, , pixel] = packet;
    if (encoding !== 'png' || !pixel) {
      this.canvas.style.cursor = 'default';
      return;
    }
    const data = btoa(String.fromCharCode(...bytes(pixel)));
    const ratio = window.devicePixelRatio || 1;
    const spot = `${Math.round(Number(x) / ratio)} ${Math.round(Number(y) / ratio)}`;
    this.canvas.style.cursor = `image-set(url(data:image/png;base64,${data}) ${ratio}x) ${spot}, default`;
  }

  // Pointer

  private listen(): void {
    const { canvas } = this;
    const signal = this.listeners.signal;
    const button = (event: PointerEvent, pressed: boolean): void => {
      event.preventDefault();
      this.flushMotion();
      // The browser counts left, middle, right, back, forward.
      const number = [1, 2, 3, 8, 9][event.button];
      if (number) {
        this.button(event, number, pressed);
      }
    };
    canvas.addEventListener(
      'pointerdown',
      event => {
        canvas.setPointerCapture(event.pointerId);
        button(event, true);
      },
      { signal }
    );
    canvas.addEventListener('pointerup', event => button(event, false), { signal });
    canvas.addEventListener(
      'pointermove',
      event => {
        // Buttons that change while another is held come as moves.
        if (event.button >= 0) {
          button(event, Boolean(event.buttons & [1, 4, 2, 8, 16][event.button]));
          return;
        }
        const [x, y] = this.position(event);
        const planned = this.motion !== null;
        this.motion = { x, y, event };
        if (!planned) {
          requestAnimationFrame(() => this.flushMotion());
        }
      },
      { signal }
    );
    canvas.addEventListener('contextmenu', event => event.preventDefault(), { signal });
    canvas.addEventListener('wheel', event => this.turnWheel(event), { signal, passive: false });
  }

  private flushMotion(): void {
    const motion = this.motion;
    this.motion = null;
    if (motion) {
      const where = [ANY_DEVICE, 0, this.windowId, [motion.x, motion.y]];
      this.send('pointer-motion', ...where, { modifiers: modifiersOf(motion.event) });
    }
  }

  private button(event: MouseEvent, number: number, pressed: boolean): void {
    const what = [ANY_DEVICE, 0, this.windowId, number, pressed, this.position(event)];
    this.send('pointer-button', ...what, { modifiers: modifiersOf(event) });
  }

  private position(event: MouseEvent): [number, number] {
    const box = this.canvas.getBoundingClientRect();
    const inside = (value: number, size: number): number =>
      Math.max(0, Math.min(size - 1, Math.floor(value)));
    return [
      inside(((event.clientX - box.left) * this.canvas.width) / box.width, this.canvas.width),
      inside(((event.clientY - box.top) * this.canvas.height) / box.height, this.canvas.height)
    ];
  }

  private turnWheel(event: WheelEvent): void {
    event.preventDefault();
    const unit = event.deltaMode === WheelEvent.DOM_DELTA_PIXEL ? 1 : WHEEL_STEP / 3;
    const steps = (total: number, minus: number, plus: number): number => {
      for (; Math.abs(total) >= WHEEL_STEP; total -= Math.sign(total) * WHEEL_STEP) {
        for (const pressed of [true, false]) {
          const number = total < 0 ? minus : plus;
          this.button(event, number, pressed);
        }
      }
      return total;
    };
    this.wheel.x = steps(this.wheel.x + event.deltaX * unit, 6, 7);
    this.wheel.y = steps(this.wheel.y + event.deltaY * unit, 4, 5);
  }

  // Clipboard

  private async answerRequest(id: Value, selection: string, target: string): Promise<void> {
    const clip = this.clip;
    if (clip?.image && target === PNG) {
      const data = new Uint8Array(await clip.image.arrayBuffer());
      this.send('clipboard-contents', id, selection, PNG, 8, 'bytes', data);
    } else if (clip?.text !== undefined && TEXT_TARGETS.includes(target)) {
      this.send('clipboard-contents', id, selection, TEXT, 8, 'bytes', bytes(clip.text));
    } else {
      this.send('clipboard-contents-none', id, selection);
    }
  }

  private finish(id: Value): void {
    this.requests.get(Number(id))?.();
    this.requests.delete(Number(id));
  }
}

/** The modifiers that X must see with an event of the pointer. */
function modifiersOf(event: MouseEvent): string[] {
  const graph = event.getModifierState('AltGraph');
  const names: string[] = [];
  if (event.shiftKey) {
    names.push('shift');
  }
  if (event.ctrlKey && !graph) {
    names.push('control');
  }
  if (event.altKey && !graph) {
    names.push('mod1');
  }
  if (event.metaKey) {
    names.push('mod4');
  }
  return names;
}

/** A picture that came as bare pixels. */
function pixels(packed: Uint8Array, width: number, height: number, stride: number, options: Dict): ImageData {
  const data = options.lz4 ? lz4(packed) : packed;
  const size = text(options.rgb_format).length === 3 ? 3 : 4;
  const image = new ImageData(width, height);
  const out = image.data;
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0, from = y * stride; x < width; x++, from += size, to += 4) {
      out[to] = data[from];
      out[to + 1] = data[from + 1];
      out[to + 2] = data[from + 2];
      out[to + 3] = 255;
    }
  }
  return image;
}

export const createClient: ClientFactory = (screen, events, options) =>
  new XpraClient(screen, events, options);
