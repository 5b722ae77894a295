/** The part of noVNC that is used, with some internals of the version that package.json pins. */
declare module '@novnc/novnc' {
  export default class RFB extends EventTarget {
    static messages: { extendedClipboardRequest(this: void, socket: object, formats: number[]): void };
    constructor(target: HTMLElement, channel: unknown, options?: { shared?: boolean });
    background: string;
    focusOnClick: boolean;
    qualityLevel: number;
    resizeSession: boolean;
    scaleViewport: boolean;
    viewOnly: boolean;
    clipboardPasteFrom(text: string): void;
    disconnect(): void;
    sendKey(keysym: number, code: string | null, pressed?: boolean): void;
    _sock: object;
    _screenSize(): { w: number; h: number };
    _requestRemoteResize(): void;
    _display: { width: number; height: number; flip(fromQueue?: boolean): void };
  }
}
