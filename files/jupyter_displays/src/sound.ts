/**
 * The sound of a display: packets of Opus from a WebSocket, decoded and played by the browser.
 */

import type { Display } from './api';
import { icon, toolButton } from './dom';
import type { Translations } from './translation';

const RATE = 48_000;
/** The server is told of so many packets that have come. */
const ACKNOWLEDGED = 10;
/** Seconds by which sound is late when it begins: the server sends 50 ms at once, and the network may be uneven. */
const LATE = 0.1;
/** What would be later than this is left out. */
const TOO_LATE = 0.25;
const LONGEST_WAIT = 5_000;
/** The server says that there will be no more, and why. */
const OVER = [4403, 4404, 4410, 4503];

/** The displays that are to be heard, as long as this page is open. */
const audible = new Set<string>();

export class Sound {
  /** The button of the toolbar, there where sound can be had: a browser decodes it only if the page came by HTTPS. */
  readonly node: HTMLButtonElement;
  private url = '';
  /** The display that can be heard; its number may be given again. */
  private display = '';
  private context: AudioContext | null = null;
  private socket: WebSocket | null = null;
  private decoder: AudioDecoder | null = null;
  /** When what comes next is to be heard, in the seconds of the context. */
  private next = 0;
  private failures = 0;
  private retry = 0;

  /**
   * @param showStatus Tells the user what has happened.
   */
  constructor(
    private trans: Translations,
    private showStatus: (text: string) => void
  ) {
    // Browsers let no page be heard before the user has done something.
    this.node = toolButton('silence', trans.__('Sound'), () => this.toggle());
    this.node.hidden = true;
    this.show();
  }

  /** There is a display, or something new of it. */
  update(display: Display, url: string): void {
    const name = `${display.id} ${display.created}`;
    if (name !== this.display) {
      this.stop();
    }
    this.display = name;
    this.url = url;
    const over = display.state === 'ended' || display.state === 'failed';
    this.node.hidden = !display.sound || over || !('AudioDecoder' in window);
    if (!this.node.hidden && !this.context && audible.has(name)) {
      this.start();
    }
  }

  stop(): void {
    clearTimeout(this.retry);
    this.socket?.close();
    this.socket = null;
    void this.context?.close();
    this.context = null;
    this.release();
    this.show();
  }

  private start(): void {
    this.context = new AudioContext({ sampleRate: RATE, latencyHint: 'interactive' });
    this.connect();
    this.show();
  }

  private toggle(): void {
    this.showStatus('');
    if (this.context) {
      audible.delete(this.display);
      this.stop();
    } else {
      audible.add(this.display);
      this.start();
    }
  }

  /** It is over, though nobody has stopped it. */
  private end(reason: string): void {
    audible.delete(this.display);
    this.stop();
    this.showStatus(reason || this.trans.__('The sound has ended.'));
  }

  private show(): void {
    const on = this.context !== null;
    this.node.replaceChildren(icon(on ? 'sound' : 'silence'));
    this.node.title = on ? this.trans.__('Sound is on') : this.trans.__('Sound is off');
    this.node.setAttribute('aria-pressed', String(on));
  }

  private connect(): void {
    const decoder = new AudioDecoder({
      output: data => this.play(data),
      error: () => this.decoder === decoder && this.end('')
    });
    decoder.configure({ codec: 'opus', sampleRate: RATE, numberOfChannels: 2 });
    this.decoder = decoder;
    const socket = new WebSocket(this.url);
    socket.binaryType = 'arraybuffer';
    let packets = 0;
    socket.onmessage = ({ data }: MessageEvent<ArrayBuffer>) => {
      this.failures = 0;
      if (++packets % ACKNOWLEDGED === 0) {
        socket.send('');
      }
      if (decoder.state === 'configured') {
        decoder.decode(new EncodedAudioChunk({ type: 'key', timestamp: packets * 20_000, data }));
      }
    };
    socket.onclose = ({ code, reason }) => {
      if (this.socket !== socket) {
        return;
      }
      this.release();
      if (OVER.includes(code)) {
        this.end(reason);
      } else {
        const wait = Math.min(LONGEST_WAIT, 500 * 2 ** this.failures++);
        this.retry = window.setTimeout(() => this.connect(), wait);
      }
    };
    this.socket = socket;
  }

  private release(): void {
    const decoder = this.decoder;
    this.decoder = null;
    if (decoder && decoder.state !== 'closed') {
      decoder.close();
    }
  }

  private play(data: AudioData): void {
    const { context } = this;
    // After a pause it begins again.
    const at = context && this.next > context.currentTime ? this.next : (context?.currentTime ?? 0) + LATE;
    if (context?.state === 'running' && at < context.currentTime + TOO_LATE) {
      const buffer = context.createBuffer(data.numberOfChannels, data.numberOfFrames, data.sampleRate);
      for (let channel = 0; channel < data.numberOfChannels; channel++) {
        data.copyTo(buffer.getChannelData(channel), { planeIndex: channel, format: 'f32-planar' });
      }
      const source = context.createBufferSource();
      source.buffer = buffer;
      source.connect(context.destination);
      source.start(at);
      this.next = at + buffer.duration;
    }
    data.close();
  }
}
