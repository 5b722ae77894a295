/**
 * The project's own translations. JupyterLab's language packs, where one has these sentences, go first.
 */

import messages from './messages.json';

/** Of JupyterLab's TranslationBundle what is used here: %1, %2 … in a sentence stand for the values. */
export interface Translations {
  __(sentence: string, ...values: (string | number)[]): string;
}

export function fill(sentence: string, values: (string | number)[]): string {
  return sentence.replace(/%(\d)/g, (_, number: string) => String(values[Number(number) - 1] ?? ''));
}

/** For a language tag as browsers and JupyterLab have it, en-GB; a language that is not there is English. */
export function ownTranslations(tag: string): Translations {
  const [language] = tag.toLowerCase().split('-');
  const translated = new Map(
    Object.entries((messages as Record<string, Record<string, string>>)[language] ?? {})
  );
  return { __: (sentence, ...values) => fill(translated.get(sentence) ?? sentence, values) };
}
