/**
 * The words of the page of its own. JupyterLab brings a translator, which these sentences go through first.
 */

/** Translates a sentence; %1, %2 … stand for the values. */
export type Translate = (sentence: string, ...values: (string | number)[]) => string;

const RUSSIAN: Record<string, string> = {
  'Allow the browser to read the clipboard, or paste text here:':
    'Разрешите браузеру читать буфер обмена или вставьте текст сюда:',
  Cancel: 'Отмена',
  Close: 'Закрыть',
  Clipboard: 'Буфер обмена',
  'Clipboard of the display:': 'Буфер обмена рабочего стола:',
  'Connecting…': 'Подключение…',
  'Connection lost. Reconnecting…': 'Соединение потеряно. Подключаюсь снова…',
  'Copy link': 'Скопировать ссылку',
  Display: 'Рабочий стол',
  'Display: %1': 'Рабочий стол: %1',
  Displays: 'Рабочие столы',
  'Drop files here to upload them': 'Отпустите файлы, чтобы загрузить их',
  Files: 'Файлы',
  'Full screen': 'Во весь экран',
  'Keyboard input of the display': 'Ввод с клавиатуры для рабочего стола',
  'Make a link': 'Создать ссылку',
  'New display: %1': 'Новый рабочий стол: %1',
  'No files to download.': 'Нет файлов для скачивания.',
  'Open display': 'Открыть рабочий стол',
  'Open display in a browser tab': 'Открыть рабочий стол в отдельной вкладке браузера',
  'Only looking': 'Только просмотр',
  'Put on the clipboard of the display': 'Поместить в буфер обмена рабочего стола',
  'Rename display': 'Переименовать рабочий стол',
  'Rename display…': 'Переименовать рабочий стол…',
  Restart: 'Запустить снова',
  'Screen of the display': 'Экран рабочего стола',
  Share: 'Поделиться',
  'Shut down': 'Завершить',
  'Shut down this display and the programs in it?': 'Завершить этот рабочий стол и программы в нём?',
  'Shut down %1?': 'Завершить %1?',
  'Shut down all': 'Завершить все',
  'Shut down all displays': 'Завершить все рабочие столы',
  'Shut down all displays and the programs in them?': 'Завершить все рабочие столы и программы в них?',
  'Shut down all displays?': 'Завершить все рабочие столы?',
  'Shut down display': 'Завершить рабочий стол',
  Sound: 'Звук',
  'Sound is off': 'Звук выключен',
  'Sound is on': 'Звук включён',
  'Start a display': 'Запустить рабочий стол',
  'Starting…': 'Запуск…',
  'Take back': 'Отозвать',
  'The display has ended.': 'Рабочий стол завершён.',
  'The link no longer works.': 'Ссылка больше не действует.',
  'The sound has ended.': 'Звук прервался.',
  'There is no such display.': 'Такого рабочего стола нет.',
  'Try again': 'Попробовать ещё раз',
  Upload: 'Загрузить файлы',
  'Uploaded: %1': 'Загружено: %1',
  'Uploading %1…': 'Загружается %1…',
  'Viewers: %1': 'Смотрят: %1',
  'View and control': 'Просмотр и управление',
  'View only': 'Только просмотр'
};

export function fill(sentence: string, values: (string | number)[]): string {
  return sentence.replace(/%(\d)/g, (_, number: string) => String(values[Number(number) - 1] ?? ''));
}

/** A translator for a language of the browser. */
export function translator(language: string): Translate {
  const words = language.toLowerCase().startsWith('ru') ? RUSSIAN : {};
  return (sentence, ...values) => fill(words[sentence] ?? sentence, values);
}
