/**
 * From the browser's keyboard to the display's: what the user sees on the key is what arrives.
 *
 * The display's keymap has every character of the site's layouts on a key and level of its own, so nothing is switched
 * while typing. A character goes by what it is (`event.key`), a shortcut by the physical key, and what the keymap does
 * not have (input methods, emoji) as text, in its place among the keys.
 */

import type { KeyStroke, Modifier } from './client/types';

/** A character's key and level: bit 0 of the level is Shift, bit 1 is AltGr. */
export type Keymap = Readonly<Record<string, readonly [keycode: number, level: number]>>;

export interface KeyboardTarget {
  key(stroke: KeyStroke): void;
  /** All keys sent so far have arrived. */
  flush(): Promise<void>;
  /** Type text that has no key. */
  type(text: string): Promise<void>;
  /** The user pastes this; the key that does it follows. */
  paste(data: DataTransfer): void;
}

/** X keycodes of the physical keys (`event.code`) on a PC keyboard. */
const CODES: Record<string, number> = {
  Minus: 20,
  Equal: 21,
  BracketLeft: 34,
  BracketRight: 35,
  Semicolon: 47,
  Quote: 48,
  Backquote: 49,
  Backslash: 51,
  IntlHash: 51,
  Comma: 59,
  Period: 60,
  Slash: 61,
  Space: 65,
  IntlBackslash: 94
};
[...'1234567890'].forEach((digit, index) => (CODES[`Digit${digit}`] = 10 + index));
[...'QWERTYUIOP'].forEach((letter, index) => (CODES[`Key${letter}`] = 24 + index));
[...'ASDFGHJKL'].forEach((letter, index) => (CODES[`Key${letter}`] = 38 + index));
[...'ZXCVBNM'].forEach((letter, index) => (CODES[`Key${letter}`] = 52 + index));

/** What the physical keys mean to a shortcut, in the order of their keycodes. */
const US: Record<number, string> = {
  20: '-',
  21: '=',
  47: ';',
  48: "'",
  49: '`',
  51: '\\',
  59: ',',
  60: '.',
  61: '/'
};
[...'1234567890'].forEach((digit, index) => (US[10 + index] = digit));
[...'qwertyuiop[]'].forEach((letter, index) => (US[24 + index] = letter));
[...'asdfghjkl'].forEach((letter, index) => (US[38 + index] = letter));
[...'zxcvbnm'].forEach((letter, index) => (US[52 + index] = letter));
US[65] = ' ';
US[94] = '<';

/** Keys that make no character: X keycode, X keysym and X name. */
const NAMED: Record<string, readonly [number, number, string]> = {
  Escape: [9, 0xff1b, 'Escape'],
  Backspace: [22, 0xff08, 'BackSpace'],
  Tab: [23, 0xff09, 'Tab'],
  Enter: [36, 0xff0d, 'Return'],
  NumpadEnter: [104, 0xff8d, 'KP_Enter'],
  ScrollLock: [78, 0xff14, 'Scroll_Lock'],
  PrintScreen: [107, 0xff61, 'Print'],
  Home: [110, 0xff50, 'Home'],
  ArrowUp: [111, 0xff52, 'Up'],
  PageUp: [112, 0xff55, 'Prior'],
  ArrowLeft: [113, 0xff51, 'Left'],
  ArrowRight: [114, 0xff53, 'Right'],
  End: [115, 0xff57, 'End'],
  ArrowDown: [116, 0xff54, 'Down'],
  PageDown: [117, 0xff56, 'Next'],
  Insert: [118, 0xff63, 'Insert'],
  Delete: [119, 0xffff, 'Delete'],
  Pause: [127, 0xff13, 'Pause'],
  ContextMenu: [135, 0xff67, 'Menu'],
  F11: [95, 0xffc8, 'F11'],
  F12: [96, 0xffc9, 'F12']
};
for (let n = 1; n <= 10; n++) {
  NAMED[`F${n}`] = [66 + n, 0xffbd + n, `F${n}`];
}

const MODIFIER_KEYS: Record<string, readonly [number, number, string, Modifier]> = {
  ShiftLeft: [50, 0xffe1, 'Shift_L', 'shift'],
  ShiftRight: [62, 0xffe2, 'Shift_R', 'shift'],
  ControlLeft: [37, 0xffe3, 'Control_L', 'control'],
  ControlRight: [105, 0xffe4, 'Control_R', 'control'],
  AltLeft: [64, 0xffe9, 'Alt_L', 'alt'],
  AltRight: [64, 0xffe9, 'Alt_L', 'alt'],
  MetaLeft: [133, 0xffeb, 'Super_L', 'meta'],
  MetaRight: [134, 0xffec, 'Super_R', 'meta']
};
const MODIFIER_OF = new Map(Object.values(MODIFIER_KEYS).map(([, , name, modifier]) => [name, modifier]));
const MODIFIER_NAMES: Record<string, string> = {
  Shift: 'Shift',
  Control: 'Control',
  Alt: 'Alt',
  Meta: 'Meta',
  OS: 'Meta'
};
/** Keys that the browser or an input method turns into text by itself. */
const COMPOSING = new Set([
  'Dead',
  'Process',
  'Unidentified',
  'Compose',
  'Accept',
  'Convert',
  'NonConvert',
  'ModeChange'
]);

/** How X numbers a character. */
export function keysymOf(character: string): number {
  const point = character.codePointAt(0) ?? 0;
  return (point >= 0x20 && point < 0x7f) || (point >= 0xa0 && point < 0x100) ? point : 0x01000000 + point;
}

export class Keyboard {
  private keymap: Keymap | null = null;
  private readonly down = new Map<string, KeyStroke>();
  private queue: (KeyStroke | string)[] = [];
  private busy = false;
  private composing = false;
  /** A key that pastes, while the browser says what. */
  private pasting: KeyStroke | null = null;

  /**
   * @param mac Option makes characters there, and Command is no key of the display's.
   */
  constructor(
    private target: KeyboardTarget,
    private mac = /Mac|iP(hone|ad)/.test(navigator.platform)
  ) {}

  /** Until the keymap is here, keys wait. */
  setKeymap(keymap: Keymap): void {
    this.keymap = keymap;
    void this.flush();
  }

  /** Listen to a text area, which gets what input methods and dead keys compose. */
  attach(area: HTMLTextAreaElement, signal: AbortSignal): void {
    const take = (): void => {
      const text = area.value;
      area.value = '';
      this.text(text);
    };
    area.addEventListener('keydown', event => this.keydown(event), { signal });
    area.addEventListener('keyup', event => this.keyup(event), { signal });
    area.addEventListener('blur', () => this.release(), { signal });
    area.addEventListener('compositionstart', () => (this.composing = true), { signal });
    area.addEventListener(
      'compositionend',
      () => {
        this.composing = false;
        take();
      },
      { signal }
    );
    area.addEventListener(
      'beforeinput',
      event => {
        // Keyboards on glass have no keys, only what they do.
        const key = { deleteContentBackward: 'Backspace', insertLineBreak: 'Enter' }[event.inputType];
        if (key && !this.composing) {
          event.preventDefault();
          this.tap(key);
        }
      },
      { signal }
    );
    area.addEventListener(
      'paste',
      event => {
        event.preventDefault();
        if (event.clipboardData) {
          this.target.paste(event.clipboardData);
        }
        this.endPaste();
      },
      { signal }
    );
    area.addEventListener('input', () => this.composing || take(), { signal });
  }

  keydown(event: KeyboardEvent): void {
    if (event.isComposing || event.keyCode === 229 || COMPOSING.has(event.key)) {
      return;
    }
    event.stopPropagation();
    if (event.key === 'AltGraph') {
      event.preventDefault();
      // Windows says Control before AltGr.
      this.up('ControlLeft');
      this.up('AltRight');
      return;
    }
    const known = this.down.get(event.code);
    if (known && event.repeat) {
      event.preventDefault();
      if (!known.isModifier) {
        this.put({ ...known, repeat: true });
      }
      return;
    }
    const stroke = this.stroke(event);
    if (stroke === null) {
      return;
    }
    if (typeof stroke === 'string') {
      event.preventDefault();
      this.text(stroke);
      return;
    }
    if (this.pastes(event)) {
      // The browser's own paste comes next and has the content, without asking for permission.
      this.endPaste();
      this.down.set(event.code, stroke);
      this.pasting = stroke;
      setTimeout(() => this.endPaste());
      return;
    }
    event.preventDefault();
    // macOS tells of no key that goes up while Command is held.
    if (this.mac && event.metaKey && !stroke.isModifier) {
      this.put(stroke);
      this.put({ ...stroke, pressed: false });
      return;
    }
    this.up(event.code);
    this.down.set(event.code, stroke);
    this.put(stroke);
  }

  keyup(event: KeyboardEvent): void {
    event.stopPropagation();
    this.up(event.code);
  }

  /** Let go of everything, as when the window loses the focus. */
  release(): void {
    [...this.down.keys()].forEach(code => this.up(code));
  }

  /** Type a text: with keys where it has them all, else as a whole. */
  text(text: string): void {
    const characters = [...text];
    if (characters.every(character => this.keymap?.[character])) {
      characters.forEach(character => this.tap(character));
    } else if (text) {
      this.put(text);
    }
  }

  /** Press and release a key: a character or the name of a key. */
  tap(key: string): void {
    const stroke = NAMED[key] ? this.named(NAMED[key], []) : this.character(key);
    if (typeof stroke === 'string') {
      this.put(stroke);
    } else {
      this.put(stroke);
      this.put({ ...stroke, pressed: false });
    }
  }

  /** Press keys together and let go of them: 'Control+Alt+Delete'. */
  chord(keys: string): void {
    const pressed: KeyStroke[] = [];
    const held = new Set<Modifier>();
    for (const name of keys.split('+')) {
      const [keycode, keysym, symbol, modifier] = MODIFIER_KEYS[`${name}Left`] ?? [];
      const stroke = modifier
        ? { ...this.plain(keycode, keysym, symbol, new Set(held)), isModifier: true }
        : NAMED[name]
          ? this.named(NAMED[name], [...held])
          : this.character(name);
      if (typeof stroke !== 'string') {
        pressed.push({ ...stroke, modifiers: new Set([...held, ...stroke.modifiers]) });
        this.put(pressed[pressed.length - 1]);
      }
      if (modifier) {
        held.add(modifier);
      }
    }
    for (const stroke of pressed.reverse()) {
      this.put({ ...stroke, pressed: false });
    }
  }

  private up(code: string): void {
    const stroke = this.down.get(code);
    if (stroke) {
      this.down.delete(code);
      this.put({ ...stroke, pressed: false, modifiers: this.held(stroke) });
    }
  }

  /** The modifiers that are down, but for the key itself. */
  private held(but?: KeyStroke): Set<Modifier> {
    const held = new Set<Modifier>();
    for (const stroke of this.down.values()) {
      const modifier = MODIFIER_OF.get(stroke.name);
      if (modifier && stroke !== but) {
        held.add(modifier);
      }
    }
    return held;
  }

  /** What a key is: a stroke, a text that has no key, or nothing to the display. */
  private stroke(event: KeyboardEvent): KeyStroke | string | null {
    const modifierName = MODIFIER_NAMES[event.key];
    if (modifierName) {
      // By its meaning: the user may have moved it to another key.
      const code = event.code.startsWith(modifierName) ? event.code : `${modifierName}Left`;
      const [keycode, keysym, name] = MODIFIER_KEYS[code];
      return {
        pressed: true,
        keycode,
        keysym,
        name,
        modifiers: this.held(),
        isModifier: true,
        repeat: false
      };
    }
    const isCharacter = [...event.key].length === 1;
    const graph = event.getModifierState('AltGraph') || (this.mac && event.altKey && isCharacter);
    const shortcut = !graph && (event.ctrlKey || event.altKey || event.metaKey);
    if (isCharacter && !shortcut) {
      return this.character(event.key);
    }
    const modifiers: Modifier[] = [];
    if (event.shiftKey) {
      modifiers.push('shift');
    }
    if (event.ctrlKey && !graph) {
      modifiers.push('control');
    }
    if (event.altKey && !graph) {
      modifiers.push('alt');
    }
    if (event.metaKey) {
      modifiers.push('meta');
    }
    if (isCharacter) {
      return this.shortcut(event, modifiers);
    }
    const named = NAMED[event.code === 'NumpadEnter' ? event.code : event.key];
    return named ? this.named(named, modifiers) : null;
  }

  /** A key with Control, Alt or Super: a Latin letter is that letter, anything else is the key where it lies. */
  private shortcut(event: KeyboardEvent, modifiers: Modifier[]): KeyStroke | null {
    const held = new Set(modifiers);
    const letter = event.key.toLowerCase();
    const entry = this.keymap?.[letter];
    if (/^[\x21-\x7e]$/.test(event.key) && entry) {
      if (!/[a-z]/.test(letter)) {
        // What makes this sign on the user's keyboard is not what makes it on the display's.
        held.delete('shift');
        if (entry[1] & 1) {
          held.add('shift');
        }
      }
      return this.plain(entry[0], keysymOf(held.has('shift') ? event.key : letter), '', held);
    }
    const keycode = CODES[event.code];
    return keycode ? this.plain(keycode, keysymOf(US[keycode]), '', held) : null;
  }

  private character(character: string): KeyStroke | string {
    const entry = this.keymap?.[character];
    if (!entry) {
      return character;
    }
    const modifiers = new Set<Modifier>();
    if (entry[1] & 1) {
      modifiers.add('shift');
    }
    if (entry[1] & 2) {
      modifiers.add('altgr');
    }
    return this.plain(entry[0], keysymOf(character), '', modifiers);
  }

  private named(
    [keycode, keysym, name]: readonly [number, number, string],
    modifiers: Modifier[]
  ): KeyStroke {
    return this.plain(keycode, keysym, name, new Set(modifiers));
  }

  private plain(keycode: number, keysym: number, name: string, modifiers: Set<Modifier>): KeyStroke {
    return { pressed: true, keycode, keysym, name, modifiers, isModifier: false, repeat: false };
  }

  private pastes(event: KeyboardEvent): boolean {
    const command = this.mac ? event.metaKey || event.ctrlKey : event.ctrlKey;
    return (command && !event.altKey && event.code === 'KeyV') || (event.shiftKey && event.key === 'Insert');
  }

  private endPaste(): void {
    const stroke = this.pasting;
    this.pasting = null;
    if (stroke) {
      this.put(stroke);
    }
  }

  /** Send at once, or in its turn when a text is still on its way. */
  private put(item: KeyStroke | string): void {
    this.endPaste();
    if (typeof item === 'string' || this.busy || this.queue.length || !this.keymap) {
      this.queue.push(item);
      void this.flush();
    } else {
      this.target.key(item);
    }
  }

  private async flush(): Promise<void> {
    if (this.busy || !this.keymap) {
      return;
    }
    this.busy = true;
    try {
      while (this.queue.length) {
        let item = this.queue.shift()!;
        if (typeof item === 'string') {
          while (typeof this.queue[0] === 'string') {
            item += this.queue.shift() as string;
          }
          const strokes = [...item].map(character => this.character(character));
          if (strokes.every(stroke => typeof stroke !== 'string')) {
            // Typed before the keymap was here.
            for (const stroke of strokes) {
              this.target.key(stroke);
              this.target.key({ ...stroke, pressed: false });
            }
            continue;
          }
          await this.target.flush();
          await this.target.type(item).catch(() => undefined);
        } else {
          this.target.key(item);
        }
      }
    } finally {
      this.busy = false;
    }
  }
}
