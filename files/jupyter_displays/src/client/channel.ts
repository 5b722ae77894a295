/**
 * A WebSocket that is opened before the code that uses it is there: what comes meanwhile is kept.
 */
export class Channel {
  private socket: WebSocket;
  private kept: MessageEvent[] = [];
  private ended: CloseEvent | null = null;
  private listener: ((event: MessageEvent) => void) | null = null;
  private closeListener: ((event: CloseEvent) => void) | null = null;
  onopen: ((event: Event) => void) | null = null;
  onerror: ((event: Event) => void) | null = null;
  /** Before `onclose`, for whoever gave the channel away. */
  onended: ((event: CloseEvent) => void) | null = null;

  constructor(url: string) {
    this.socket = new WebSocket(url, 'binary');
    this.socket.binaryType = 'arraybuffer';
    this.socket.onopen = event => this.onopen?.(event);
    this.socket.onerror = event => this.onerror?.(event);
    this.socket.onmessage = event => (this.listener ? this.listener(event) : this.kept.push(event));
    this.socket.onclose = event => {
      this.ended = event;
      this.onended?.(event);
      this.closeListener?.(event);
    };
  }

  get onmessage(): ((event: MessageEvent) => void) | null {
    return this.listener;
  }

  set onmessage(listener: ((event: MessageEvent) => void) | null) {
    this.listener = listener;
    if (listener && this.kept.length) {
      // After the user has set all its listeners.
      queueMicrotask(() => this.kept.splice(0).forEach(listener));
    }
  }

  get onclose(): ((event: CloseEvent) => void) | null {
    return this.closeListener;
  }

  set onclose(listener: ((event: CloseEvent) => void) | null) {
    this.closeListener = listener;
    const ended = this.ended;
    if (listener && ended) {
      queueMicrotask(() => this.closeListener?.(ended));
    }
  }

  get binaryType(): BinaryType {
    return this.socket.binaryType;
  }

  set binaryType(type: BinaryType) {
    this.socket.binaryType = type;
  }

  get protocol(): string {
    return this.socket.protocol;
  }

  get readyState(): number {
    return this.socket.readyState;
  }

  send(data: Uint8Array<ArrayBuffer> | ArrayBuffer): void {
    this.socket.send(data);
  }

  close(code?: number, reason?: string): void {
    this.socket.close(code, reason);
  }
}
