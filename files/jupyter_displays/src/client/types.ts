/**
 * What the viewer knows of a display's screen: one interface, whatever protocol is behind it.
 */

import type { Channel } from './channel';

/** Shift, Control, Alt, Super (the Windows or Command key) and AltGr. */
export type Modifier = 'shift' | 'control' | 'alt' | 'meta' | 'altgr';

/** One key going down or up. */
export interface KeyStroke {
  pressed: boolean;
  /** The X key, as the display's keymap has it. */
  keycode: number;
  /** What the key means, as X numbers it. */
  keysym: number;
  /** The name of a key that makes no character. */
  name: string;
  /** What must be held while the key goes down; nothing else may be. */
  modifiers: ReadonlySet<Modifier>;
  /** The key is one of the modifiers itself. */
  isModifier: boolean;
  /** The user's keyboard repeats the key, which is down already. */
  repeat: boolean;
}

/** A clipboard's content: text or a PNG image. */
export type ClipboardContent = { text: string; image?: undefined } | { image: Blob; text?: undefined };

export interface ClientEvents {
  /** The first picture is on the screen. */
  painted(): void;
  /** The screen has this size now. */
  resized(width: number, height: number): void;
  /** The stream has ended. */
  closed(code: number, reason: string): void;
  bell(): void;
  /** A program has copied something, which the server of the page has. */
  copied(): void;
}

export interface ClientOptions {
  /** Look only: nothing is sent that changes the display. */
  readonly viewOnly: boolean;
  /** This viewer decides the display's size. */
  readonly resizes: boolean;
  /** The size that the screen should have, in the screen's own pixels. */
  readonly width: number;
  readonly height: number;
}

export interface DisplayClient {
  /** Talk through a channel that may still be opening. */
  connect(channel: Channel): void;
  /** Stop, quietly. */
  disconnect(): void;
  /** The place on the page has changed its size. */
  resize(): void;
  key(stroke: KeyStroke): void;
  /** Everything sent so far has reached the display's windows. */
  flush(): Promise<void>;
  /** What the display's windows get when they paste. */
  offer(clip: ClipboardContent): void;
}

export type ClientFactory = (
  screen: HTMLElement,
  events: ClientEvents,
  options: ClientOptions
) => DisplayClient;
