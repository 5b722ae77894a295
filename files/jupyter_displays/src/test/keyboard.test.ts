import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { KeyStroke } from '../client/types';
import { Keyboard, type Keymap, keysymOf } from '../keyboard';

const KEYMAP: Keymap = {
  a: [38, 0],
  A: [38, 1],
  c: [54, 0],
  w: [25, 0],
  q: [24, 0],
  v: [55, 0],
  '1': [10, 0],
  '/': [61, 0],
  '+': [21, 1],
  ы: [90, 0],
  с: [91, 0],
  '@': [11, 1],
  '€': [93, 2]
};

interface Press {
  key: string;
  code?: string;
  shift?: boolean;
  control?: boolean;
  alt?: boolean;
  meta?: boolean;
  graph?: boolean;
  repeat?: boolean;
}

function event(press: Press): KeyboardEvent {
  return {
    key: press.key,
    code: press.code ?? '',
    shiftKey: Boolean(press.shift),
    ctrlKey: Boolean(press.control),
    altKey: Boolean(press.alt),
    metaKey: Boolean(press.meta),
    repeat: Boolean(press.repeat),
    getModifierState: (name: string) => name === 'AltGraph' && Boolean(press.graph),
    preventDefault: () => undefined,
    stopPropagation: () => undefined
  } as unknown as KeyboardEvent;
}

/** What arrives, as "+38 shift" for a key that goes down with Shift held, "-38" for one that goes up, and texts. */
function arriving(mac = false, keymap: Keymap | null = KEYMAP): { got: string[]; keyboard: Keyboard } {
  const got: string[] = [];
  const keyboard = new Keyboard(
    {
      key: (stroke: KeyStroke) =>
        got.push(
          [
            (stroke.repeat ? '*' : stroke.pressed ? '+' : '-') + stroke.keycode,
            ...(stroke.pressed ? stroke.modifiers : [])
          ].join(' ')
        ),
      flush: () => Promise.resolve(),
      type: text => {
        got.push(text);
        return Promise.resolve();
      },
      paste: () => undefined
    },
    mac
  );
  if (keymap) {
    keyboard.setKeymap(keymap);
  }
  return { got, keyboard };
}

function tap(keyboard: Keyboard, press: Press): void {
  keyboard.keydown(event(press));
  keyboard.keyup(event(press));
}

const later = (): Promise<void> => new Promise(resolve => setTimeout(resolve, 5));

void test('a character goes by what it is, whatever key it is on', () => {
  const { got, keyboard } = arriving();
  tap(keyboard, { key: 'a', code: 'KeyQ' });
  tap(keyboard, { key: 'ы', code: 'KeyS' });
  tap(keyboard, { key: '€', code: 'KeyE', graph: true, control: true, alt: true });
  assert.deepEqual(got, ['+38', '-38', '+90', '-90', '+93 altgr', '-93']);
});

void test('Shift is held for the characters that need it, and only for those', () => {
  const { got, keyboard } = arriving();
  keyboard.keydown(event({ key: 'Shift', code: 'ShiftLeft', shift: true }));
  tap(keyboard, { key: 'A', code: 'KeyA', shift: true });
  tap(keyboard, { key: '/', code: 'Digit7', shift: true });
  keyboard.keyup(event({ key: 'Shift', code: 'ShiftLeft' }));
  assert.deepEqual(got, ['+50', '+38 shift', '-38', '+61', '-61', '-50']);
});

void test('Caps Lock makes capitals and is not sent itself', () => {
  const { got, keyboard } = arriving();
  tap(keyboard, { key: 'CapsLock', code: 'CapsLock' });
  tap(keyboard, { key: 'A', code: 'KeyA' });
  assert.deepEqual(got, ['+38 shift', '-38']);
});

void test('shortcuts: the letter, or the place of a key without a Latin letter', () => {
  const { got, keyboard } = arriving();
  tap(keyboard, { key: 'c', code: 'KeyC', control: true });
  tap(keyboard, { key: 'с', code: 'KeyC', control: true });
  // AZERTY: the letter counts, not the place.
  tap(keyboard, { key: 'a', code: 'KeyQ', control: true });
  tap(keyboard, { key: 'С', code: 'KeyC', control: true, shift: true });
  // German: + is a key of its own there.
  tap(keyboard, { key: '+', code: 'BracketRight', control: true });
  assert.deepEqual(
    got.filter(item => item.startsWith('+')),
    ['+54 control', '+54 control', '+38 control', '+54 shift control', '+21 control shift']
  );
});

void test('AltGr of Windows, which says Control first, holds neither', () => {
  const { got, keyboard } = arriving();
  keyboard.keydown(event({ key: 'Control', code: 'ControlLeft', control: true }));
  keyboard.keydown(event({ key: 'AltGraph', code: 'AltRight', control: true, alt: true, graph: true }));
  tap(keyboard, { key: '@', code: 'KeyQ', control: true, alt: true, graph: true });
  assert.deepEqual(got, ['+37', '-37', '+11 shift', '-11']);
});

void test('Option of macOS makes characters, and Command lets no key stay down', () => {
  const { got, keyboard } = arriving(true);
  tap(keyboard, { key: '@', code: 'KeyL', alt: true });
  keyboard.keydown(event({ key: 'c', code: 'KeyC', meta: true }));
  assert.deepEqual(got, ['+11 shift', '-11', '+54 meta', '-54']);
});

void test('keys with names, the keypad and modifiers', () => {
  const { got, keyboard } = arriving();
  tap(keyboard, { key: 'Enter', code: 'NumpadEnter' });
  tap(keyboard, { key: '1', code: 'Numpad1' });
  tap(keyboard, { key: 'End', code: 'Numpad1' });
  tap(keyboard, { key: 'Tab', code: 'Tab', alt: true, shift: true });
  tap(keyboard, { key: 'F5', code: 'F5' });
  assert.deepEqual(
    got.filter(item => item.startsWith('+')),
    ['+104', '+10', '+115', '+23 shift alt', '+71']
  );
});

void test('a key that is held repeats as often as the browser says', () => {
  const { got, keyboard } = arriving();
  keyboard.keydown(event({ key: 'a', code: 'KeyA' }));
  keyboard.keydown(event({ key: 'a', code: 'KeyA', repeat: true }));
  keyboard.keyup(event({ key: 'a', code: 'KeyA' }));
  assert.deepEqual(got, ['+38', '*38', '-38']);
});

void test('the key that went down goes up, though its meaning has changed', () => {
  const { got, keyboard } = arriving();
  keyboard.keydown(event({ key: 'c', code: 'KeyC' }));
  keyboard.keyup(event({ key: 'с', code: 'KeyC' }));
  assert.deepEqual(got, ['+54', '-54']);
});

void test('everything goes up when the focus is lost', () => {
  const { got, keyboard } = arriving();
  keyboard.keydown(event({ key: 'Control', code: 'ControlLeft', control: true }));
  keyboard.keydown(event({ key: 'a', code: 'KeyA', control: true }));
  keyboard.release();
  keyboard.keyup(event({ key: 'a', code: 'KeyA' }));
  assert.deepEqual(got, ['+37', '+38 control', '-37', '-38']);
});

void test('what composes is left to the browser', () => {
  const { got, keyboard } = arriving();
  for (const key of ['Dead', 'Process', 'Compose', 'Unidentified']) {
    tap(keyboard, { key, code: 'Quote' });
  }
  assert.deepEqual(got, []);
});

void test('text without keys keeps its place among them', async () => {
  const { got, keyboard } = arriving();
  tap(keyboard, { key: 'a', code: 'KeyA' });
  keyboard.text('日本');
  tap(keyboard, { key: 'q', code: 'KeyQ' });
  keyboard.text('😀');
  keyboard.text('ac');
  await later();
  assert.deepEqual(got, ['+38', '-38', '日本', '+24', '-24', '😀', '+38', '-38', '+54', '-54']);
});

void test('keys wait for the keymap', async () => {
  const { got, keyboard } = arriving(false, null);
  tap(keyboard, { key: 'a', code: 'KeyA' });
  tap(keyboard, { key: 'Enter', code: 'Enter' });
  await later();
  assert.deepEqual(got, []);
  keyboard.setKeymap(KEYMAP);
  await later();
  assert.deepEqual(got, ['+38', '-38', '+36', '-36']);
});

void test('characters have the numbers that X gives them', () => {
  assert.deepEqual(
    ['a', 'é', 'я', '€', '😀'].map(keysymOf),
    [0x61, 0xe9, 0x0100044f, 0x010020ac, 0x0101f600]
  );
});

void test('keys that browsers take are pressed together, and nothing stays down', () => {
  const { got, keyboard } = arriving();
  keyboard.chord('Control+Alt+Delete');
  assert.deepEqual(got.splice(0), ['+37', '+64 control', '+119 control alt', '-119', '-64', '-37']);
  keyboard.chord('Control+w');
  assert.deepEqual(got.splice(0), ['+37', '+25 control', '-25', '-37']);
  keyboard.chord('Meta');
  assert.deepEqual(got, ['+133', '-133']);
});
