import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ownTranslations } from '../translation';

void test('sentences are in the language of a tag, with its values', () => {
  assert.equal(ownTranslations('ru-RU').__('Viewers: %1', 'Анна'), 'Смотрят: Анна');
  assert.equal(ownTranslations('RU').__('Cancel'), 'Отмена');
});

void test('what is not translated is English', () => {
  for (const tag of ['en-GB', 'run', 'constructor', '']) {
    assert.equal(ownTranslations(tag).__('Viewers: %1', 'Ann'), 'Viewers: Ann');
  }
  assert.equal(ownTranslations('ru').__('toString'), 'toString');
});
