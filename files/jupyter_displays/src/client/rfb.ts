/**
 * A client for a display that speaks RFB (VNC): noVNC with the same face as the client for Xpra.
 */

import RFB from '@novnc/novnc';

import type { Channel } from './channel';
import type {
  ClientEvents,
  ClientFactory,
  ClientOptions,
  ClipboardContent,
  DisplayClient,
  KeyStroke
} from './types';

/**
 * By noVNC's connections: who is told of what the server announces on its clipboard. It is not asked for: TigerVNC drops
 * a text that it gets in pieces.
 */
const announced = new WeakMap<object, () => void>();
RFB.messages.extendedClipboardRequest = socket => announced.get(socket)?.();

class RfbClient implements DisplayClient {
  private rfb: RFB | null = null;
  private closed = { code: 1006, reason: '' };
  private copied: string | null = null;

  constructor(
    private screen: HTMLElement,
    private events: ClientEvents,
    private options: ClientOptions
  ) {}

  connect(channel: Channel): void {
    this.screen.replaceChildren();
    const rfb = new RFB(this.screen, this.watched(channel), { shared: true });
    this.rfb = rfb;
    rfb.background = 'transparent';
    rfb.scaleViewport = true;
    rfb.resizeSession = this.options.resizes;
    rfb.viewOnly = this.options.viewOnly;
    // Keys come from the viewer's own keyboard, so the canvas never has the focus.
    rfb.focusOnClick = false;
    this.sharpen(rfb);
    this.announce(rfb);
    rfb.addEventListener('disconnect', () => {
      if (this.rfb === rfb) {
        this.rfb = null;
        this.events.closed(this.closed.code, this.closed.reason);
      }
    });
    rfb.addEventListener('securityfailure', event => {
      this.closed.reason = String((event as CustomEvent<{ reason?: string }>).detail.reason ?? '');
    });
    rfb.addEventListener('bell', () => this.events.bell());
    rfb.addEventListener('connect', () => {
      if (this.copied !== null) {
        rfb.clipboardPasteFrom(this.copied);
      }
    });
    announced.set(rfb._sock, () => this.events.copied());
  }

  disconnect(): void {
    const rfb = this.rfb;
    this.rfb = null;
    rfb?.disconnect();
  }

  resize(): void {
    this.rfb?._requestRemoteResize();
  }

  key(stroke: KeyStroke): void {
    // The server itself finds the key and holds the modifiers that a character needs.
    this.rfb?.sendKey(stroke.keysym, null, stroke.pressed);
  }

  flush(): Promise<void> {
    return new Promise(resolve => setTimeout(resolve, 50));
  }

  offer(clip: ClipboardContent): void {
    if (clip.text !== undefined) {
      this.copied = clip.text;
      this.rfb?.clipboardPasteFrom(clip.text);
    }
  }

  /** The channel, with an eye on why it closes, which noVNC does not tell. */
  private watched(channel: Channel): Channel {
    channel.onended = event => {
      this.closed = { code: event.code, reason: event.reason };
    };
    return channel;
  }

  /** Ask for as many pixels as the monitor has; noVNC counts in CSS pixels. */
  private sharpen(rfb: RFB): void {
    const size = rfb._screenSize.bind(rfb);
    const request = rfb._requestRemoteResize.bind(rfb);
    rfb._requestRemoteResize = () => {
      rfb._screenSize = () => {
        const { w, h } = size();
        const ratio = window.devicePixelRatio || 1;
        return { w: Math.round(w * ratio), h: Math.round(h * ratio) };
      };
      try {
        request();
      } finally {
        rfb._screenSize = size;
      }
    };
  }

  /** Tell of the first picture, and of each change of size. */
  private announce(rfb: RFB): void {
    const display = rfb._display;
    const flip = display.flip.bind(display);
    let painted = false;
    let [width, height] = [0, 0];
    display.flip = fromQueue => {
      flip(fromQueue);
      if (!painted) {
        painted = true;
        this.events.painted();
      }
      if (width !== display.width || height !== display.height) {
        [width, height] = [display.width, display.height];
        this.events.resized(width, height);
      }
    };
  }
}

export const createClient: ClientFactory = (screen, events, options) =>
  new RfbClient(screen, events, options);
